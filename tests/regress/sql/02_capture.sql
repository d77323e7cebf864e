\set SHOW_CONTEXT never
-- What a reader sees of the events so far; offsets counted from the oldest.
create function events() returns table (n bigint, txn bigint, op "char", tables text, record text, old_record text, oversize bool)
language sql as $$
  select r."offset" - s.oldest, r.until - s.oldest, r.op, array_to_string(r.schemas || r.tables, '.'), r.record, r.old_record, nullif(r.oversize, false)
    from realtime.status() s, realtime.read(s.oldest, 1000, 10000000, null, null) r where r.kind = 'e';
$$;
select events from realtime.tick();
create table item (id int primary key, name text, price numeric);
select realtime.enable_realtime('public', 'item');
select realtime.enable_realtime('public', 'item');
select trigger_name, event_manipulation from information_schema.triggers where trigger_name like '%_notify_change' order by 2;
select * from realtime.tables;
insert into item values (1, 'one', 1.10), (2, 'two', null);
update item set name = 'uno' where id = 1;
delete from item where id = 2;
truncate item;
select events from realtime.tick();
select * from events();
-- A rolled-back savepoint leaves nothing, a released one stays in its place.
begin;
insert into item values (10, 'before', 0);
savepoint a;
insert into item values (11, 'gone', 0);
savepoint b;
insert into item values (12, 'gone too', 0);
release b;
rollback to a;
insert into item values (13, 'after', 0);
savepoint c;
insert into item values (14, 'released', 0);
release c;
commit;
begin; insert into item values (20, 'never', 0); rollback;
select events from realtime.tick();
select * from events() offset 5;
-- lastval() is the user's.
create table counted (id serial primary key);
select realtime.enable_realtime('public', 'counted');
insert into counted default values;
select lastval();
-- Options.
select realtime.enable_realtime('item'::regclass, '{"events": ["insert"], "exclude": ["price"], "old": "key", "max_bytes": 2000}');
select tgname, pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'item'::regclass order by 1;
truncate item;
insert into item values (30, 'no price', 99.99), (31, repeat('x', 2500), 1);
update item set name = 'silent' where id = 30;
select realtime.enable_realtime('item'::regclass, '{"old": "key"}');
update item set name = 'loud' where id = 30;
delete from item where id = 30;
select events from realtime.tick();
select n, op, left(record, 60) as record, old_record, oversize from events() offset 9;
select realtime.enable_realtime('item'::regclass, '{"colour": 1}');
select realtime.enable_realtime('item'::regclass, '{"exclude": ["id"]}');
select realtime.enable_realtime('item'::regclass, '{"exclude": ["nothing"]}');
select realtime.enable_realtime('item'::regclass, '{"events": []}');
select realtime.enable_realtime('item'::regclass, '{"max_bytes": 1}');
select realtime.enable_realtime('item'::regclass, '[]');
-- Not everything can emit.
create view item_view as select * from item;
select realtime.enable_realtime('public', 'item_view');
select realtime.enable_realtime('item', '{}');
select realtime.enable_realtime('pg_catalog', 'pg_class');
select realtime.enable_realtime('realtime', 'messages');
create temp table passing (id int);
select realtime.enable_realtime('passing'::regclass);
create role stranger;
set role stranger;
select realtime.enable_realtime('public', 'item');
select realtime.disable_realtime('public', 'item');
reset role;
-- Disabling.
select realtime.disable_realtime('public', 'item');
select realtime.disable_realtime('public', 'item');
select * from realtime.tables;
insert into item values (40, 'unheard', 0);
select events from realtime.tick();
-- A trigger made by hand works; one made wrong warns and harms nothing.
create trigger by_hand after insert on item for each row execute function realtime.notify_table_change('old', 'full', 'colour', 'blue');
insert into item values (41, 'by hand', 0);
create trigger wrong before insert on item for each row execute function realtime.notify_table_change();
insert into item values (42, 'before', 0);
drop trigger wrong on item;
create trigger wrong after insert on item for each statement execute function realtime.notify_table_change();
insert into item values (43, 'statement', 0);
drop trigger wrong on item;
drop trigger by_hand on item;
select id from item where id > 40 order by id;
select realtime.notify_table_change();
-- Names that differ only behind the 63rd byte.
create table "a name that is exactly sixty-three bytes long, counted with care" (id int primary key);
select realtime.enable_realtime('public', 'a name that is exactly sixty-three bytes long, counted with care');
select tgname, length(tgname) from pg_trigger where tgname like 'a name%' order by 1;
-- Too large and without a key.
create table loose (body text);
select realtime.enable_realtime('loose'::regclass, '{"max_bytes": 1024}');
insert into loose values (repeat('x', 2000));
update loose set body = 'small';
select events from realtime.tick();
select op, record, old_record, oversize from events() where tables = 'public.loose';
-- A deferrable primary key is a key.
create table later (id int primary key deferrable, body text);
select realtime.enable_realtime('later'::regclass, '{"old": "key"}');
insert into later values (1, 'a');
delete from later;
select events from realtime.tick();
select r.op, r.key, r.old_record from realtime.status() s, realtime.read(s.oldest, 1000, 1000000, 'later'::regclass, null) r where kind = 'e';
