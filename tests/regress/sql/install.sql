-- What CREATE EXTENSION makes, and that DROP EXTENSION takes all of it away.
select extversion = default_version as is_default from pg_extension join pg_available_extensions on name = extname where extname = 'realtime';
select realtime.contract_version();

-- Everything lies in one schema, which is a member of the extension itself.
select distinct coalesce(n.nspname, d.classid::regclass::text) as place
  from pg_depend d
  left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
  left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
  left join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
  left join pg_namespace n on n.oid in (c.relnamespace, p.pronamespace, t.typnamespace)
 where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
   and d.refobjid = (select oid from pg_extension where extname = 'realtime')
 order by place;

-- It creates no roles, no event triggers and no policies.
select count(*) from pg_event_trigger;
select count(*) from pg_policies where schemaname = 'realtime';

-- Functions that run with their owner's rights pin their search_path.
select p.oid::regprocedure from pg_proc p
 where p.pronamespace = 'realtime'::regnamespace and p.prosecdef
   and not coalesce(p.proconfig::text like '%search_path=%', false);

-- An enabled table does not hold the extension, and is a plain table after it.
create table enabled (id int primary key, note text);
select realtime.enable_realtime('public', 'enabled');
insert into enabled values (1, 'before');
drop extension realtime;
insert into enabled values (2, 'after');
select * from enabled order by id;
select count(*) from pg_trigger where tgrelid = 'enabled'::regclass;
drop table enabled;

-- A schema of the same name is somebody else's.
create schema realtime;
create extension realtime;
drop schema realtime;
create extension realtime;
