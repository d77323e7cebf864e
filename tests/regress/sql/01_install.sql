\set SHOW_CONTEXT never
-- The drivers create the extension; here it is made anew.
drop extension realtime;
-- A schema of this name may be somebody else's.
create schema realtime;
create extension realtime;
drop schema realtime;
-- Everything lies in one schema, and everything has its say about who may use it.
create extension realtime;
set realtime.worker = off;
do $$ begin execute format('alter database %I set realtime.worker = off', current_database()); end $$;
select count(*) as objects_outside from pg_depend d join pg_extension e on e.oid = d.refobjid
 where e.extname = 'realtime' and d.deptype = 'e' and d.classid = 'pg_class'::regclass
   and (select relnamespace from pg_class where oid = d.objid) <> 'realtime'::regnamespace;
select p.oid::regprocedure as unpinned from pg_proc p where p.pronamespace = 'realtime'::regnamespace and p.prosecdef
   and not exists (select from unnest(p.proconfig) c where c like 'search_path=%');
select p.oid::regprocedure as open_to_all from pg_proc p where p.pronamespace = 'realtime'::regnamespace
   and has_function_privilege('public', p.oid, 'execute') order by 1::text;
select c.relname as readable_by_all from pg_class c where c.relnamespace = 'realtime'::regnamespace
   and has_any_column_privilege('public', c.oid, 'select') order by 1;
select relname, relrowsecurity from pg_class where oid in ('realtime.channels'::regclass, 'realtime.messages'::regclass) order by 1;
select count(*) from pg_policy where polrelid in ('realtime.channels'::regclass, 'realtime.messages'::regclass);
-- It creates no event triggers.
select count(*) from pg_event_trigger where evtfoid::regproc::text like '%realtime%';
-- What pg_dump takes along.
select c::regclass from pg_extension, unnest(extconfig) c where extname = 'realtime' order by 1::text;
-- A misspelt parameter is an error once the library is there.
select realtime.start_worker();
set realtime.max_event_byte = 5;
-- Settings refuse nonsense.
update realtime.settings set value = 'soon' where name = 'log_retention';
update realtime.settings set value = '1 MB' where name = 'log_max_size';
insert into realtime.settings values ('colour', 'blue', '');
-- A restore puts its rows on top of the defaults.
copy realtime.settings (name, value, description) from stdin with (delimiter ',');
messages_retention,7 days,
\.
select name, value from realtime.settings order by name;
update realtime.settings set value = '30 days' where name = 'messages_retention';
select realtime.contract_version();
