-- Capture: which tables emit.
--
-- A row trigger in C notes the images of each change in the backend's memory; they are written into the log once, at
-- PRE_COMMIT. The trigger takes no lock, sends no NOTIFY and runs no SQL. The table's options are the trigger's
-- arguments, so that pg_dump carries them with the table; the trigger's name ends in `_notify_change`, so that
-- `information_schema.triggers ... like '%_notify_change'` lists the enabled tables.

create function realtime.notify_table_change() returns trigger
  language c as 'MODULE_PATHNAME', 'notify_table_change';
comment on function realtime.notify_table_change() is
  'Trigger function: AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, or AFTER TRUNCATE FOR EACH STATEMENT. Arguments in pairs: exclude COLUMN, old full|key, max_bytes N.';

-- Cut so that the suffix stays: two long names that differ only at the end would otherwise become the same.
create function realtime._trigger_name(table_name name, suffix text) returns name
  language plpgsql immutable strict
  set search_path = pg_catalog, pg_temp
as $$
declare
  stem text := table_name;
begin
  while octet_length(stem || suffix) > 63 loop
    stem := left(stem, -1);
  end loop;
  return stem || suffix;
end $$;

-- Checks the options and returns the trigger's arguments.
create function realtime._trigger_arguments(relation regclass, options jsonb) returns text[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  option record; column_name text; arguments text[] := '{}';
begin
  if jsonb_typeof(options) <> 'object' then
    raise exception 'options must be a JSON object' using errcode = 'invalid_parameter_value',
      hint = 'Such as {"events": ["INSERT"], "exclude": ["password"], "old": "key", "max_bytes": 65536}.';
  end if;
  for option in select key, value from jsonb_each(options) loop
    case
      when option.key = 'events' then
        if jsonb_typeof(option.value) <> 'array' or jsonb_array_length(option.value) = 0 or exists (
             select from jsonb_array_elements(option.value) e
              where e #>> '{}' is null or upper(e #>> '{}') not in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')) then
          raise exception 'option "events" must be a list of INSERT, UPDATE, DELETE, TRUNCATE' using errcode = 'invalid_parameter_value';
        end if;
      when option.key = 'exclude' then
        if jsonb_typeof(option.value) <> 'array' then
          raise exception 'option "exclude" must be a list of column names' using errcode = 'invalid_parameter_value';
        end if;
        for column_name in select e #>> '{}' from jsonb_array_elements(option.value) e loop
          if not exists (select from pg_attribute a where a.attrelid = relation and a.attname = column_name
                            and a.attnum > 0 and not a.attisdropped) then
            raise exception 'table % has no column "%" to exclude', relation, column_name using errcode = 'undefined_column';
          end if;
          if exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
                      where i.indrelid = relation and i.indisprimary and a.attname = column_name) then
            raise exception 'column "%" is part of the primary key of %', column_name, relation
              using errcode = 'invalid_parameter_value', hint = 'Without its key a client could not tell the rows apart.';
          end if;
          arguments := arguments || array['exclude', column_name];
        end loop;
      when option.key = 'old' then
        if option.value #>> '{}' is null or option.value #>> '{}' not in ('full', 'key') then
          raise exception 'option "old" must be "full" or "key"' using errcode = 'invalid_parameter_value';
        end if;
        arguments := arguments || array['old', option.value #>> '{}'];
      when option.key = 'max_bytes' then
        if jsonb_typeof(option.value) <> 'number' or (option.value #>> '{}')::numeric not between 1024 and 16777216 then
          raise exception 'option "max_bytes" must be a number from 1024 to 16777216' using errcode = 'invalid_parameter_value';
        end if;
        arguments := arguments || array['max_bytes', ((option.value #>> '{}')::numeric::bigint)::text];
      when option.key = 'always' then
        if jsonb_typeof(option.value) <> 'boolean' then
          raise exception 'option "always" must be true or false' using errcode = 'invalid_parameter_value';
        end if;
      else
        raise exception 'unknown option "%"', option.key using errcode = 'invalid_parameter_value',
          hint = 'Options are events, exclude, old, max_bytes and always.';
    end case;
  end loop;
  return arguments;
end $$;

create function realtime._check_table(relation regclass) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  c record;
begin
  select r.relkind, r.relispartition, r.relpersistence, r.relowner, n.nspname into c
    from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = relation;
  if c.nspname in ('pg_catalog', 'information_schema', 'pg_toast', 'realtime') or relation::oid < 16384 then
    raise exception '% is a system table', relation using errcode = 'wrong_object_type';
  elsif c.relkind not in ('r', 'p') then
    raise exception '% is not a table', relation using errcode = 'wrong_object_type',
      hint = 'Views have no rows of their own, and changes of a foreign table happen elsewhere. Enable the table underneath.';
  elsif c.relispartition then
    raise exception '% is a partition', relation using errcode = 'wrong_object_type',
      hint = format('Enable its parent: select realtime.enable_realtime(%L::regclass)', (select inhparent::regclass from pg_inherits where inhrelid = relation));
  elsif c.relpersistence = 't' then
    raise exception '% is a temporary table', relation using errcode = 'wrong_object_type', hint = 'No other session can see its rows.';
  elsif not pg_has_role(current_user, c.relowner, 'USAGE') then
    raise exception 'must be owner of table %', relation using errcode = 'insufficient_privilege';
  end if;
end $$;

-- The triggers that a table is to have. Statement triggers are not inherited, and a partition can be truncated by itself.
create function realtime._wanted_triggers(relation regclass, options jsonb)
  returns table (target oid, name name, type int2, events text, level text, arguments bytea, enabled "char")
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  with events(word) as (
    select distinct upper(e) from jsonb_array_elements_text(coalesce(options -> 'events', '["INSERT", "UPDATE", "DELETE", "TRUNCATE"]')) e),
  shared(arguments, enabled) as (
    select coalesce((select string_agg(convert_to(a, getdatabaseencoding()) || '\x00', '' order by n)
                       from unnest(realtime._trigger_arguments(relation, options)) with ordinality u(a, n)), ''),
           (case when (options ->> 'always')::boolean then 'A' else 'O' end)::"char")
  select c.oid, realtime._trigger_name(c.relname, '_notify_change'),
         (1 + sum(case e.word when 'INSERT' then 4 when 'DELETE' then 8 else 16 end))::int2, string_agg(e.word, ' or ' order by e.word), 'row', s.arguments, s.enabled
    from pg_class c, events e, shared s where c.oid = relation and e.word <> 'TRUNCATE' group by c.oid, c.relname, s.arguments, s.enabled
  union all
  select c.oid, realtime._trigger_name(c.relname, '_notify_truncate'), 32, e.word, 'statement', s.arguments, s.enabled
    from pg_class c, events e, shared s
   where e.word = 'TRUNCATE' and (c.oid = relation or c.oid in (select t.relid from pg_partition_tree(relation) t where t.isleaf))
$$;

-- A row image has no place and no transaction: only `tableoid` (-6) is known of the system columns.
create function realtime._warn_of_policies(relation regclass) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  policy name;
begin
  for policy in select distinct p.polname from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
      where p.polrelid = relation and d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.refobjsubid < 0 and d.refobjsubid <> -6 loop
    raise warning 'policy "%" on % reads a system column that the images of events do not have', policy, relation using
      hint = 'Whom it concerns is sent nothing. Let the policy read a column of the table.';
  end loop;
end $$;

create function realtime.enable_realtime(relation regclass, options jsonb default '{}') returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  wanted record;
  arguments text;
begin
  perform realtime._check_table(relation);
  arguments := (select coalesce(string_agg(quote_literal(a), ', ' order by n), '')
                  from unnest(realtime._trigger_arguments(relation, options)) with ordinality u(a, n));
  -- What is as it is wanted stays: between a trigger and its successor rows might change unseen, and subscribers start over.
  perform realtime._drop_triggers(relation, options);
  for wanted in select w.* from realtime._wanted_triggers(relation, options) w
      where not exists (select from pg_trigger t where t.tgrelid = w.target and t.tgname = w.name) loop
    execute format('create trigger %I after %s on %s for each %s execute function realtime.notify_table_change(%s)',
      wanted.name, wanted.events, wanted.target::regclass, wanted.level, arguments);
    execute format('alter trigger %I on %s depends on extension realtime', wanted.name, wanted.target::regclass);
    if wanted.enabled = 'A' then
      execute format('alter table %s enable always trigger %I', wanted.target::regclass, wanted.name);
    end if;
  end loop;
  perform realtime._remember(relation);
  perform realtime._warn_of_policies(relation);
  perform realtime.start_worker();
end $$;
comment on function realtime.enable_realtime(regclass, jsonb) is
  'Makes a table emit its changes. Options: events (list), exclude (columns), old (full|key), max_bytes, always. Calling it again replaces the options.';

create function realtime._find_table(schema_name text, table_name text) returns regclass
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  relation constant regclass := to_regclass(format('%I.%I', schema_name, table_name));
begin
  if relation is null then
    raise exception 'there is no table "%" in schema "%"', table_name, schema_name using errcode = 'undefined_table',
      hint = 'Both are plain names: enable_realtime(''public'', ''orders''). By oid and with options: enable_realtime(''orders''::regclass, ''{"old": "key"}'').';
  end if;
  return relation;
end $$;

create function realtime.enable_realtime(schema_name text, table_name text, options jsonb default '{}') returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select realtime.enable_realtime(realtime._find_table(schema_name, table_name), options)
$$;
comment on function realtime.enable_realtime(text, text, jsonb) is 'Makes a table emit its changes; schema and table as plain names.';

create function realtime.enable_realtime_all(schema_name text, options jsonb default '{}') returns setof regclass
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  relation regclass;
begin
  if not exists (select from pg_namespace n where n.nspname = schema_name) then
    raise exception 'there is no schema "%"', schema_name using errcode = 'invalid_schema_name',
      hint = 'It is a plain name, without quotes: enable_realtime_all(''public'').';
  end if;
  -- An extension's tables are not the caller's to publish, and pg_dump would not take the triggers along.
  for relation in select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = schema_name and c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
        and pg_has_role(current_user, c.relowner, 'USAGE')
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      order by c.relname loop
    perform realtime.enable_realtime(relation, options);
    return next relation;
  end loop;
end $$;
comment on function realtime.enable_realtime_all(text, jsonb) is 'Enables every table of a schema that the caller owns, but those of extensions, and says which.';

-- Without options all of them, else those that are not wanted with these options.
create function realtime._drop_triggers(relation regclass, options jsonb) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  trigger_name name; target regclass;
begin
  for trigger_name, target in select t.tgname, t.tgrelid::regclass from pg_trigger t
      where (t.tgrelid = relation or t.tgrelid in (select p.relid from pg_partition_tree(relation) p))
        and not t.tgisinternal and t.tgparentid = 0
        and t.tgfoid = 'realtime.notify_table_change()'::regprocedure
        and (options is null or not exists (
              select from realtime._wanted_triggers(relation, options) w
               where w.target = t.tgrelid and w.name = t.tgname and w.type = t.tgtype and w.arguments = t.tgargs and w.enabled = t.tgenabled)) loop
    execute format('drop trigger %I on %s', trigger_name, target);
  end loop;
end $$;

create function realtime.disable_realtime(relation regclass) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform realtime._check_table(relation);
  perform realtime._drop_triggers(relation, null);
end $$;
comment on function realtime.disable_realtime(regclass) is 'Stops a table from emitting changes. Harmless when it does not.';

create function realtime.disable_realtime(schema_name text, table_name text) returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select realtime.disable_realtime(realtime._find_table(schema_name, table_name))
$$;
comment on function realtime.disable_realtime(text, text) is 'Stops a table from emitting changes; schema and table as plain names.';

create view realtime.tables as
  select n.nspname as schema_name, c.relname as table_name, c.oid::regclass as relation,
         array_remove(array[
           case when bool_or(t.tgtype & 4 <> 0) then 'INSERT' end, case when bool_or(t.tgtype & 16 <> 0) then 'UPDATE' end,
           case when bool_or(t.tgtype & 8 <> 0) then 'DELETE' end, case when bool_or(t.tgtype & 32 <> 0) then 'TRUNCATE' end], null) as events,
         c.relrowsecurity as row_level_security
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
   where t.tgfoid = 'realtime.notify_table_change()'::regprocedure and t.tgparentid = 0 and not t.tgisinternal and t.tgenabled <> 'D'
     and not c.relispartition
   group by n.nspname, c.relname, c.oid, c.relrowsecurity;
comment on view realtime.tables is 'Tables that emit their changes.';
grant select on realtime.tables to public;
