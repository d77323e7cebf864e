-- Webhooks: what is to be sent where, and what came of it.
--
-- A message whose channel has webhook_urls gets one row here for each of them, in its own transaction: a delivery exists if
-- and only if its message was committed, and no restart forgets it. One sidecar at a time sends, elected by an advisory
-- lock of its own session: when the session ends the lock goes, and with it the right to claim anything.
-- A claimed row carries a lease: what a sender that is gone had in hand is tried again. So a receiver gets a message at least
-- once, and knows a repetition by the message's id.
--
-- Nothing here may cost a user's write. The insert has no constraint that data could break, waits for no row, and takes no
-- value from a sequence (the user's lastval() would change). A url that cannot be asked is recorded, not raised.

create table realtime.webhook_deliveries (
  id              uuid primary key default gen_random_uuid(),
  message_id      uuid not null,
  channel_id      uuid,
  url             text not null,
  host            text collate "C" not null,  -- of the url, with its port: no host may take all of the sender's hands
  state           text not null,      -- pending, sending, delivered, failed
  attempts        int not null default 0,
  next_attempt_at timestamptz,        -- pending: when it is due; sending: when the lease ends; NULL: it is over
  last_status     int,
  last_error      text,
  created_at      timestamptz not null,
  delivered_at    timestamptz
) with (fillfactor = 80);
create index webhook_deliveries_due on realtime.webhook_deliveries (host, next_attempt_at) where next_attempt_at is not null;
create index webhook_deliveries_created_at on realtime.webhook_deliveries (created_at);
comment on table realtime.webhook_deliveries is
  'One row for each webhook of each message: what became of it. Kept as long as the log; not dumped, a restore must not send them again.';
comment on column realtime.webhook_deliveries.state is 'pending, sending, delivered or failed.';
comment on column realtime.webhook_deliveries.attempts is 'Requests that have ended, with an answer or without.';
alter table realtime.webhook_deliveries enable row level security;
-- A subscriber of a publication of all tables would send them too.
select realtime._keep_ours('realtime.webhook_deliveries');

-- Host and port as the url has them; NULL when it is no http or https address. The sidecar reads the url for itself.
create function realtime._webhook_host(url text) returns text
  language sql immutable strict parallel safe
  return lower(substring(url from '(?i)^https?://(?:[^/?#@]*@)?([^/?#@[:space:][:cntrl:]]{1,255})(?:[/?#]|$)'));

-- Fires for messages with webhooks only, which the message itself says: wh_audience_count.
create function realtime._enqueue_webhooks() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into realtime.webhook_deliveries (message_id, channel_id, url, host, state, next_attempt_at, last_error, created_at)
  select new.id, new.channel_id, u.url, coalesce(h.host, ''), case when h.host is null then 'failed' else 'pending' end,
         case when h.host is not null then new.created_at end, case when h.host is null then 'the url is no http or https address' end, new.created_at
    from realtime.channels c, unnest(c.webhook_urls) u(url), realtime._webhook_host(u.url) h(host)
   where c.id = new.channel_id and u.url is not null;
  return null;
end $$;
create trigger enqueue_webhooks after insert on realtime.messages
  for each row when (new.wh_audience_count > 0) execute function realtime._enqueue_webhooks();

-- The lock goes with the session. A session that has it must not ask again.
create function realtime.elect_webhook_sender() returns boolean
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not pg_try_advisory_lock('pg_class'::regclass::oid::int, 'realtime.webhook_deliveries'::regclass::oid::int) then
    return false;
  end if;
  -- Nobody else sends now: what was in hand when the last sender ended need not wait for its lease.
  update realtime.webhook_deliveries d set next_attempt_at = clock_timestamp() where d.state = 'sending' and d.next_attempt_at is not null;
  return true;
end $$;
comment on function realtime.elect_webhook_sender() is
  'Makes this session the one that sends webhooks, until it ends. False: another one is.';

-- The hosts that something waits for, found by jumping from one to the next in the index: what waits for one that hangs is
-- not looked through to find what is due for the others.
create function realtime._webhook_hosts() returns table (host text)
  language plpgsql stable rows 10
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with recursive hosts(host) as (
    (select d.host from realtime.webhook_deliveries d where d.next_attempt_at is not null order by d.host limit 1)
    union all
    select (select d.host from realtime.webhook_deliveries d where d.next_attempt_at is not null and d.host > h.host order by d.host limit 1)
      from hosts h where h.host is not null
  )
  select h.host from hosts h where h.host is not null;
end $$;

-- Takes up to `wanted` deliveries that are due, the oldest first. `hosts` are those that are being asked now, `places` how many
-- more requests each may have; any other host may have `host_places`.
create function realtime.claim_webhooks(wanted int, host_places int, hosts text[], places int[], lease_ms int, payload_bytes_max int)
  returns table (id uuid, url text, host text, attempts int, message_id uuid, channel text, event text, payload text, is_oversize boolean)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
  moment constant timestamptz := clock_timestamp();  -- as a constant it is looked up in the index
begin
  return query
  with due as (
    select d.id, d.next_attempt_at
      from realtime._webhook_hosts() w
      left join unnest(hosts, places) h(host, places) on h.host = w.host
     cross join lateral (
        select d.id, d.next_attempt_at from realtime.webhook_deliveries d
         where d.host = w.host and d.next_attempt_at <= moment
         order by d.next_attempt_at limit coalesce(h.places, host_places)) d
     order by d.next_attempt_at limit wanted
  ), mine as (
    select d.id from realtime.webhook_deliveries d join due on due.id = d.id for no key update of d skip locked
  ), claimed as (
    update realtime.webhook_deliveries d set state = 'sending', next_attempt_at = moment + lease_ms * interval '1 ms'
      from mine where d.id = mine.id
    returning d.id, d.url, d.host, d.attempts, d.message_id, d.created_at
  )
  select c.id, c.url, c.host, c.attempts, c.message_id, m.channel_name, m.event_name,
         case when octet_length(t.payload) <= payload_bytes_max then t.payload end, octet_length(t.payload) > payload_bytes_max
    from claimed c left join realtime.messages m on m.id = c.message_id left join lateral (select m.payload::text offset 0) t(payload) on true
   order by c.created_at;
end $$;
comment on function realtime.claim_webhooks(int, int, text[], int[], int, int) is
  'Takes deliveries that are due and leases them to the caller, no more for each host than it may have. A message that was deleted since has no channel.';

-- Milliseconds until the next delivery is due for a host that is not busy; NULL when none waits.
create function realtime.webhook_wait_ms(busy text[]) returns int
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
  return (select greatest(0, least(86400000, ceil(extract(epoch from min(d.next_attempt_at) - clock_timestamp()) * 1000)))
            from realtime._webhook_hosts() w cross join lateral (
              select d.next_attempt_at from realtime.webhook_deliveries d
               where d.host = w.host and d.next_attempt_at is not null order by d.next_attempt_at limit 1) d
           where w.host <> all (busy)
          having count(*) > 0);
end $$;
comment on function realtime.webhook_wait_ms(text[]) is 'Milliseconds until the next webhook delivery is due, but for these hosts; NULL when none is.';

-- What became of what was claimed, one element for each: `retry_ms` says when it is tried again. With `is_counted`, those that
-- were delivered are counted with their messages; given back are messages that somebody else has locked, to be counted later.
create function realtime.finish_webhooks(ids uuid[], delivered boolean[], statuses int[], errors text[], retry_ms int[], is_counted boolean)
  returns table (message_id uuid, webhooks int)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with finished as (
    update realtime.webhook_deliveries d
       set attempts = d.attempts + 1, last_status = o.status, last_error = o.error,
           state = case when o.delivered then 'delivered' when o.retry_ms is null then 'failed' else 'pending' end,
           next_attempt_at = case when not o.delivered then clock_timestamp() + o.retry_ms * interval '1 ms' end,
           delivered_at = case when o.delivered then clock_timestamp() end
      from unnest(ids, delivered, statuses, errors, retry_ms) o(id, delivered, status, error, retry_ms)
     where d.id = o.id and d.state = 'sending'
    returning d.message_id, d.state
  ), more as (
    select f.message_id, count(*)::int as webhooks from finished f where f.state = 'delivered' and is_counted group by 1
  ), mine as (
    select m.id, more.webhooks from realtime.messages m join more on more.message_id = m.id for no key update of m skip locked
  ), counted as (
    update realtime.messages m set wh_delivered_count = m.wh_delivered_count + mine.webhooks from mine where m.id = mine.id returning m.id
  )
  select more.message_id, more.webhooks from more join realtime.messages m on m.id = more.message_id
   where more.message_id not in (select c.id from counted c);
end $$;
comment on function realtime.finish_webhooks(uuid[], boolean[], int[], text[], int[], boolean) is
  'Records what became of claimed deliveries: delivered, tried again after so many milliseconds, or failed. Gives what could not be counted yet.';

-- Adds to the counters of messages, one statement for many. It never waits: a message that somebody else has locked is given
-- back, to be counted at the next turn. So it can neither hold up a user's transaction for long nor be part of a deadlock.
create function realtime.count_messages(ids uuid[], subscribers int[], webhooks int[]) returns setof uuid
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
  return query
  with mine as (
    select m.id from realtime.messages m where m.id = any (ids) for no key update skip locked
  ), counted as (
    update realtime.messages m
       set ws_audience_count = m.ws_audience_count + n.subscribers, wh_delivered_count = m.wh_delivered_count + n.webhooks
      from mine, unnest(ids, subscribers, webhooks) n(id, subscribers, webhooks)
     where m.id = mine.id and n.id = m.id
    returning m.id
  )
  select m.id from realtime.messages m where m.id = any (ids) and m.id not in (select c.id from counted c);
end $$;
comment on function realtime.count_messages(uuid[], int[], int[]) is
  'Adds to ws_audience_count and wh_delivered_count of messages. Gives the ids that were locked: they are to be counted later.';

create function realtime.cleanup_webhook_deliveries(batch int default 1000) returns int
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  cutoff constant timestamptz := clock_timestamp() - realtime._setting('log_retention')::interval;
  n int;
begin
  with old as (
    select d.id from realtime.webhook_deliveries d
     where d.created_at < cutoff
     order by d.created_at limit batch for update skip locked)
  delete from realtime.webhook_deliveries d using old where d.id = old.id;
  get diagnostics n = row_count;
  return n;
end $$;
comment on function realtime.cleanup_webhook_deliveries(int) is
  'Deletes up to `batch` webhook deliveries older than the setting log_retention and says how many. The worker calls it.';
