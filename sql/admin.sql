-- What the admin API asks.
--
-- The sidecar serves channels, messages, permissions and retention over HTTP to administrators, and decides who is one.
-- These functions are what an administrator may then do; they run as their owner, so that the sidecar's login role has no
-- right on the tables themselves. None of them waits for a lock that somebody's write holds for longer than lock_timeout.

create function realtime.admin_channels(wanted_id uuid default null, max_rows int default null) returns setof realtime.channels
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  select c.* from realtime.channels c where wanted_id is null or c.id = wanted_id order by c.created_at desc, c.id limit max_rows
$$;
comment on function realtime.admin_channels(uuid, int) is 'Channels with their webhooks, newest first, or the one with this id. For the sidecar''s admin API.';

create function realtime.admin_create_channel(pattern text, description text, webhook_urls text[], enabled boolean) returns setof realtime.channels
  language sql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
  insert into realtime.channels (pattern, description, webhook_urls, enabled) values ($1, $2, $3, $4) returning *
$$;
comment on function realtime.admin_create_channel(text, text, text[], boolean) is 'Makes a channel. For the sidecar''s admin API.';

create function realtime.admin_update_channel(wanted_id uuid, pattern text, description text, webhook_urls text[], enabled boolean) returns setof realtime.channels
  language sql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
  update realtime.channels c
     set pattern = coalesce($2, c.pattern), description = coalesce($3, c.description),
         webhook_urls = coalesce($4, c.webhook_urls), enabled = coalesce($5, c.enabled)
   where c.id = $1 returning c.*
$$;
comment on function realtime.admin_update_channel(uuid, text, text, text[], boolean) is
  'Changes what is not NULL of a channel; no row when there is none. For the sidecar''s admin API.';

create function realtime.admin_delete_channel(wanted_id uuid) returns boolean
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
begin
  delete from realtime.channels c where c.id = wanted_id;
  return found;
end $$;
comment on function realtime.admin_delete_channel(uuid) is
  'Deletes a channel and says whether there was one. Its messages stay, with the id of a channel that is no more. For the sidecar''s admin API.';

-- A message of a channel that is no more has none: without a foreign key, deleting a channel touches no message.
create function realtime.admin_messages(wanted_channel uuid, wanted_event text, max_rows int, skip_rows bigint, max_bytes bigint)
  returns table (id uuid, event_name text, channel_id uuid, channel_name text, payload text, sender_type text, sender_id uuid,
                 ws_audience_count int, wh_audience_count int, wh_delivered_count int, created_at timestamptz)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  bytes bigint := 0;
begin
  for id, event_name, channel_id, channel_name, payload, sender_type, sender_id, ws_audience_count, wh_audience_count, wh_delivered_count, created_at in
    select m.id, m.event_name, c.id, m.channel_name, m.payload::text, m.sender_type, m.sender_id,
           m.ws_audience_count, m.wh_audience_count, m.wh_delivered_count, m.created_at
      from realtime.messages m left join realtime.channels c on c.id = m.channel_id
     where (wanted_channel is null or c.id = wanted_channel) and (wanted_event is null or m.event_name = wanted_event)
     order by m.created_at desc, m.id limit max_rows offset skip_rows
  loop
    bytes := bytes + octet_length(payload);
    if bytes > max_bytes then
      raise exception 'these messages have more than % bytes', max_bytes using errcode = 'program_limit_exceeded',
        hint = 'Ask for fewer at once.';
    end if;
    return next;
  end loop;
end $$;
comment on function realtime.admin_messages(uuid, text, int, bigint, bigint) is
  'Messages, newest first, optionally of one channel or event. More than `max_bytes` of payloads is an error. For the sidecar''s admin API.';

-- In the order of the ids, so that each batch begins where the last one ended and steps over no row twice. A row that
-- somebody holds is left out: waiting for it could be a deadlock that costs them their transaction.
create function realtime.admin_clear_messages(cutoff timestamptz, after_id uuid, batch int default 1000, out deleted int, out last_id uuid)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with page as (
    select m.id from realtime.messages m where after_id is null or m.id > after_id order by m.id limit batch),
  free as (
    select m.id from realtime.messages m join page using (id) where m.created_at <= cutoff for update of m skip locked),
  gone as (
    delete from realtime.messages m using free where m.id = free.id returning m.id)
  select (select count(*) from gone), (select p.id from page p order by p.id desc limit 1) into deleted, last_id;
end $$;
comment on function realtime.admin_clear_messages(timestamptz, uuid, int) is
  'Deletes messages up to a moment, a batch of them: call it again with `last_id` until that is NULL. For the sidecar''s admin API.';

create function realtime.admin_message_stats(wanted_channel uuid, since timestamptz,
    out messages bigint, out wh_audience bigint, out wh_delivered bigint, out event_names text[], out event_counts bigint[])
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  with per_event as materialized (
    select m.event_name, count(*) as n, sum(m.wh_audience_count)::bigint as audience, sum(m.wh_delivered_count)::bigint as delivered
      from realtime.messages m left join realtime.channels c on c.id = m.channel_id
     where (wanted_channel is null or c.id = wanted_channel) and (since is null or m.created_at >= since)
     group by m.event_name),
  top as (select e.event_name, e.n from per_event e order by e.n desc, e.event_name limit 10)
  select coalesce(sum(e.n), 0)::bigint, coalesce(sum(e.audience), 0)::bigint, coalesce(sum(e.delivered), 0)::bigint,
         (select coalesce(array_agg(t.event_name order by t.n desc, t.event_name), '{}') from top t),
         (select coalesce(array_agg(t.n order by t.n desc, t.event_name), '{}') from top t)
    from per_event e
$$;
comment on function realtime.admin_message_stats(uuid, timestamptz) is
  'How many messages there are, what became of their webhooks, and the ten most frequent events. For the sidecar''s admin API.';

create function realtime.admin_policies()
  returns table (table_name text, name text, command text, roles text[], using_expression text, check_expression text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  select p.table_name, p.name, p.command, p.roles, p.using_expression, p.check_expression from realtime._policies p order by 1, 2
$$;
comment on function realtime.admin_policies() is 'The policies of realtime.channels and realtime.messages. For the sidecar''s admin API.';

create function realtime.admin_retention_days() returns int
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  select ceil(extract(epoch from realtime._messages_retention()) / 86400)::int
$$;
comment on function realtime.admin_retention_days() is
  'For how many days messages are kept, rounded up; NULL: for ever. For the sidecar''s admin API.';

create function realtime.admin_keep_messages(days int) returns void
  language sql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
  update realtime.settings s set value = coalesce(days || ' days', 'forever') where s.name = 'messages_retention'
$$;
comment on function realtime.admin_keep_messages(int) is 'Keeps messages for so many days; NULL: for ever. For the sidecar''s admin API.';
