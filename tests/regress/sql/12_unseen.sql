\set SHOW_CONTEXT never
-- Rows that change without a row event leave a gap mark on the table and its ancestors, once it is looked for.
create table unseen_start (head bigint);
create function unseen_begin() returns bool language plpgsql as $$
begin
  perform realtime._notice_changes(true);
  truncate unseen_start;
  insert into unseen_start select head from realtime.status();
  return true;
end $$;
create function unseen_look() returns bool language sql as 'select realtime._notice_changes(true) >= 0';
create function unseen() returns table (tables text, reason text) language sql as $$
  select distinct array_to_string(r.tables, ' '), r.reason
    from unseen_start, realtime.read(head, 100000, 100000000, null, null) r where kind = 'e' and op = 'G' order by 1;
$$;
\set look 'select unseen_look(); select count(*) >= 0 as ticked from realtime.tick(); select * from unseen(); select unseen_begin();'
\t on
create table alone (id int primary key, v int);
insert into alone values (1, 1);
create table whole (id int primary key, v int) partition by range (id);
create table whole_low partition of whole for values from (0) to (10);
create table whole_deep partition of whole for values from (10) to (20) partition by range (id);
create table whole_deep_low partition of whole_deep for values from (10) to (15);
insert into whole values (1, 1), (11, 1);
select realtime.enable_realtime('alone'::regclass), realtime.enable_realtime('whole'::regclass);
select unseen_begin();
select count(*) >= 0 as ticked from realtime.tick();
select unseen_begin();
-- Rewritten by ALTER TABLE.
alter table alone alter v type int using v + 1;
:look
alter table alone add column w int default 7;
:look
alter table alone add column x text default random()::text;
:look
alter table whole alter v type bigint;
:look
-- The trigger was off for a while.
alter table alone disable trigger alone_notify_change;
update alone set v = 3;
alter table alone enable trigger alone_notify_change;
:look
-- It was not enabled for a while, which was seen; nobody is told until it is enabled again.
select realtime.disable_realtime('alone'::regclass);
:look
update alone set v = 4;
:look
select realtime.enable_realtime('alone'::regclass);
:look
:look
-- Partitions come with their rows and go with them.
create table whole_mid (id int primary key, v bigint);
insert into whole_mid values (21, 1);
alter table whole attach partition whole_mid for values from (20) to (30);
:look
alter table whole detach partition whole_mid;
:look
drop table whole_deep_low;
:look
-- A partition without a trigger for TRUNCATE: it came after its root was enabled.
create table whole_late partition of whole for values from (30) to (40);
:look
insert into whole values (31, 1);
truncate whole_late;
:look
-- With one it tells of itself.
select realtime.enable_realtime('whole'::regclass);
:look
truncate whole_low;
:look
-- What moves no rows leaves no mark.
vacuum full alone;
:look
cluster alone using alone_pkey;
:look
alter table alone rename v to u;
alter table alone add column y int;
alter table alone drop column x;
grant select (u) on alone to public;
create index on alone (u);
analyze alone;
alter table alone rename to lonely;
:look
select realtime.enable_realtime('lonely'::regclass);
:look
truncate lonely;
:look
create table whole_empty partition of whole for values from (40) to (50);
:look
-- Made anew with other options: what its rows look like has changed.
select realtime.enable_realtime('lonely'::regclass, '{"exclude": ["u"]}');
:look
-- Rows that logical replication or a session like it writes are captured where that is wished.
select realtime.enable_realtime('lonely'::regclass, '{"always": true}'), realtime.enable_realtime('whole'::regclass, '{"always": true}');
:look
set session_replication_role = replica;
insert into lonely values (5, 5);
insert into whole values (2, 2);
truncate whole_low;
reset session_replication_role;
select count(*) >= 0 as ticked from realtime.tick();
select op, array_to_string(tables, ' '), record from unseen_start, realtime.read(head, 100, 100000, null, null) where kind = 'e';
select realtime.enable_realtime('lonely'::regclass, '{"always": "yes"}');
-- Changed as soon as it is enabled, before anybody has looked.
create table early (id int primary key);
insert into early values (1);
begin;
select realtime.enable_realtime('early');
select count(*) from realtime._watched where relation = 'early'::regclass;
commit;
alter table early add column w int default 7;
:look
drop table early;
drop table lonely, whole, whole_mid, unseen_start;
drop function unseen, unseen_begin, unseen_look;
