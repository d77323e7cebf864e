-- Messages: what was published, by a trigger or by a client.
--
-- A message is stored once, here, for people, policies and history; its row in the log carries only its id.
-- Who may publish is said by INSERT policies. A caller gives a channel, an event and a payload and nothing else: the
-- triggers below set the id, the sender, the time and the channel's row, so none of them can be forged.
-- channel_id has no foreign key: one would make a user's write wait for, or fail by, somebody else's change of channels.

create table realtime.messages (
  id                 uuid primary key default gen_random_uuid(),
  event_name         text not null check (event_name <> '' and octet_length(event_name) <= 255),
  channel_id         uuid,
  channel_name       text not null,
  payload            jsonb not null default '{}',
  sender_type        text not null default 'system' check (sender_type in ('system', 'user')),
  sender_id          uuid,
  sender             text,
  ws_audience_count  int not null default 0,
  wh_audience_count  int not null default 0,
  wh_delivered_count int not null default 0,
  created_at         timestamptz not null default now()
) with (fillfactor = 90);  -- room for the counters, which stand in no index: their updates stay on the page
create index messages_channel_name_created_at on realtime.messages (channel_name, created_at);
-- For the worker, which looks for old ones every ten seconds and must not read all others, and for lists of the newest.
create index messages_created_at on realtime.messages (created_at);
comment on table realtime.messages is 'Published messages. INSERT policies decide who may publish. Not dumped: a restore must not send them again.';
comment on column realtime.messages.ws_audience_count is 'Subscriptions that the message was delivered to while it was new.';
comment on column realtime.messages.wh_audience_count is 'Webhooks of the channel when the message was published.';
comment on column realtime.messages.wh_delivered_count is 'Webhooks that have answered with success.';
comment on column realtime.messages.sender is 'Subject (sub) of the sender''s token, in full; sender_id holds it when it is a uuid.';
alter table realtime.messages enable row level security;
grant insert (channel_name, event_name, payload) on realtime.messages to public;

-- Whom a token is about: sub, or what other systems call it.
create function realtime._subject(claims jsonb) returns text
  language sql immutable parallel safe
  return coalesce(claims ->> 'sub', claims ->> 'user_id', claims ->> 'uid');

-- Runs as whoever inserts. Those whom the policies do not bind (owner, superuser, BYPASSRLS) are the system.
create function realtime._stamp_sender() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  claims constant jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
begin
  if row_security_active('realtime.messages'::regclass) then
    new.sender_type := 'user';
    new.sender := realtime._subject(claims);
    new.sender_id := case when new.sender ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then new.sender::uuid end;
  else
    new.sender_type := 'system';
    new.sender := null;
    new.sender_id := null;
  end if;
  return new;
end $$;

-- What is wrong with an event's name; null when nothing is. Clients of Socket.IO take some names for news of their own
-- connection, and others for news of the server: those are no client's to send.
create function realtime._event_name_error(name text, sender_type text) returns text
  language sql immutable parallel safe
  return case
    when coalesce(name, '') = '' or octet_length(name) > 255 then 'must have 1 to 255 bytes'
    when name in ('connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener')
      then 'is one that clients take for news of their own connection'
    when sender_type = 'user' and name in ('realtime:error', 'realtime:gap', 'presence:join', 'presence:leave', 'presence:sync')
      then 'is one that clients take for news of the server'
  end;

-- Runs as the owner, who sees every channel.
create function realtime._stamp_message() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  fault constant text := realtime._channel_name_error(new.channel_name);
  event_fault constant text := realtime._event_name_error(new.event_name, new.sender_type);
begin
  if fault is not null then
    raise exception 'channel name %', fault using errcode = 'invalid_parameter_value',
      hint = 'Channel names have 1 to 255 bytes, no control characters and no %.';
  elsif event_fault is not null then
    raise exception 'event name %', event_fault using errcode = 'invalid_parameter_value',
      hint = 'Event names have 1 to 255 bytes and are none of connect, connect_error, disconnect, disconnecting, newListener, removeListener.';
  end if;
  new.id := coalesce(nullif(current_setting('realtime.message_id', true), '')::uuid, gen_random_uuid());
  new.channel_id := realtime._best_channel(new.channel_name);
  new.payload := coalesce(new.payload, '{}');
  new.ws_audience_count := 0;
  new.wh_audience_count := coalesce((select cardinality(array_remove(c.webhook_urls, null)) from realtime.channels c where c.id = new.channel_id), 0);
  new.wh_delivered_count := 0;
  new.created_at := clock_timestamp();
  return new;
end $$;

create function realtime._message_change() returns trigger
  language c as 'MODULE_PATHNAME', 'message_change';

create trigger a_stamp_sender before insert on realtime.messages for each row execute function realtime._stamp_sender();
create trigger b_stamp_message before insert on realtime.messages for each row execute function realtime._stamp_message();
create trigger capture after insert on realtime.messages for each row execute function realtime._message_change();

create function realtime.publish(channel text, event text, payload jsonb default '{}') returns uuid
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set realtime.message_id = ''
as $$
declare
  fault constant text := realtime._channel_name_error(channel);
  event_fault constant text := realtime._event_name_error(event, 'system');
  message uuid;
begin
  -- Called from triggers: a message that cannot be sent must not cost anybody their write.
  if fault is not null then
    raise warning 'realtime.publish: nothing sent, the channel name %', fault;
    return null;
  elsif event_fault is not null then
    raise warning 'realtime.publish: nothing sent, the event name %', event_fault;
    return null;
  elsif realtime._best_channel(channel) is null then
    raise warning 'realtime.publish: nothing sent, no enabled channel matches "%"', channel
      using hint = 'insert into realtime.channels (pattern) values (...)';
    return null;
  end if;
  insert into realtime.messages (channel_name, event_name, payload) values (channel, event, coalesce(payload, '{}'))
    returning id into message;
  return message;
end $$;
comment on function realtime.publish(text, text, jsonb) is
  'Publishes a message with this transaction. Grant EXECUTE to the owners of the trigger functions that call it. No matching channel: a warning and NULL.';

create function realtime.cleanup_messages(batch int default 1000) returns int
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  keep constant interval := realtime._messages_retention();
  -- Once: an index cannot be asked for what is less than a value that changes while it is read.
  cutoff constant timestamptz := clock_timestamp() - keep;
  n int;
begin
  if keep is null then
    return 0;
  end if;
  with old as (
    select m.id from realtime.messages m
     where m.created_at < cutoff
     order by m.created_at limit batch for update skip locked)
  delete from realtime.messages m using old where m.id = old.id;
  get diagnostics n = row_count;
  return n;
end $$;
comment on function realtime.cleanup_messages(int) is 'Deletes up to `batch` messages older than the setting messages_retention and says how many. The worker calls it.';
