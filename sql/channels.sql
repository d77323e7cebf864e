-- Channels: where messages go, and who may listen.
--
-- A row is a pattern; `%` stands for anything and nothing else is a wildcard. Who may subscribe is said by SELECT
-- policies on this table: a caller may enter a channel when any enabled row whose pattern matches is visible to them,
-- with channel_name() set to the name they asked for. Row level security is on from the first moment and the extension
-- ships no policy, so nothing is open until somebody opens it.

create table realtime.channels (
  id           uuid primary key default gen_random_uuid(),
  pattern      text not null unique check (pattern <> '' and octet_length(pattern) <= 255),
  description  text,
  webhook_urls text[],
  enabled      boolean not null default true,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now()
);
comment on table realtime.channels is 'Channel patterns. SELECT policies decide who may subscribe.';
comment on column realtime.channels.pattern is 'A channel name, or a pattern in which % stands for anything.';
alter table realtime.channels enable row level security;
grant select (id, pattern, description, enabled, created_at, updated_at) on realtime.channels to public;
select pg_extension_config_dump('realtime.channels', '');

create function realtime._touch() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := now();
  return new;
end $$;
create trigger touch before update on realtime.channels for each row execute function realtime._touch();

create function realtime.channel_name() returns text
  language sql stable parallel safe
  return nullif(current_setting('realtime.channel_name', true), '');
comment on function realtime.channel_name() is 'Inside a policy: the channel that is being subscribed or published to. NULL elsewhere.';

-- Only % is a wildcard; LIKE's other two special characters stand for themselves.
create function realtime._matches(name text, pattern text) returns boolean
  language sql immutable strict parallel safe
  return name like replace(replace(pattern, '\', '\\'), '_', '\_');

-- Why a name cannot be a channel's, or NULL. The sidecar has the same rules.
create function realtime._channel_name_error(name text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when coalesce(name, '') = '' then 'is empty'
    when octet_length(name) > 255 then 'is longer than 255 bytes'
    when name ~ '[[:cntrl:]]' then 'holds control characters'
    when position('%' in name) > 0 then 'holds a %, which only patterns may'
    when name like 'table:%' then 'belongs to a table; its events come from the table alone'
    when getdatabaseencoding() = 'UTF8' and name is not nfc normalized then 'is not in Unicode normal form NFC'
  end;
end $$;

-- The row that a message is filed under: the exact name first, then the longest pattern.
create function realtime._best_channel(name text) returns uuid
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select c.id from realtime.channels c
   where c.enabled and realtime._matches(name, c.pattern)
   order by c.pattern = name desc, length(c.pattern) desc, c.pattern limit 1;
end;
