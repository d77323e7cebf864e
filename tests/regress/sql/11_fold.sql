\set SHOW_CONTEXT never
-- A transaction's events fold, in their order, to what it did, also where triggers fire in another order.
create table fold_start (head bigint);
create function fold_begin() returns void language sql as $$
  truncate fold_start; insert into fold_start select head from realtime.status();
$$;
create function fold_events() returns table (op "char", old_record text, record text, reason text) language sql as $$
  select r.op, r.old_record, r.record, r.reason from fold_start, realtime.read(head, 100000, 100000000, null, null) r where kind = 'e';
$$;
-- A trigger that sorts before ours and changes the row again.
create table bumped (id int primary key, v int);
select realtime.enable_realtime('public', 'bumped');
create function bump() returns trigger language plpgsql as $$
begin
  if new.v < 3 then update bumped set v = v + 1 where id = new.id; end if;
  return null;
end $$;
create trigger a_bump after insert or update on bumped for each row execute function bump();
select count(*) >= 0 as ticked from realtime.tick(); select fold_begin();
insert into bumped values (1, 0);
select count(*) >= 0 as ticked from realtime.tick();
select * from fold_events();
-- Keys that are checked late: rows can be sorted, or only what is left at the end can be told.
create table shifted (id int primary key deferrable initially deferred, v text);
select realtime.enable_realtime('public', 'shifted');
insert into shifted values (1, 'a'), (2, 'b'), (3, 'c');
select count(*) >= 0 as ticked from realtime.tick(); select fold_begin();
update shifted set id = id + 1;
select count(*) >= 0 as ticked from realtime.tick();
select * from fold_events();
select fold_begin();
update shifted set id = case id when 2 then 3 else 2 end where id < 4;
begin; insert into shifted values (4, 'new'); delete from shifted where v = 'c'; commit;
select count(*) >= 0 as ticked from realtime.tick();
select * from fold_events();
-- Moves between partitions, among them keys that change places.
create table crossed (id int primary key deferrable initially deferred, v text) partition by range (id);
create table crossed_low partition of crossed for values from (0) to (10);
create table crossed_high partition of crossed for values from (10) to (20);
select realtime.enable_realtime('public', 'crossed');
insert into crossed values (1, 'low'), (11, 'high');
select count(*) >= 0 as ticked from realtime.tick(); select fold_begin();
update crossed set id = case id when 1 then 11 else 1 end;
select count(*) >= 0 as ticked from realtime.tick();
select * from fold_events();
-- What was written early cannot be sorted any more: a gap says so. Without need there is none.
set realtime.spill_bytes = '64kB';
create table large (id int primary key deferrable initially deferred, v text);
select realtime.enable_realtime('public', 'large');
insert into large select i, repeat('x', 500) from generate_series(1, 1000) i;
select count(*) >= 0 as ticked from realtime.tick(); select fold_begin();
update large set id = id + 1;
select count(*) >= 0 as ticked from realtime.tick();
select op, reason, count(*) > 0 as found from fold_events() group by op, reason order by op;
select fold_begin();
begin;
insert into bumped select i, 3 from generate_series(1000, 5000) i;
update bumped set v = v + 1 where id >= 1000;
delete from bumped where id >= 1000;
commit;
select count(*) >= 0 as ticked from realtime.tick();
select op, reason, count(*) from fold_events() group by op, reason order by op;
reset realtime.spill_bytes;
-- Very many small subtransactions: from some size on each writes what it did, so that memory stays bounded. The order stays.
set realtime.spill_bytes = '64kB';
create table small (id int primary key, v text);
select realtime.enable_realtime('public', 'small');
select fold_begin();
do $$ begin
  insert into small values (0, 'parent');
  for i in 1..2000 loop
    begin
      insert into small values (i, repeat('x', 300));
      if i % 7 = 0 then raise exception 'taken back'; end if;
    exception when raise_exception then null;
    end;
  end loop;
  insert into small values (2001, 'parent');
end $$;
select count(*) >= 0 as ticked from realtime.tick();
with e as (select (record::json ->> 'id')::int as id, lag((record::json ->> 'id')::int) over (order by "offset") as previous
             from fold_start, realtime.read(head, 100000, 100000000, 'small'::regclass, null) where kind = 'e')
select count(*), count(*) filter (where id <= previous) as misplaced, min(id), max(id), (select count(*) from small) as rows from e;
select count(distinct l.run) > 1 as written_early from realtime.log l join realtime.layouts y on y.id = l.layout where 'small' = any (y.tables);
reset realtime.spill_bytes;
-- Emptied in place: nobody can tell which rows came before. Emptied otherwise, or rewritten: the order is known.
select fold_begin();
begin; truncate bumped; insert into bumped values (1, 5); truncate bumped; insert into bumped values (2, 5); commit;
select count(*) >= 0 as ticked from realtime.tick();
select * from fold_events();
select fold_begin();
begin; insert into bumped values (3, 2); truncate bumped; insert into bumped values (4, 2); commit;
begin; insert into bumped values (5, 2); cluster bumped using bumped_pkey; insert into bumped values (6, 2); commit;
select count(*) >= 0 as ticked from realtime.tick();
select * from fold_events();
drop table fold_start, bumped, shifted, crossed, large, small cascade;
drop function fold_begin, fold_events, bump;
