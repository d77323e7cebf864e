\set SHOW_CONTEXT never
-- A server may have prepared transactions switched off, as most have: the other expected file is what it says then.
create table prepared_load (id int primary key);
select * from realtime.enable_realtime('public', 'prepared_load');
create table prepared_start as select head from realtime.status();
begin; insert into prepared_load values (1); prepare transaction 'kept'; commit prepared 'kept';
begin; insert into prepared_load values (2); prepare transaction 'given up'; rollback prepared 'given up';
select realtime.tick() is not null as ticked;
select op, reason, tables, record from prepared_start, realtime.read(head, 1000, 1000000, null, null) where kind = 'e';
-- At the cap a small one is written all the same: when it commits, nobody is there who could say that it was not.
update realtime.settings set value = '16 MB' where name = 'log_max_size';
update realtime.state set is_full = true;
update prepared_start set head = (select s.head from realtime.status() s);
\c -
begin; insert into prepared_load values (3); prepare transaction 'at the cap'; commit prepared 'at the cap';
select realtime.tick() is not null as ticked;
select op, reason, tables, record from prepared_start, realtime.read(head, 1000, 1000000, null, null) where kind = 'e';
-- A large one is not, and leaves its mark in itself.
set realtime.spill_bytes = '64kB';
update prepared_start set head = (select s.head from realtime.status() s);
begin; insert into prepared_load select generate_series(300000, 370000); prepare transaction 'large at the cap';
select op, reason, count(*) from prepared_start, realtime.read(head, 100000, 1000000, null, null) where kind = 'e' group by op, reason;
commit prepared 'large at the cap';
select realtime.tick() is not null as ticked;
select op, reason, count(*) from prepared_start, realtime.read(head, 100000, 1000000, null, null) where kind = 'e' group by op, reason;
update realtime.state set is_full = false;
update realtime.settings set value = '4 GB' where name = 'log_max_size';
drop table prepared_load, prepared_start;
