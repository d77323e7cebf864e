\set SHOW_CONTEXT never
-- Columns that came after an image. What its row has in them is judged while the catalog knows it. Once rows were written
-- anew only they know, whatever became of a default since, and a guess would show what a SELECT does not.
create table grown (id int primary key, owner text);
create table grown_anew (id int primary key);
create table grown_parts (id int primary key, owner text) partition by range (id);
create table grown_part (owner text, id int not null);
alter table grown_parts attach partition grown_part for values from (0) to (9);
select realtime.enable_realtime(t) from unnest('{grown,grown_anew,grown_parts}'::regclass[]) t;
alter table grown enable row level security;
alter table grown_anew enable row level security;
alter table grown_parts enable row level security;
grant select on grown, grown_anew, grown_parts to authenticated;
create policy seen on grown for select using (true);
create policy seen on grown_anew for select using (true);
create policy seen on grown_parts for select using (true);
select count(*) >= 0 as ticked from realtime.tick();
create table grown_from as select head from realtime.status();
insert into grown values (1, 'ada');
insert into grown_anew values (1);
insert into grown_parts values (1, 'ada');
select events from realtime.tick();
select realtime.know_identity(1, 'authenticated', '{"sub": "ada"}');
create function compare(tested regclass) returns table (judged text[], failures text[], native bigint) language plpgsql as $$
begin
  select v.verdicts, v.failures into judged, failures from grown_from f, realtime.judge(tested, f.head, f.head + 1000, array[1]) v;
  set local role authenticated;
  execute format('select count(*) from %s', tested) into native;
  reset role;
  return next;
end $$;
alter table grown add column nothing text;
alter table grown add column fast text default 'known';
alter policy seen on grown using (nothing is null and fast = 'known');
select * from compare('grown');
alter table grown alter fast drop default;
alter table grown alter nothing set default 'later';
alter table grown alter nothing drop default;
select * from compare('grown');
-- Written anew: nothing is left in the catalog of what rows were given.
vacuum full grown;
select attname, atthasdef, atthasmissing from pg_attribute where attrelid = 'grown'::regclass and attnum > 2;
alter policy seen on grown using (fast is null);
select * from compare('grown');
alter policy seen on grown using (grown is not null or fast is null);
select * from compare('grown');
alter policy seen on grown using (owner = 'ada');
select * from compare('grown');
-- A column that came after that, and an image that has them all.
alter table grown add column fast_again text default 'known';
alter policy seen on grown using (fast_again = 'known');
select * from compare('grown');
alter policy seen on grown using (fast = 'known');
update grown set owner = 'ada';
select events from realtime.tick();
select * from compare('grown');
-- Values that are no default of the column's: of an identity, of a domain; or no more.
create domain marked as text default 'mark' check (value <> '');
alter table grown_anew add column a int generated always as identity;
-- (That it cannot be null is known to newer planners, which would not look.)
alter policy seen on grown_anew using (a is null or a < 0);
select * from compare('grown_anew');
alter table grown_anew add column b marked;
alter policy seen on grown_anew using (b is null);
select * from compare('grown_anew');
alter table grown_anew add column c text default random()::text;
alter table grown_anew alter c drop default;
alter policy seen on grown_anew using (c is null);
select * from compare('grown_anew');
alter policy seen on grown_anew using (id = 1);
select * from compare('grown_anew');
-- Of a partition it is its own file that counts.
alter table grown_parts add column fast text default 'known';
alter policy seen on grown_parts using (fast = 'known');
select * from compare('grown_parts');
vacuum full grown_part;
alter table grown_parts alter fast drop default;
alter policy seen on grown_parts using (fast is null);
select * from compare('grown_parts');
select realtime.forget_identity(1);
drop table grown, grown_anew, grown_parts, grown_from;
drop domain marked;
drop function compare;
