-- The schema and its guard.
--
-- Everything this extension makes lives in one schema, `realtime`, which is a member of the extension and goes with
-- it. Nothing is created outside: no roles, no event triggers, no wrappers in public. Two other products use the same
-- schema name, so the script stops before it could mix its tables with theirs.

do $$
begin
  if exists (select from pg_namespace where nspname = 'realtime') then
    raise exception 'schema "realtime" exists already' using
      errcode = 'duplicate_schema',
      hint = 'InsForge and Supabase Realtime keep their own tables in a schema of this name. Move it away '
             '(alter schema realtime rename to realtime_old) or drop it, then create the extension again.';
  end if;
end $$;

create schema realtime;
comment on schema realtime is 'The realtime extension: channels, messages, the ordered log of changes.';

-- Anybody may look up names here; what they may do with an object is said by that object alone.
grant usage on schema realtime to public;

create function realtime.contract_version() returns integer
  language sql immutable parallel safe
  return 1;
comment on function realtime.contract_version() is
  'The version of the contract between this schema and the sidecar. A sidecar speaks its own version and the one before.';
