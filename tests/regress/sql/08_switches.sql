\set SHOW_CONTEXT never
-- Bulk loads: with capture off a transaction leaves one gap mark per table, and its rows cost nothing.
create table load_a (id int primary key);
create table load_b (id int primary key);
select * from realtime.enable_realtime_all('public', '{"old": "key"}') r where r::text like 'load%';
create table at_start as select head from realtime.status();
set realtime.capture = off;
begin;
insert into load_a select generate_series(1, 1000);
insert into load_b values (1);
update load_a set id = id + 1000;
savepoint s;
truncate load_b;
rollback to s;
delete from load_a where id = 1001;
commit;
begin; insert into load_b values (2); rollback;
reset realtime.capture;
insert into load_a values (1);
select realtime.tick() is not null as ticked;
select op, reason, tables, record from at_start, realtime.read(head, 1000, 1000000, null, null) where kind = 'e';
-- Only who may, may hide changes from subscribers.
set role stranger;
set realtime.capture = off;
reset role;
-- At the cap capture writes nothing, no write fails, and one mark stands for all that was lost.
update realtime.settings set value = '16 MB' where name = 'log_max_size';
select size_max from realtime.state;
update realtime.state set is_full = true;
update at_start set head = (select s.head from realtime.status() s);
\c -
insert into load_a values (2);
insert into load_a values (3);
begin; insert into load_a values (4); rollback;
select realtime.tick() is not null as ticked;
select realtime.mark_lost();
select realtime.mark_lost();
select realtime.tick() is not null as ticked;
select op, reason, tables, record from at_start, realtime.read(head, 1000, 1000000, null, null) where kind = 'e';
select op, reason from at_start, realtime.read(head, 1000, 1000000, null, 'room:1') where kind = 'e';
select realtime.rotate();
select is_full from realtime.state;
\c -
insert into load_a values (6);
select realtime.mark_lost();
select realtime.tick() is not null as ticked;
select op, reason, tables, record from at_start, realtime.read(head, 1000, 1000000, null, null) where kind = 'e' offset 1;
-- Large transactions too are written whole or not at all. One that goes on while others lose brings a mark along.
update realtime.state set is_full = true;
update at_start set head = (select s.head from realtime.status() s);
\c -
set realtime.spill_bytes = '64kB';
begin;
insert into load_a select generate_series(10000, 90000);
savepoint s;
insert into load_b values (77);
rollback to s;
commit;
select realtime.mark_lost();
select realtime.tick() is not null as ticked;
select op, reason, count(*) from at_start, realtime.read(head, 100000, 1000000, null, null) where kind = 'e' group by op, reason;
update realtime.state set is_full = false;
\c -
set realtime.spill_bytes = '64kB';
begin;
insert into load_a select generate_series(100000, 170000);
update realtime.state set is_full = true;
insert into load_a select generate_series(200000, 270000);
commit;
select realtime.tick() is not null as ticked;
select last_offset - first_offset + 1 as written_whole from realtime.ticks order by id desc limit 1;
-- The last mark is owed until the log is no longer full.
\c -
insert into load_a values (7);
select realtime.mark_lost();
update realtime.state set is_full = false;
select realtime.mark_lost();
select realtime.mark_lost();
-- Messages are kept as long as the log.
update realtime.settings set value = '1 hour' where name = 'messages_retention';
update realtime.settings set value = '4 GB' where name = 'log_max_size';
select realtime.stop_worker();
