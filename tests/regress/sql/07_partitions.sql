\set SHOW_CONTEXT never
create table measure (id int, city text, value int, primary key (id, city)) partition by list (city);
create table measure_paris partition of measure for values in ('paris');
select realtime.enable_realtime('public', 'measure');
create table measure_rome (value int, city text not null, id int not null);
alter table measure attach partition measure_rome for values in ('rome');
select realtime.enable_realtime('public', 'measure_paris');
insert into measure values (1, 'paris', 10), (2, 'rome', 20);
update measure set city = 'rome' where id = 1;
select realtime.tick() is not null as ticked;
select op, tables, record, old_record, key from realtime.status() s, realtime.read(s.oldest, 100000, 1000000000, 'measure'::regclass, null) where kind = 'e';
select op, tables[1], record from realtime.status() s, realtime.read(s.oldest, 100000, 1000000000, 'measure_rome'::regclass, null) where kind = 'e';
-- A partition truncated by itself says so; after ATTACH, enabling again gives the newcomer its trigger.
truncate measure_paris;
truncate measure_rome;
select realtime.enable_realtime('public', 'measure');
truncate measure_rome;
truncate measure;
select realtime.tick() is not null as ticked;
select op, tables from realtime.status() s, realtime.read(s.oldest, 100000, 1000000000, 'measure'::regclass, null) where kind = 'e' and op = 'T';
select relation, events from realtime.tables where table_name like 'measure%';
select realtime.disable_realtime('public', 'measure');
select count(*) from pg_trigger where tgrelid::regclass::text like 'measure%' and tgname like '%notify%';
-- A table that was enabled by itself and then attached: each change once, with the parent's options.
create table measure_oslo (id int, city text, value int, primary key (id, city));
select realtime.enable_realtime('measure_oslo'::regclass, '{"exclude": ["value"]}');
select realtime.enable_realtime('public', 'measure');
alter table measure attach partition measure_oslo for values in ('oslo');
insert into measure values (7, 'oslo', 70);
select realtime.tick() is not null as ticked;
select op, tables, record from realtime.status() s, realtime.read(s.oldest, 100000, 1000000000, 'measure_oslo'::regclass, null) where kind = 'e';
