\set SHOW_CONTEXT never
-- All rows as of an offset, in the form of events, and then exactly the later changes.
create table shelf (id int primary key, title text, price numeric, hidden text);
select realtime.enable_realtime('public', 'shelf');
insert into shelf select i, 'book ' || i, i + 0.10, 'x' from generate_series(1, 3) i;
grant select (id, title, price) on shelf to anon;
begin;
select "offset" - s.oldest > 0 as has_offset, snapshot_id is not null as exported from realtime.status() s, realtime.begin_snapshot();
rollback;
-- What a second session does with it (that the two fit is tested from outside).
begin isolation level repeatable read, read only;
select * from realtime.snapshot('anon', '{}', 'shelf'::regclass);
commit;
insert into shelf values (4, null, 4, 'x');
delete from shelf where id = 1;
select realtime.tick() is not null as ticked;
-- A table without a key cannot be folded.
create table heap (x int);
select realtime.enable_realtime('public', 'heap');
grant select on heap to anon;
select realtime.snapshot('anon', '{}', 'heap'::regclass);
select realtime.snapshot('anon', '{}', 'orders'::regclass);
-- History, with the rights of the caller.
select realtime._table_of('table:Orders'), realtime._table_of('table:"a.b"."c""d"'), realtime._table_of('table:s.t'), realtime._table_of('room:1');
set role anon;
select "offset" is not null as has_offset, event, payload from realtime.history('table:shelf');
select event from realtime.history('table:shelf', null, 2);
select "offset" is not null as has_offset, event, payload ->> 'reason' as reason from realtime.history('table:shelf', 5) limit 1;
select event from realtime.history('table:public.secret');
select event from realtime.history('room:1');
select event from realtime.history('table:orders');
reset role;
-- The caller is whoever the code runs as, not the session's user.
create role mallory;
create schema mal authorization mallory;
set role mallory;
create table mal.m (a int);
insert into mal.m values (1);
create table mal.loot (what text);
create function mal.g(a int) returns int language plpgsql as $$
begin
  insert into mal.loot select payload::text from realtime.history('table:shelf');
  return a;
exception when others then
  raise notice 'history: %', sqlerrm;
  return a;
end $$;
create function mal.f(a int) returns int language sql immutable as $$ select mal.g(a) $$;
reset role;
select mal.f(1) is not null as as_superuser;
select count(*) > 0 as superuser_reads from mal.loot;
delete from mal.loot;
set role mallory;
create index on mal.m (mal.f(a));
reset role;
analyze mal.m;
select count(*) from mal.loot;
drop schema mal cascade;
drop role mallory;
