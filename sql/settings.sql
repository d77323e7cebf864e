-- Settings of the log, one row each.
--
-- What a session or a role may want to differ in is a configuration parameter (realtime.max_event_bytes,
-- realtime.spill_bytes, realtime.worker). What belongs to the database as a whole stands here, so that pg_dump takes it
-- along and every sidecar and worker reads the same.

create table realtime.settings (
  name        text primary key,
  value       text not null,
  description text not null
);
comment on table realtime.settings is 'Settings of this database''s log and messages. Change with UPDATE; the worker reads them within ten seconds.';

create function realtime._setting(name text) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select s.value from realtime.settings s where s.name = $1;
end;

-- How long messages are kept; NULL: for ever.
create function realtime._messages_retention() returns interval
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select nullif(realtime._setting('messages_retention'), 'forever')::interval;
end;

create function realtime._check_setting() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if new.name = 'messages_retention' and new.value = 'forever' then
    null;
  elsif new.name in ('log_retention', 'messages_retention') then
    -- The second comparison fails for a time so long ago that there is none.
    if new.value::interval < interval '1 second' or clock_timestamp() - new.value::interval > clock_timestamp() then
      raise exception 'setting "%" must be at least one second, not "%"', new.name, new.value
        using errcode = 'invalid_parameter_value', hint = 'Write an interval, such as ''72 hours''.';
    end if;
  elsif new.name = 'log_max_size' then
    if pg_size_bytes(new.value) < 16 * 1024 * 1024 then
      raise exception 'setting "log_max_size" must be at least 16 MB, not "%"', new.value
        using errcode = 'invalid_parameter_value', hint = 'Write a size, such as ''4 GB''.';
    end if;
  else
    raise exception 'unknown setting "%"', new.name
      using errcode = 'invalid_parameter_value', hint = 'select name, value, description from realtime.settings';
  end if;
  -- A restore puts one row after the other, in any order (below): only the last of them makes the two fit.
  if tg_op = 'UPDATE' and pg_trigger_depth() = 1 and new.name in ('log_retention', 'messages_retention')
     and (case when new.name = 'messages_retention' then nullif(new.value, 'forever')::interval < realtime._setting('log_retention')::interval
               else new.value::interval > realtime._messages_retention() end) then
    raise exception 'messages must be kept as long as the log: log_retention is at most messages_retention'
      using errcode = 'invalid_parameter_value', hint = 'A message is stored once; without it there is nothing to resume with.';
  end if;
  if tg_op = 'INSERT' and exists (select from realtime.settings s where s.name = new.name) then
    -- A restore: the rows of the dump come on top of those that CREATE EXTENSION has just made.
    update realtime.settings s set value = new.value where s.name = new.name;
    return null;
  end if;
  return new;
end $$;

create trigger check_setting before insert or update on realtime.settings
  for each row execute function realtime._check_setting();

insert into realtime.settings (name, value, description) values
  ('log_retention',      '72 hours', 'How long an event can be resumed from.'),
  ('log_max_size',       '4 GB',     'Size of the log at which segments are given back before their time.'),
  ('messages_retention', '30 days',  'How long rows of realtime.messages are kept; forever: for good.');

-- Only what a DBA changed is worth dumping; the defaults come with the next install.
select pg_extension_config_dump('realtime.settings', '');

-- The limit above which an event is not delivered whole. Asked through the library, which knows its parameters only once it is loaded.
create function realtime._max_event_bytes() returns int
  language c stable as 'MODULE_PATHNAME', 'max_event_bytes';
