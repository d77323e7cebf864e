\set SHOW_CONTEXT never
-- A transaction larger than realtime.spill_bytes writes early; its order, its savepoints and its place stay right.
create table big (id int primary key, body text);
select realtime.enable_realtime('public', 'big');
set realtime.spill_bytes = '64kB';
begin;
insert into big select i, repeat('a', 100) from generate_series(1, 300) i;
savepoint s;
insert into big select i, repeat('b', 100) from generate_series(301, 2000) i;
rollback to s;
insert into big select i, repeat('c', 100) from generate_series(301, 1500) i;
savepoint t;
insert into big select i, repeat('d', 100) from generate_series(1501, 3000) i;
release t;
insert into big values (3001, 'last');
commit;
select events from realtime.tick();
-- Each row once, in the order it was written, in one transaction, which ends with a mark at its own offset.
with r as (select r.*, row_number() over (order by "offset") as n from realtime.status() s, realtime.read(s.oldest, 100000, 100000000, null, null) r
            where kind = 'e' and 'big' = any (tables))
select count(*) as rows, count(*) filter (where (record::json ->> 'id')::int <> n) as misplaced,
       count(distinct until) as transactions, max("offset") - min("offset") + 1 as offsets, max(until) - max("offset") as mark from r;
-- A page at a time gives the same.
create function paged(page int) returns table (events bigint, in_order bool) language plpgsql as $$
declare after bigint := (realtime.status()).oldest; r record; last bigint := 0;
begin
  events := 0; in_order := true;
  loop
    for r in select * from realtime.read(after, page, 1000000000, 'big'::regclass, null) loop
      if r.kind = 'e' then
        events := events + 1; in_order := in_order and r."offset" > last; last := r."offset";
      else
        after := r."offset";
        if after >= r.until then return next; return; end if;
      end if;
    end loop;
  end loop;
end $$;
select * from paged(7);
select * from paged(1000);
-- A parent that spills inside a child that rolls back.
begin;
insert into big values (4000, 'parent');
savepoint s;
insert into big select i, repeat('e', 200) from generate_series(4001, 5000) i;
rollback to s;
insert into big values (4001, 'parent again');
commit;
select events from realtime.tick();
select op, record from realtime.status() s, realtime.read(s.oldest, 100000, 100000000, null, null)
 where kind = 'e' and (record::json ->> 'id')::int between 4000 and 5999;
-- A parent that spills after its child has: what it did first had its places then, and keeps them.
begin;
insert into big values (6000, 'parent');
savepoint s;
insert into big select i, repeat('f', 200) from generate_series(6001, 7000) i;
release s;
insert into big select i, repeat('g', 200) from generate_series(7001, 8000) i;
commit;
do 'begin perform realtime.tick(); end';
with r as (select (record::json ->> 'id')::int as id, row_number() over (order by "offset") as n
             from realtime.status() s, realtime.read(s.oldest, 100000, 100000000, 'big'::regclass, null)
            where kind = 'e' and (record::json ->> 'id')::int >= 6000)
select count(*) as rows, count(*) filter (where id <> n + 5999) as misplaced from r;
reset realtime.spill_bytes;
-- Many small subtransactions after a parent that has filled the buffer: no write per row, and the order stays.
set realtime.spill_bytes = '64kB';
create table many (id int primary key);
select realtime.enable_realtime('public', 'many');
do $$ begin
  insert into many select generate_series(1, 65535);
  for i in 65536..66500 loop
    begin
      insert into many values (i);
      if i % 5 = 0 then raise exception 'taken back'; end if;
    exception when raise_exception then null;
    end;
  end loop;
end $$;
select events from realtime.tick();
with r as (select (record::json ->> 'id')::int as id, lag((record::json ->> 'id')::int) over (order by "offset") as previous
             from realtime.status() s, realtime.read(s.oldest, 100000, 100000000, 'many'::regclass, null) where kind = 'e')
select count(*) <= 20000 as page, count(*) filter (where id <= previous) as misplaced from r;
select count(*) from many;
reset realtime.spill_bytes;
