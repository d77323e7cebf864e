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
-- Writing early fails, and the user's own handler goes on: what came before and after is there, what failed is not.
create table caught (id int primary key, filler text not null default repeat('c', 1000));
select realtime.enable_realtime('public', 'caught');
set realtime.spill_bytes = '64kB';
create function break_log() returns void language sql as $$
  update pg_class set relfilenode = 4000000000 where relname in (select format('log_%s_%s', s.segment, i) from realtime.state s, unnest(array['run', 'inner']) i)
$$;
create table caught_start as select head from realtime.status();
create function caught() returns table (events bigint, rows bigint, differences bigint, misplaced bigint) language sql as $$
  with e as (select (record::json ->> 'id')::int as id, lag((record::json ->> 'id')::int) over (order by "offset") as previous
               from caught_start, realtime.read(head, 100000, 100000000, 'caught'::regclass, null) where kind = 'e' and op <> 'G')
  select (select count(*) from e), (select count(*) from caught),
         (select count(*) from e full join caught c using (id) where e.id is null or c.id is null),
         (select count(*) from e where id <= previous)
$$;
do $$ begin
  insert into caught values (1);
  begin
    insert into caught select generate_series(2, 40);
    perform break_log();
    insert into caught select generate_series(41, 1000);
    raise 'not reached';
  exception when undefined_file then raise notice 'caught';
  end;
  insert into caught values (1001);
end $$;
select events from realtime.tick();
select * from caught();
-- The same where a part was written before, by the child that fails and by its parent.
do $$ begin
  insert into caught select generate_series(2001, 2200);
  begin
    insert into caught select generate_series(2201, 2400);
    perform break_log();
    insert into caught select generate_series(2401, 3000);
    raise 'not reached';
  exception when undefined_file then raise notice 'caught';
  end;
  insert into caught select generate_series(3001, 3200);
end $$;
do 'begin perform realtime.tick(); end';
select * from caught();
-- And where small subtransactions have to write when they end.
do $$ declare failed int := 0; begin
  for i in 4001..4600 loop
    begin
      if i % 2 = 0 then perform break_log(); end if;
      begin
        insert into caught values (i);
      exception when division_by_zero then null;
      end;
      if i % 2 = 0 then raise exception 'taken back'; end if;
    exception when undefined_file then failed := failed + 1; when raise_exception then null;
    end;
  end loop;
  if failed = 0 then raise 'nothing failed'; end if;
end $$;
do 'begin perform realtime.tick(); end';
select rows = events as equal, differences, misplaced from caught();
select count(*) as gaps from caught_start, realtime.read(head, 100000, 100000000, 'caught'::regclass, null) where op = 'G';
reset realtime.spill_bytes;
drop table caught, caught_start;
drop function caught, break_log;
