\set SHOW_CONTEXT never
-- Gaps are said, never passed over.
select kind, "offset" - s.oldest as o, until - s.oldest = s.head - s.oldest as to_head, reason from realtime.status() s, realtime.read(s.head, 10, 1000, null, null);
select kind, "offset" = s.head + 6 as from_next, until = s.head as back_to_head, reason from realtime.status() s, realtime.read(s.head + 5, 10, 1000, null, null);
select kind, reason, until = s.oldest as to_floor from realtime.status() s, realtime.read(7, 1, 1000, null, null) where kind = 'g';
select kind, "offset" = s.head as at_head from realtime.status() s, realtime.read(null, 1, 1000, null, null);
-- An unknown history begins anew: everybody gets a gap.
create table moved (id int primary key);
select realtime.enable_realtime('public', 'moved');
insert into moved values (1);
select events from realtime.tick();
create table before as select head from realtime.status();
update realtime.tick_0 set history = 'another server';
select events from realtime.tick();
insert into moved values (2);
select events from realtime.tick();
select r.kind, r.reason, r.record from before, realtime.read(before.head, 10, 10000, null, null) r;
select (realtime.status()).head > before.head + (1 << 30) as jumped from before;
-- Another life of the server: the hole is crossed from its exact edge, and is a gap from inside.
create table edge as select head from realtime.status();
update realtime.tick_0 set incarnation = 'an earlier life';
insert into moved values (3);
select events from realtime.tick();
select r.kind, r.reason, r.record from edge, realtime.read(edge.head, 10, 10000, null, null) r;
select r.kind, r.reason, r.record from edge, realtime.read(edge.head + 5, 10, 10000, null, null) r;
-- What was announced must be there.
begin;
delete from realtime.log_0 where xid = (select max(xid) from realtime.log_0);
select kind from edge, realtime.read(edge.head, 10, 10000, null, null);
rollback;
-- Also of a transaction that wrote several rows: the first one, one between, the last.
create table several as select head from realtime.status();
insert into moved values (14), (15), (16);
select events from realtime.tick();
select r.kind, r.record from several, realtime.read(several.head + 1, 10, 10000, null, null) r;
do $$
begin
  for n in 0..2 loop
    begin
      delete from realtime.log_0 where (xid, seq) = (select xid, seq from realtime.log_0 order by xid desc, seq limit 1 offset n);
      perform kind from several, realtime.read(several.head, 10, 10000, null, null);
      raise notice 'row % is not missed', n;
    exception when data_corrupted then
      raise notice 'row % is missed', n;
    end;
  end loop;
end $$;
drop table several;
begin isolation level repeatable read;
select kind from realtime.read(null, 1, 1, null, null);
rollback;
begin;
insert into moved values (99);
select realtime.tick();
rollback;
-- Retention: a full segment goes whole, the newest tick stays.
update realtime.settings set value = '1 minute' where name = 'log_retention';
update realtime.state set switched_at = clock_timestamp() - interval '1 hour';
select realtime.rotate();
update realtime.tick_0 set at = at - interval '1 hour';
select realtime.rotate();
-- A backend may write into the old segment for another second; a new one does not.
\c -
insert into moved values (4);
select events from realtime.tick();
update realtime.state set switched_at = clock_timestamp();
select realtime.rotate();
select r.kind, r.reason, r.record from edge, realtime.read(edge.head, 10, 10000, null, null) r;
select r.kind, r.record from realtime.status() s, realtime.read(s.oldest, 10, 10000, null, null) r;
update realtime.settings set value = '72 hours' where name = 'log_retention';
-- Columns go by number: renamed ones are called as they are today, and what is no more is left out. Grants are today's too.
create table swapped (id int primary key, open text, secret text, gone text);
select realtime.enable_realtime('public', 'swapped');
insert into swapped values (1, 'for all', 'TOP SECRET', 'old');
select events from realtime.tick();
create table at_swap as select head - 1 as before from realtime.status();
alter table swapped rename open to once_open;
alter table swapped rename secret to open;
alter table swapped rename once_open to secret;
alter table swapped rename id to number;
alter table swapped drop column gone;
alter table swapped add column gone text default 'new';
select r.record, r.key, r.shapes[1] = realtime._shape('swapped'::regclass) as same_shape from at_swap, realtime.read(before, 10, 100000, null, null) r where kind = 'e';
-- A table that is gone: nobody can say who might read what.
drop table swapped;
select r.op, r.reason, r.tables, r.record from at_swap, realtime.read(before, 10, 100000, null, null) r where kind = 'e';
-- A composite type may be altered once no column uses it any more: values from before cannot be read, and nothing fails.
create type pair as (a int, b int);
create table pairs (id int primary key, x pair, y pair);
select realtime.enable_realtime('public', 'pairs');
update at_swap set before = (select head from realtime.status());
insert into pairs values (1, (1, 2), (3, 4));
begin;
insert into pairs values (2, (77, 2), (5, 6));
alter table pairs drop column x;
alter table pairs alter column y type text using 'text';
alter type pair alter attribute a type text;
commit;
select events from realtime.tick();
select r.op, r.record from at_swap, realtime.read(before, 10, 100000, null, null) r where kind = 'e';
