-- Ticks: what has committed becomes readable, in one order, for everybody.
--
-- A tick stores pg_current_snapshot(). Its batch is what is visible in it and was not in the tick before: the rows of
-- transactions that began since, and of those that were in progress then and have ended. No watermark: a transaction
-- that stays open for an hour holds up nobody, its rows come with the first tick after its commit.
--
-- The tick row records the batch's order. Readers look it up and check that what they find is what was announced;
-- nobody computes a snapshot difference twice, and nobody sorts.
--
-- A tick is durable before anybody can see it. Otherwise a crash could take back a tick that a client had already seen,
-- and the same offset would name another event. (It lies behind every commit record of its batch, so a delivered event
-- is durable even when its writer chose synchronous_commit = off.) The NOTIFY follows in a transaction of its own,
-- asynchronous: NOTIFY holds a cluster-wide lock until its commit is flushed, which must not be a disk's turn long.

create function realtime._history() returns text
  language c volatile as 'MODULE_PATHNAME', 'history_identity';
comment on function realtime._history() is 'Which history this is: system identifier and database. Offsets mean nothing in another one.';

create function realtime._incarnation() returns text
  language c volatile as 'MODULE_PATHNAME', 'incarnation_identity';
comment on function realtime._incarnation() is 'Which life of the server this is: timeline and start.';

-- Where a new life begins: behind all that the last one may have given after what we know of it (a lost tail has fewer
-- than 2^30 events), and at another place than any other life that went on from the same tick. There may be one: a server
-- that restarted before its standby took its place, a disk that was put back twice. The clock tells them apart.
create function realtime._jump(last_offset bigint, at timestamptz) returns bigint
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select greatest(last_offset + (1::bigint << 30) + greatest(now.us - (extract(epoch from at) * 1000000)::bigint, 0), now.us)
    from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint as us) now
$$;

-- The runs of those of these transactions that have ended. Stable, so that it sees what the statement sees that calls it; in a
-- statement of its own, so that a tick without any does not begin by opening all segments a second time.
create function realtime._runs_of_ended(transactions xid8[], snapshot pg_snapshot) returns table (xid xid8, seq bigint, run int4)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select l.xid, l.seq, l.run from unnest(transactions) x join realtime.log l on l.xid = x and l.run is not null
     where pg_visible_in_snapshot(x, snapshot);
end $$;

create function realtime._tick(export boolean, out tick_id bigint, out first_offset bigint, out last_offset bigint, out events bigint, out exported text)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
  set plan_cache_mode = force_generic_plan set jit = off
  -- Whoever is ours gives way: DROP EXTENSION and the like must not deadlock with us. The next look tries again.
  set lock_timeout = '500ms'
as $$
#variable_conflict use_column
declare
  me record; previous record; torn record; batch record; old_xmax xid8; near xid8; far xid8[]; old_snapshot pg_snapshot; next_offset bigint;
  fresh constant bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'realtime.tick() runs in READ COMMITTED only' using errcode = 'invalid_transaction_state',
      hint = 'Call it alone, in autocommit mode.';
  end if;
  if pg_current_xact_id_if_assigned() is not null then
    raise exception 'realtime.tick() must come first in its transaction' using errcode = 'invalid_transaction_state',
      hint = 'Call it alone, in autocommit mode.';
  end if;
  -- A statement of its own: what follows must see the tick of whoever held the lock before us.
  lock table realtime.ticker in share update exclusive mode;
  perform set_config('synchronous_commit', 'on', true);
  select realtime._history() as history, realtime._incarnation() as incarnation into me;
  select t.* into previous from realtime.ticks t order by t.id desc limit 1;

  select s.is_torn, greatest(s.floor_tick - 1, previous.id) as last_tick,
         greatest(previous.last_offset, s.floor_offset, s.begun_at) as last_offset into torn from realtime.state s;

  if previous.id is null and not torn.is_torn then
    -- Compared with the empty snapshot, everything that committed before this first tick is new to the second.
    perform realtime._mark(1, me.history, me.incarnation, '1:1:', fresh);
    select 1, fresh, fresh, 0 into tick_id, first_offset, last_offset, events;
    return;
  end if;
  if torn.is_torn then
    -- Nobody knows how many offsets were given in the ticks that are lost; these are more.
    next_offset := realtime._jump(coalesce(torn.last_offset, 0) + (1::bigint << 40), coalesce(previous.at, clock_timestamp()));
    perform realtime._forget(torn.last_tick, next_offset - 1);
    perform realtime._mark(torn.last_tick + 1, me.history, me.incarnation, pg_current_snapshot(), next_offset);
    update realtime.state set is_torn = false;
    select torn.last_tick + 1, next_offset, next_offset, 0 into tick_id, first_offset, last_offset, events;
    return;
  end if;
  if previous.history <> me.history or pg_snapshot_xmax(previous.snapshot) > pg_snapshot_xmax(pg_current_snapshot()) then
    -- Another cluster's or database's transaction ids: nothing in this log can be compared with ours.
    next_offset := realtime._jump(previous.last_offset, previous.at);
    perform realtime._forget(previous.id, next_offset - 1);
    perform realtime._mark(previous.id + 1, me.history, me.incarnation, pg_current_snapshot(), next_offset);
    select previous.id + 1, next_offset, next_offset, 0 into tick_id, first_offset, last_offset, events;
    return;
  end if;

  old_snapshot := previous.snapshot;
  old_xmax := pg_snapshot_xmax(old_snapshot);
  near := old_xmax;
  if pg_snapshot_xmin(old_snapshot) < old_xmax then
    -- Most of those that were in progress then had begun just before. They lie together, from `near` on, and are read in one
    -- go with what is new; some that are known already lie between, so it is not gone back far. The others are `far`.
    select coalesce(min(x) filter (where is_near), old_xmax), array_agg(x) filter (where not is_near) into near, far
      from (select x, x::text::bigint > old_xmax::text::bigint - 1000 as is_near from pg_snapshot_xip(old_snapshot) x) x;
  end if;
  -- A new life of the server may have lost the end of the last one: the hole marks a lost tail as lost.
  next_offset := case when previous.incarnation = me.incarnation then previous.last_offset + 1
                      else realtime._jump(previous.last_offset, previous.at) end;

  -- Snapshot, visibility, count and order in ONE statement: the counts are those of the snapshot that is stored.
  with
    now as materialized (select pg_current_snapshot() as snapshot),
    found as (
      select l.xid, l.seq, l.run from realtime.log l
       where l.run is not null and l.xid >= near and l.xid < (select pg_snapshot_xmax(snapshot) from now)
         and pg_visible_in_snapshot(l.xid, (select snapshot from now)) and not pg_visible_in_snapshot(l.xid, old_snapshot)
      union all
      select l.* from realtime._runs_of_ended(far, (select snapshot from now)) l where far is not null),
    runs as (
      -- Ordered once: the aggregates below take the rows as they come.
      select xid, seq - run + 1 as seq, run as n, max(seq) over (partition by xid) as last_seq from found
       order by last_seq, xid, seq),
    ordered as (
      select sum(n)::bigint as n, array_agg(xid) as xids, array_agg(seq) as seqs, array_agg(n) as counts from runs)
  select now.snapshot, ordered.*, case when export then pg_export_snapshot() end as exported into batch from now, ordered;
  exported := batch.exported;
  last_offset := previous.last_offset;

  if batch.n > 0 then
    perform realtime._store_tick(previous.id + 1, me.history, me.incarnation, batch.snapshot,
      next_offset, next_offset + batch.n - 1, batch.xids, batch.seqs, batch.counts);
    select previous.id + 1, next_offset, next_offset + batch.n - 1, batch.n into tick_id, first_offset, last_offset, events;
  end if;
end $$;

-- Not in language sql, which would be parsed and planned anew at every tick.
create function realtime.tick(out tick_id bigint, out first_offset bigint, out events bigint) returns setof record
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query select t.tick_id, t.first_offset, t.events from realtime._tick(false) t where t.tick_id is not null;
end $$;
comment on function realtime.tick() is
  'Makes what has committed readable, as the worker does. Called by a sidecar when there is none; alone, in autocommit mode. No row: nothing new.';

create function realtime._store_tick(id bigint, history text, incarnation text, snapshot pg_snapshot,
    first_offset bigint, last_offset bigint, xids xid8[], seqs bigint[], counts int4[]) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  k constant int := (select s.segment from realtime.state s);
  at constant timestamptz := clock_timestamp();
begin
  -- Static statements: a dynamic one would be planned anew at every tick.
  case k
    when 0 then insert into realtime.tick_0 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
    when 1 then insert into realtime.tick_1 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
    when 2 then insert into realtime.tick_2 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
    when 3 then insert into realtime.tick_3 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
    when 4 then insert into realtime.tick_4 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
    when 5 then insert into realtime.tick_5 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
    when 6 then insert into realtime.tick_6 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
    when 7 then insert into realtime.tick_7 values (id, history, incarnation, snapshot, first_offset, last_offset, xids, seqs, counts, at);
  end case;
end $$;

-- The first tick of a history has no events and takes one offset, so that there always is a head to start from.
create function realtime._mark(id bigint, history text, incarnation text, snapshot pg_snapshot, first_offset bigint) returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  update realtime.state set begun_at = first_offset;
  select realtime._store_tick(id, history, incarnation, snapshot, first_offset, first_offset, '{}', '{}', '{}')
$$;

-- Empties the log for a new history. NOWAIT: a writer must never queue behind us; the next tick tries again.
create function realtime._forget(last_tick bigint, last_offset bigint) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  for k in 0..7 loop
    execute format('lock table realtime.log_%s, realtime.tick_%1$s in access exclusive mode nowait', k);
  end loop;
  for k in 0..7 loop
    execute format('truncate realtime.log_%s, realtime.tick_%1$s', k);
  end loop;
  -- Nobody resumes from before, so no table has changed since; and rows of the catalog were written anew by pg_upgrade.
  delete from realtime._watched;
  update realtime.state set segment = 0, floor_tick = last_tick + 1, floor_offset = last_offset, switched_at = clock_timestamp();
end $$;

create function realtime.ring() returns void
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  notify realtime;
end $$;
comment on function realtime.ring() is 'Tells every sidecar to look into the log. A hint: losing it costs one poll interval.';
