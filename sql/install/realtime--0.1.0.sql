\echo Use "CREATE EXTENSION realtime" to load this file. \quit

-- ==== schema.sql ====

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

-- ==== settings.sql ====

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

-- ==== log.sql ====

-- The log: segments, layouts, ticks.
--
-- One row per event, written by the transaction that made it, so that an event exists if and only if its transaction
-- committed. The rows lie in a fixed set of plain tables made here and never altered: a writer never meets DDL.
-- A row carries `xid`, its transaction, and `seq`, its place in it. The transaction's LAST seq is its place among
-- the transactions of one tick. It is taken at PRE_COMMIT, after deferred constraints and triggers have run: a value
-- taken in the trigger itself would put the second of two transactions that swap a deferrable key before the first.
--
-- seq is the server's WAL insert position at that moment, plus the row's number. Whoever waited for a transaction, or
-- read what it committed, takes a position behind that transaction's commit record, which lies behind its rows: so
-- conflicting transactions are ordered as they happened. Two that met at the same byte had nothing to do with each
-- other; xid decides. A sequence would order as well, but nextval() changes what the user's own lastval() returns.

-- Row images are heap tuples, not JSON: 0.6 microseconds to make instead of 10, and no value is lost on the way.
-- A tuple means nothing without the column list it was formed by, so every image names its layout. A layout is never
-- changed and never removed: a rename, a new column, a new key make another one. `id` is a hash of all that follows it.
-- There is no unique constraint: two writers who meet a new layout at once both store it, and neither waits.

create table realtime.layouts (
  id        bigint not null,
  relations oid[]  not null,   -- the table, then its partition ancestors
  schemas   text[] not null,   -- their names, as of the change
  tables    text[] not null,
  key       text[],            -- primary key or replica identity index, NULL without one
  names     text[] not null,   -- from here on: one element per attribute number
  types     oid[]  not null,   -- 0: dropped
  typmods   int4[] not null,
  lengths   int2[] not null,
  byvals    bool[] not null,
  aligns    "char"[] not null,
  hidden    bool[] not null    -- left out by the table's `exclude` option
) with (autovacuum_enabled = off);
create index layouts_id on realtime.layouts (id);
comment on table realtime.layouts is 'Column lists that the row images in the log were formed by.';

-- A segment is one log table and one tick table, given back together by TRUNCATE. Eight segments: retention is six
-- periods of one segment each, one more is being filled and one is free when the next period begins.
--
-- A run is a row of consecutive places that one transaction wrote at once, mostly all it wrote; its last row says how many
-- rows it has. Each row is in one of two indexes, so that a writer pays for one: the ends of runs are in the one, the rows
-- before them in the other. The ticker wants to know how many rows a transaction has and not look at each, so it reads the
-- first alone. Readers know runs from the tick: the end of one is at (xid, seq + n - 1), the others are before it.
-- Whoever looks for transactions must say `run is not null`, and whoever wants all rows must ask twice.
-- Autovacuum would only find rows of rolled-back transactions, and they go with the segment.

do $$
begin
  for k in 0..7 loop
    execute format('create table realtime.log_%s (
        xid        xid8        not null,
        seq        bigint      not null,
        layout     bigint      not null,   -- 0 for messages
        at         timestamptz not null,
        run        int4,                   -- this row ends a run of so many rows
        flags      int2        not null,   -- 1: old holds the key only, 2: new holds the key only, 4: oversize,
                                           -- 8: gap because capture was off, 16: because the log was full,
                                           -- 32: because the order of the events could not be had,
                                           -- 64: because rows changed without events
        op         "char"      not null,   -- I U D T(runcate) M(essage) G(ap) C(ommit of a spilled transaction)
        message_id uuid,
        old_tid    tid,
        new_tid    tid,
        old        bytea,
        new        bytea
      ) with (autovacuum_enabled = off, toast.autovacuum_enabled = off)', k);
    -- Images are stored as they are: compressing them would cost the writer more than the space is worth.
    execute format('alter table realtime.log_%s alter old set storage external, alter new set storage external', k);
    execute format('create index log_%s_run on realtime.log_%1$s (xid, seq) include (run) where run is not null', k);
    execute format('create index log_%s_inner on realtime.log_%1$s (xid, seq) where run is null', k);
    execute format('create table realtime.tick_%s (
        id           bigint      primary key,
        history      text        not null,   -- server identity and database: offsets mean nothing elsewhere
        incarnation  text        not null,   -- timeline and start of the server
        snapshot     pg_snapshot not null,
        first_offset bigint      not null,
        last_offset  bigint      not null,
        xids         xid8[]      not null,   -- the batch in its order, run by run:
        seqs         bigint[]    not null,   -- whose, from which seq on,
        counts       int4[]      not null,   -- how many
        at           timestamptz not null
      ) with (autovacuum_enabled = off, toast.autovacuum_enabled = off,
              toast_tuple_target = 8160)', k);  -- a batch of some hundred transactions lies in its row
    execute format('alter table realtime.tick_%s alter xids set storage external, alter seqs set storage external, alter counts set storage external', k);
    execute format('create unique index tick_%s_first_offset on realtime.tick_%1$s (first_offset)', k);
  end loop;
end $$;

create view realtime.log as
  select 0 as segment, * from realtime.log_0 union all select 1, * from realtime.log_1
  union all select 2, * from realtime.log_2 union all select 3, * from realtime.log_3
  union all select 4, * from realtime.log_4 union all select 5, * from realtime.log_5
  union all select 6, * from realtime.log_6 union all select 7, * from realtime.log_7;
comment on view realtime.log is 'All segments of the log. For the owner; clients are served by realtime.read().';

create view realtime.ticks as
  select 0 as segment, * from realtime.tick_0 union all select 1, * from realtime.tick_1
  union all select 2, * from realtime.tick_2 union all select 3, * from realtime.tick_3
  union all select 4, * from realtime.tick_4 union all select 5, * from realtime.tick_5
  union all select 6, * from realtime.tick_6 union all select 7, * from realtime.tick_7;
comment on view realtime.ticks is 'Batches of the log: which transactions, in which order, at which offsets.';

-- What only rotation changes. `floor_tick` is stored, not computed: a slot that could not be given back in its turn
-- may still hold older ticks, and they do not count any more. `floor_offset` is the last offset that went.

create table realtime.state (
  one          bool primary key default true check (one),
  segment      int4 not null,
  floor_tick   bigint not null,
  floor_offset bigint,
  begun_at     bigint,               -- the first offset of this history
  size_max     bigint not null,      -- the setting log_max_size, in bytes, where capture looks
  is_full      bool not null default false,  -- over it, and nothing can be given back
  switched_at  timestamptz not null,
  full_at      timestamptz,          -- when it was full last, for a while after: whoever finds it so after a crash owes a mark
  is_torn      bool not null default false   -- another server's TRUNCATE has come in: the next tick begins a new history
) with (fillfactor = 10);
insert into realtime.state (segment, floor_tick, size_max, switched_at)
  select 0, 1, pg_size_bytes(realtime._setting('log_max_size')), clock_timestamp();

create function realtime._note_size() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  update realtime.state set size_max = pg_size_bytes(new.value);
  return null;
end $$;
create trigger note_size after insert or update on realtime.settings
  for each row when (new.name = 'log_max_size') execute function realtime._note_size();
comment on table realtime.state is 'The segment being written, the floor of the log and the beginning of its history. Written by rotation, and when a history begins.';

-- What tickers lock, one at a time. A table of our own rather than an advisory key: any user can take an advisory key.
create table realtime.ticker ();
comment on table realtime.ticker is 'Lock target: whoever writes ticks holds it.';

-- A publication FOR ALL TABLES has these tables in it as well. What another server's realtime says of its own log must not
-- come into ours: its transaction ids and places mean nothing here, and a row with a key that ours has already would end
-- the subscription with an error. So logical replication finds that its rows are taken, and nothing happens. The triggers
-- fire where logical replication writes and for sessions with `session_replication_role = replica`, never otherwise.
create function realtime._ours_alone() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Deeper down it is ourselves, below.
  if pg_trigger_depth() = 1 and exists (select from pg_stat_get_activity(pg_backend_pid()) a where a.backend_type like 'logical replication%') then
    return null;
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end $$;

-- A TRUNCATE cannot be taken without being done. What is left of the log then is not what was announced.
create function realtime._torn() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  update realtime.state set is_torn = true
   where exists (select from pg_stat_get_activity(pg_backend_pid()) a where a.backend_type like 'logical replication%');
  return null;
end $$;

create function realtime._keep_ours(relation regclass) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create trigger ours_alone before insert or update or delete on %s for each row execute function realtime._ours_alone()', relation);
  execute format('alter table %s enable replica trigger ours_alone', relation);
end $$;

do $$
begin
  perform realtime._keep_ours(c.oid) from pg_class c
    where c.relnamespace = 'realtime'::regnamespace and (c.relname ~ '^(log|tick)_[0-7]$' or c.relname in ('layouts', 'state', 'settings'));
  for k in 0..7 loop
    execute format('create trigger torn before truncate on realtime.log_%s for each statement execute function realtime._torn()', k);
    execute format('alter table realtime.log_%s enable replica trigger torn', k);
  end loop;
end $$;

-- ==== tick.sql ====

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

-- ==== rotate.sql ====

-- Retention: whole segments, by TRUNCATE, never by DELETE, and never by anything that a writer could wait for.
--
-- A segment may go when all its ticks are older than the retention and no later tick points into it. A transaction may
-- write into a segment long after that stopped being the current one (it took its snapshot before the switch, or it was
-- prepared), so the segment is locked first, NOWAIT, and its rows are looked at in the NEXT statement, whose snapshot
-- is newer than the lock. What cannot go now goes in a later turn; the others do not wait for it.

create function realtime.rotate() returns text
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set jit = off set lock_timeout = '500ms'
as $$
declare
  now_state record; last_dropped record; reached bigint := 0; done text := '';
  keep constant interval := realtime._setting('log_retention')::interval;
  bytes_max constant bigint := pg_size_bytes(realtime._setting('log_max_size'));
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'realtime.rotate() runs in READ COMMITTED only' using errcode = 'invalid_transaction_state',
      hint = 'Call it alone, in autocommit mode.';
  end if;
  lock table realtime.ticker in share update exclusive mode;
  -- Not waiting for a standby: readers would wait for the segments that are being emptied. A standby that takes over
  -- without this has more of the log, not less.
  perform set_config('synchronous_commit', 'local', true);
  select * into now_state from realtime.state;

  -- What is old goes at once. At the cap one segment after the other goes, the oldest first, until the rest fits: each
  -- time up to the tick that ends a finished segment, because a tick often needs rows in the segment before its own. The
  -- newest tick of all never goes: the next one is counted from it.
  loop
    with ends as (
      select t.* from generate_series(0, 7) k cross join lateral (
               select t.id, t.last_offset, t.snapshot, t.at < clock_timestamp() - keep as is_old
                 from realtime.ticks t where t.segment = k order by t.id desc limit 1) t
       where k <> now_state.segment)
    select e.* into last_dropped from ends e
     where e.id > reached and e.id >= coalesce((select max(o.id) from ends o where o.is_old), 0)
       and e.id < (select t.id from realtime.ticks t order by t.id desc limit 1)
     order by e.id limit 1;
    exit when not found or not last_dropped.is_old and realtime._log_bytes() <= bytes_max;
    reached := last_dropped.id;
    for k in 0..7 loop
      if k <> now_state.segment and realtime._give_back(k, last_dropped.id, last_dropped.last_offset, last_dropped.snapshot) then
        done := done || format('truncated %s; ', k);
      end if;
    end loop;
  end loop;
  done := done || realtime._switch(now_state.segment, now_state.switched_at, keep, bytes_max);
  -- Everything that is left is needed: rather than fill the disk, capture leaves one gap mark from now on.
  update realtime.state s set is_full = f.now, full_at = case when f.now or s.is_full then clock_timestamp() end
    from (select realtime._log_bytes() > bytes_max as now) f
   where s.is_full <> f.now or s.full_at < clock_timestamp() - interval '10 seconds';
  return done;
end $$;
comment on function realtime.rotate() is 'Gives old segments of the log back and begins a new one when it is time. Called by whoever ticks.';

create function realtime._log_bytes() returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where n.nspname = 'realtime' and c.relkind = 'r' and c.relname ~ '^(log|tick)_[0-7]$';
end;

-- Never waits in the queue for the lock, where it would hold up whoever comes after; a busy reader leaves moments between
-- its reads, so it is asked for a few times. Raises lock_not_available when there was none.
create function realtime._lock_segment(k int) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  for attempt in 1..20 loop
    begin
      execute format('lock table realtime.log_%s, realtime.tick_%1$s in access exclusive mode nowait', k);
      return;
    exception when lock_not_available then
      if attempt = 20 then
        raise;
      end if;
      perform pg_sleep(0.005);
    end;
  end loop;
end $$;

-- Truncates segment k when it holds something, nothing newer than tick `last`, and nothing that a later tick needs.
create function realtime._give_back(k int, last bigint, last_offset bigint, last_snapshot pg_snapshot) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  is_so boolean;
begin
  execute format('select exists (select from realtime.tick_%s) or exists (select from realtime.log_%1$s)', k) into is_so;
  if not is_so then return false; end if;
  execute format('select exists (select from realtime.tick_%s where id > $1)', k) into is_so using last;
  if is_so then return false; end if;
  begin
    perform realtime._lock_segment(k);
    execute format('select exists (select from realtime.log_%s where xid >= pg_snapshot_xmax($1) and run is not null)
                        or exists (select from pg_snapshot_xip($1) x join realtime.log_%1$s l on l.xid = x and l.run is not null)', k)
       into is_so using last_snapshot;
    if is_so then
      raise exception 'a later tick needs segment %', k using errcode = 'lock_not_available';
    end if;
    execute format('truncate realtime.log_%s, realtime.tick_%1$s', k);
    update realtime.state set floor_tick = greatest(floor_tick, last + 1),
                              floor_offset = greatest(floor_offset, last_offset);
    return true;
  exception when lock_not_available then
    return false;  -- somebody writes or reads there; its turn comes again
  end;
end $$;

-- At the cap, and also when nobody rotates at all and the segment being written has grown over it, a transaction's events
-- are not written. It says so in shared memory, and the next ticker leaves one mark for all of them. The mark comes after
-- their commits, so whoever starts over at the mark misses nothing. What is written meanwhile begins with a mark of its own:
-- it may build on what is not there.
create function realtime._leave_gap_mark() returns boolean
  language c volatile as 'MODULE_PATHNAME', 'leave_gap_mark';

create function realtime.mark_lost() returns boolean
  language sql security definer
  set search_path = pg_catalog, pg_temp
as $$
  select realtime._leave_gap_mark()
$$;
comment on function realtime.mark_lost() is
  'Leaves a gap mark when events could not be written because the log is at its cap. Called before tick(), in a transaction of its own.';

-- Begins the next segment after a sixth of the retention, or when this one holds a sixth of the size.
create function realtime._switch(k int, since timestamptz, keep interval, size_max bigint) returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  bytes bigint; next int; is_empty boolean;
begin
  execute format('select pg_total_relation_size(''realtime.log_%s'') + pg_total_relation_size(''realtime.tick_%1$s'')', k) into bytes;
  if since > clock_timestamp() - keep / 6 and bytes < size_max / 6 then
    return '';
  end if;
  for i in 1..7 loop
    next := (k + i) % 8;
    execute format('select not exists (select from realtime.tick_%s) and not exists (select from realtime.log_%1$s)', next) into is_empty;
    if is_empty then
      update realtime.state set segment = next, switched_at = clock_timestamp();
      return format('switched to %s', next);
    end if;
  end loop;
  -- All are held: stay here. Retention grows, nothing is lost.
  return 'no free segment';
end $$;

-- ==== capture.sql ====

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

-- ==== watch.sql ====

-- Rows that change without a row event: a partition is attached or detached, a table is rewritten by ALTER TABLE, its
-- trigger is switched off for a while. Event triggers would see it at once, but nothing of ours is made outside of this
-- schema. So it is looked for, every second, by comparing the catalog with what it was; what is found leaves one gap mark
-- on the channels of the table and of its ancestors. Nobody's DDL waits for it: it reads the catalog and locks no table.

create table realtime._watched (
  relation  oid primary key,    -- an enabled table, or a partition of one
  parent    oid,
  file      oid not null,       -- changes when the table is emptied or rewritten; 0 for a partitioned table
  altered   text,               -- changes when ALTER TABLE touches its columns
  columns   jsonb not null,     -- by number: type, modifier, what old rows have in a column that was added later
  triggers  text,               -- changes when its row triggers are made anew, or switched off or on
  misses_truncate boolean not null  -- a partition without the trigger that its root has
) with (fillfactor = 50);
comment on table realtime._watched is 'Enabled tables as they were at the last look, and those that once were enabled.';
select realtime._keep_ours('realtime._watched');

create view realtime._watchable as
  with recursive ours as materialized (
    select t.tgrelid, bool_or(t.tgtype & 32 <> 0) as has_truncate,
           string_agg(t.oid || ' ' || t.xmin::text || ' ' || t.tgenabled::text, ' ' order by t.oid) filter (where t.tgtype & 1 <> 0) as triggers
      from pg_trigger t where t.tgfoid = 'realtime.notify_table_change()'::regprocedure group by t.tgrelid),
  members(relation, parent, root) as (
    select c.oid, null::oid, c.oid from ours join pg_class c on c.oid = ours.tgrelid where not c.relispartition
    union all
    select i.inhrelid, i.inhparent, m.root from members m join pg_inherits i on i.inhparent = m.relation
      join pg_class c on c.oid = i.inhrelid where c.relispartition and not i.inhdetachpending)
  select m.relation, m.parent, c.relfilenode as file,
         (select md5(string_agg(a.xmin::text, ' ' order by a.attnum)) from pg_attribute a where a.attrelid = m.relation and a.attnum > 0) as altered,
         (select coalesce(jsonb_object_agg(a.attnum, jsonb_build_array(a.atttypid::bigint, a.atttypmod, a.attmissingval::text)), '{}')
            from pg_attribute a where a.attrelid = m.relation and a.attnum > 0 and not a.attisdropped) as columns,
         own.triggers, c.relkind = 'r' and root.has_truncate and not coalesce(own.has_truncate, false) as misses_truncate
    from members m join pg_class c on c.oid = m.relation
      left join ours own on own.tgrelid = m.relation left join ours root on root.tgrelid = m.root;

-- Whether anything about any table may have changed since this session asked last.
create function realtime._relations_changed() returns boolean
  language c volatile as 'MODULE_PATHNAME', 'relations_changed';

-- A gap mark for a table, with its ancestors unless they have one of their own. False: somebody holds the table.
create function realtime._leave_gap(relation oid, alone boolean) returns boolean
  language c volatile strict as 'MODULE_PATHNAME', 'leave_gap';

-- Whether rows were not told of when a table became this from that.
create function realtime._rows_changed(was realtime._watched, is_now realtime._watched) returns boolean
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$
  select was.triggers is distinct from is_now.triggers
      or was.file <> is_now.file and (was.altered is distinct from is_now.altered or was.misses_truncate or is_now.misses_truncate)
      or exists (select from jsonb_each(is_now.columns) n left join jsonb_each(was.columns) w on w.key = n.key
                  where case when w.key is null then n.value ->> 2 is not null
                             else w.value -> 0 <> n.value -> 0 or is_now.file = 0 and w.value -> 1 <> n.value -> 1 end)
$$;

-- The first look at a table, made where it is enabled: what happens to it before the next look has something to be compared
-- with. Only its owner may say that this is how it was. What was looked at before stays, it may have missed something.
create function realtime._remember_for(relation oid, caller text) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from pg_class c where c.oid = relation and pg_has_role(caller, c.relowner, 'USAGE')) then
    insert into realtime._watched
      select v.* from realtime._watchable v
       where v.relation = _remember_for.relation or v.relation in (select p.relid from pg_partition_tree(_remember_for.relation::regclass) p)
      on conflict do nothing;
  end if;
end $$;

-- Calls it with its owner's rights, for the current user.
create function realtime._remember(relation regclass) returns void
  language c volatile strict as 'MODULE_PATHNAME', 'remember';

-- A table without a page has no rows. One that somebody holds may have some.
create function realtime._may_have_rows(relation oid) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp set lock_timeout = '20ms'
as $$
begin
  return coalesce(pg_relation_size(relation), 1) > 0
      or exists (select from pg_inherits i where i.inhparent = relation);
exception when lock_not_available then
  return true;
end $$;

-- One look at the catalog, however many tables there are: this comes between two ticks.
create function realtime._notice_changes(always boolean) returns int
  language plpgsql
  set search_path = pg_catalog, pg_temp set jit = off set lock_timeout = '500ms'
as $$
declare
  difference record; told oid[] := '{}'; relation_told oid; n int := 0; seen realtime._watched[]; disabled oid[];
begin
  if not realtime._relations_changed() and not always then
    return 0;
  end if;
  -- Nobody waits for a standby behind this lock. The mark is delivered by a tick, which is on the standby with all before it.
  perform set_config('synchronous_commit', 'local', true);
  -- A statement of its own: what follows must see what whoever held the lock before us has written.
  lock table realtime._watched in share update exclusive mode;
  seen := array(select row(v.*)::realtime._watched from realtime._watchable v);
  for difference in
    select w as was, v as is_now, coalesce(w.relation, v.relation) as relation
      from realtime._watched w full join unnest(seen) v on v.relation = w.relation where w::text is distinct from v::text
      and (v.relation is not null or w.triggers is not null)
  loop
    if (difference.was).relation is null then
      -- New, so nobody has missed anything; but to its parent it brings its rows.
      if exists (select from realtime._watched w where w.relation = (difference.is_now).parent) and realtime._may_have_rows(difference.relation) then
        told := told || (difference.is_now).parent;
      end if;
    elsif (difference.is_now).relation is null then
      told := told || (difference.was).parent;
    else
      if (difference.was).parent is distinct from (difference.is_now).parent then
        told := told || (difference.was).parent || (difference.is_now).parent;
      end if;
      if realtime._rows_changed(difference.was, difference.is_now) then
        told := told || difference.relation;
      end if;
    end if;
  end loop;

  told := array(select distinct t from unnest(told) t join unnest(seen) v on v.relation = t);
  foreach relation_told in array told loop
    if not realtime._leave_gap(relation_told, exists (select from unnest(seen) v where v.relation = relation_told and v.parent = any (told))) then
      raise exception 'table % is locked', relation_told::regclass using errcode = 'lock_not_available', hint = 'It is tried again.';
    end if;
    n := n + 1;
  end loop;

  -- Tables that were enabled and are not now. They are remembered, without triggers: when one is enabled again, whoever
  -- resumes from before has missed what was written meanwhile.
  disabled := array(select w.relation from realtime._watched w join pg_class c on c.oid = w.relation
                     where w.parent is null and not c.relispartition and not exists (select from unnest(seen) v where v.relation = w.relation));
  delete from realtime._watched w
   where not exists (select from unnest(seen) v where v.relation = w.relation and v::text = w::text) and w.relation <> all (disabled);
  update realtime._watched w set triggers = null where w.triggers is not null and w.relation = any (disabled);
  insert into realtime._watched
    select v.* from unnest(seen) v where not exists (select from realtime._watched w where w.relation = v.relation) on conflict do nothing;
  return n;
end $$;

-- ==== channels.sql ====

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

-- ==== messages.sql ====

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

-- ==== webhooks.sql ====

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

-- ==== policies.sql ====

-- Policies on channels and messages, saved for pg_dump.
--
-- pg_dump leaves out the policies of an extension's tables, so a restored database would have its channels and nobody
-- could enter them. This table is dumped instead. It is kept in step every few seconds, and when a restore puts its rows
-- back, a trigger makes the policies that are missing. A policy that cannot be made (its role or function is not there)
-- is a warning: it must not fail the restore.

create table realtime.saved_policies (
  table_name text not null check (table_name in ('channels', 'messages')),
  name       text not null,
  permissive boolean not null,
  command    text not null check (command in ('ALL', 'SELECT', 'INSERT', 'UPDATE', 'DELETE')),
  roles      text[] not null,
  using_expression text,
  check_expression text,
  primary key (table_name, name)
);
comment on table realtime.saved_policies is 'The policies of realtime.channels and realtime.messages, for pg_dump. Kept in step by the worker; do not edit.';
select pg_extension_config_dump('realtime.saved_policies', '');
select realtime._keep_ours('realtime.saved_policies');

-- Deparsed under this search_path every name outside pg_catalog is qualified, so it means the same anywhere.
create view realtime._policies as
  select p.tablename::text collate "default" as table_name, p.policyname::text collate "default" as name,
         p.permissive = 'PERMISSIVE' as permissive, p.cmd as command, p.roles::text[] collate "default" as roles, p.qual as using_expression, p.with_check as check_expression
    from pg_policies p where p.schemaname = 'realtime' and p.tablename in ('channels', 'messages');

create function realtime.save_policies() returns int
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  changed int; n int;
begin
  delete from realtime.saved_policies s where not exists (select from realtime._policies p where p::text = s::text);
  get diagnostics changed = row_count;
  insert into realtime.saved_policies select p.* from realtime._policies p on conflict do nothing;
  get diagnostics n = row_count;
  return changed + n;
end $$;
comment on function realtime.save_policies() is 'Brings realtime.saved_policies in step with the policies. The worker calls it; call it yourself right before a dump.';

create function realtime._restore_policy() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from realtime._policies p where p.table_name = new.table_name and p.name = new.name) then
    return null;
  end if;
  execute format('create policy %I on realtime.%I as %s for %s to %s', new.name, new.table_name,
      case when new.permissive then 'permissive' else 'restrictive' end, new.command,
      (select string_agg(case when r = 'public' then 'public' else quote_ident(r) end, ', ') from unnest(new.roles) r))
    || case when new.using_expression is null then '' else format(' using (%s)', new.using_expression) end
    || case when new.check_expression is null then '' else format(' with check (%s)', new.check_expression) end;
  return null;
exception when others then
  raise warning 'realtime: policy "%" on % could not be restored: %', new.name, new.table_name, sqlerrm
    using hint = 'Make what it needs (roles, functions), then create it by hand.';
  return null;
end $$;

create trigger restore_policy after insert on realtime.saved_policies
  for each row execute function realtime._restore_policy();

-- What has to be done now and then, by whoever ticks.
create function realtime.keep_house() returns text
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
begin
  perform realtime.cleanup_messages(10000);
  perform realtime.cleanup_webhook_deliveries(10000);
  perform realtime.save_policies();
  begin
    perform realtime._notice_changes(true);
  exception when lock_not_available then
    null;  -- somebody is changing the table: at the next turn
  end;
  return realtime.rotate();
end $$;
comment on function realtime.keep_house() is
  'Retention of messages, webhook deliveries and log, saved policies, tables that changed without events. Called every ten seconds by the worker, or by a sidecar when there is none.';

-- ==== filter.sql ====

-- How the values of a column are compared, for filters that are answered outside of the database.
--
-- A filter must say what the same WHERE would say here. What that takes is told in one text for each column: the type that
-- stands below any domains, an enum's labels in their order, and for texts how the server compares them. What is not known
-- is `other`: of such a column a filter can only ask whether it is NULL. Asked once a second for each party that filters, so
-- the functions are written in a language that keeps its plans.

create function realtime.comparable(relation oid, columns text[]) returns text[]
  language plpgsql stable strict security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    select array_agg(
             case when t.typtype = 'e' then realtime._labels(t.oid)
                  when t.oid >= 16384 then 'other'  -- may be altered, and may be called like one of the server's own
                  when t.oid in (25, 1042, 1043) then format_type(t.oid, null) || realtime._compares_texts(a.attcollation)
                  when t.oid in (114, 3802) then format_type(t.oid, null) || realtime._compares_texts(100)  -- of what ->> gives
                  else format_type(t.oid, null) end order by c.n)
      from unnest(comparable.columns) with ordinality c(name, n)
      left join (pg_attribute a join pg_type d on d.oid = a.atttypid
                 join pg_type t on t.oid = case when d.typtype = 'd' then realtime._below(d.oid) else d.oid end)
        on a.attrelid = comparable.relation and a.attname = c.name and a.attnum > 0 and not a.attisdropped);
end $$;
comment on function realtime.comparable(oid, text[]) is
  'How the values of these columns are compared: what a sidecar must know to answer filters as the database would.';

-- The type below a domain, however many stand above it.
create function realtime._below(domain oid) returns oid
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  below oid := domain; kind "char" := 'd';
begin
  while kind = 'd' loop
    select t.typbasetype into below from pg_type t where t.oid = below;
    select t.typtype into kind from pg_type t where t.oid = below;
  end loop;
  return below;
end $$;

create function realtime._labels(kind oid) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return 'enum ' || (select coalesce(json_agg(e.enumlabel::text order by e.enumsortorder), '[]') from pg_enum e where e.enumtypid = kind);
end $$;

-- Texts: nothing when equal bytes are equal and the order is the server's own, `C` when bytes and ASCII decide everything,
-- `dotted` in languages whose letters I and i are no pair, `loose` when different bytes may be equal or nothing is known.
-- The catalogs' columns differ between versions of Postgres, so they are read by name.
create function realtime._compares_texts(sorting oid) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb; c jsonb; provider text; sorts text; cases text;
begin
  if getdatabaseencoding() = 'SQL_ASCII' then
    return ' collate loose';
  end if;
  select to_jsonb(x) - 'collversion' into c from pg_collation x where x.oid = sorting;
  if c ->> 'collprovider' = 'd' then
    select to_jsonb(x) into d from pg_database x where x.datname = current_database();
    provider := coalesce(d ->> 'datlocprovider', 'c');
    sorts := case when provider = 'c' then d ->> 'datcollate' else coalesce(d ->> 'datlocale', d ->> 'daticulocale') end;
    cases := case when provider = 'c' then d ->> 'datctype' else sorts end;
  else
    provider := c ->> 'collprovider';
    sorts := coalesce(c ->> 'colllocale', c ->> 'colliculocale', c ->> 'collcollate');
    cases := coalesce(c ->> 'colllocale', c ->> 'colliculocale', c ->> 'collctype');
  end if;
  return case when not (c ->> 'collisdeterministic')::boolean or provider not in ('c', 'i', 'b') or sorts is null or cases is null then ' collate loose'
              when provider <> 'i' and sorts in ('C', 'POSIX') and cases in ('C', 'POSIX') then ' collate C'
              when cases ~* '^(tr|az|lt|crh|gag|kaa|ku|tt)([-_.@]|$)' then ' collate dotted'
              else '' end;
end $$;

-- ==== identity.sql ====

-- What the sidecar asks on behalf of a client.
--
-- The database decides, as the client's role, with the client's verified claims in request.jwt.claims. A role is only
-- ever assumed inside the C functions below: they set role and claims, forbid everything that could outlive the call
-- (SECURITY_RESTRICTED_OPERATION), and undo all of it. `set local role` around SQL would be an escalation: a policy's
-- function can reset the role, or replace the driver's prepared statements.

-- 1 when the caller sees an enabled channel whose pattern matches, 0 when not, and the SQLSTATE when a policy raised an
-- error. Whatever the policies did is rolled back.
create function realtime._sees_channel(role text, claims text, channel text) returns text
  language c strict as 'MODULE_PATHNAME', 'sees_channel';

-- Inserts a message under the caller's policies. It stays; nothing else does.
create function realtime._insert_as(role text, claims text, channel text, event text, payload text, message_id uuid) returns void
  language c strict as 'MODULE_PATHNAME', 'insert_as';

-- True when row level security would decide what this role sees of the table.
create function realtime._policies_decide(role oid, relation oid) returns boolean
  language c strict stable as 'MODULE_PATHNAME', 'policies_decide';

create function realtime.may_subscribe(role text, claims text, channel text, schema_name text, table_name text)
  returns table (allowed boolean, reason text, relation oid, columns text[], types text[], key text[], whole boolean, shape bigint,
                 judged boolean, rights bigint, numbers int2[])
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  sight text;
begin
  allowed := false;
  if not exists (select from pg_roles r where r.rolname = role) then
    reason := 'no_role';
  elsif not pg_has_role(session_user, role, 'MEMBER') then
    reason := 'role_not_granted';
  elsif table_name is not null then
    return query select * from realtime._may_subscribe_table(role, schema_name, table_name);
    return;
  elsif realtime._channel_name_error(channel) is not null then
    reason := 'channel_name';
  elsif realtime._best_channel(channel) is null then
    reason := 'no_channel';
  else
    sight := realtime._sees_channel(role, claims, channel);
    allowed := sight = '1';
    reason := case sight when '1' then 'ok' when '0' then 'policies' else 'policy_failed ' || sight end;
  end if;
  return next;
end $$;
comment on function realtime.may_subscribe(text, text, text, text, text) is
  'Whether a role with these claims may subscribe to a channel, or to a table: which of its columns it may read, and whether policies judge each row. `reason` is for the log; policy_failed is followed by the SQLSTATE.';

create function realtime._may_subscribe_table(role text, schema_name text, table_name text)
  returns table (allowed boolean, reason text, relation oid, columns text[], types text[], key text[], whole boolean, shape bigint,
                 judged boolean, rights bigint, numbers int2[])
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  hidden text[];
begin
  allowed := false;
  select c.oid into relation from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where n.nspname = schema_name and c.relname = table_name;
  if relation is null then
    reason := 'no_table';
  elsif not exists (select from realtime.tables t where t.relation = _may_subscribe_table.relation) then
    reason := 'not_enabled';
  elsif not has_schema_privilege(role, schema_name, 'USAGE') then
    reason := 'no_privilege';
  else
    hidden := realtime._excluded_columns(relation);
    -- The numbers tell a column from a new one by the same name.
    select array_agg(a.attname::text order by a.attnum), array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum), array_agg(a.attnum order by a.attnum)
      into columns, types, numbers from pg_attribute a
     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attname <> all (hidden)
       and has_column_privilege(role, relation, a.attnum, 'SELECT');
    key := realtime._key_columns(relation);
    whole := has_table_privilege(role, relation, 'SELECT');
    shape := realtime._shape(relation);
    judged := realtime._policies_decide((select r.oid from pg_roles r where r.rolname = role), relation);
    rights := case when judged then realtime._rights(role, relation) end;
    reason := case when columns is null then 'no_privilege' else 'ok' end;
    allowed := reason = 'ok';
  end if;
  return next;
end $$;

-- A number that changes whenever verdicts for a role on a table whose policies decide may change: with the policies, the
-- functions that they call and the tables that they read, and the policies of those; with owners, grants and switches of
-- these tables; with the role and what it is a member of. What is further away (the tables that a function reads) is not seen.
create function realtime._rights(role text, relation oid) returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  with recursive read(oid) as (
    select _rights.relation
    union
    select d.refobjid from read join pg_policy p on p.polrelid = read.oid
      join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
  ), member(oid) as (
    select r.oid from pg_roles r where r.rolname = _rights.role
    union
    select m.roleid from member join pg_auth_members m on m.member = member.oid
  ), fact(said) as (
    select concat_ws(' ', 't', c.oid, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relacl) from read join pg_class c on c.oid = read.oid
    union all
    select concat_ws(' ', 'c', a.attrelid, a.attnum, a.attacl) from read join pg_attribute a on a.attrelid = read.oid where a.attacl is not null
    union all
    select concat_ws(' ', 'p', p.oid, p.xmin) from read join pg_policy p on p.polrelid = read.oid
    union all
    select concat_ws(' ', 'f', f.oid, f.xmin) from read join pg_policy p on p.polrelid = read.oid
      join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
      join pg_proc f on f.oid = d.refobjid
    union all
    select concat_ws(' ', 'r', r.oid, r.rolsuper, r.rolbypassrls, r.rolinherit) from member join pg_roles r on r.oid = member.oid
    union all
    select concat_ws(' ', 'm', m::text) from member join pg_auth_members m on m.member = member.oid
  )
  select hashtextextended(string_agg(said, chr(10) order by said collate "C"), 0) from fact;
end;

-- Primary key or, without one, the index that REPLICA IDENTITY names; in the index's order.
create function realtime._key_columns(relation oid) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select array_agg(a.attname::text order by k.position)
    from (select i.indexrelid, i.indkey, i.indnkeyatts from pg_index i
           where i.indrelid = relation and (i.indisprimary or i.indisreplident) order by i.indisprimary desc limit 1) i,
         unnest(i.indkey) with ordinality k(attnum, position), pg_attribute a
   where a.attrelid = relation and a.attnum = k.attnum and k.position <= i.indnkeyatts;
end;

-- What the table's `exclude` option leaves out. Trigger arguments are stored as zero-terminated strings, in pairs.
create function realtime._excluded_columns(relation oid) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(p.words[i + 1]), '{}')
    from pg_trigger t,
         lateral (select array_agg(convert_from(decode(w, 'hex'), getdatabaseencoding()) order by n) as words
                    from regexp_split_to_table(regexp_replace(encode(t.tgargs, 'hex'), '((?:(?!00)..)*)00', '\1,', 'g'), ',')
                         with ordinality s(w, n)) p,
         generate_series(1, t.tgnargs, 2) i
   where t.tgrelid = relation and t.tgparentid = 0 and t.tgfoid = 'realtime.notify_table_change()'::regprocedure
     and p.words[i] = 'exclude'
$$;

create function realtime.publish_as(role text, claims text, channel text, event text, payload text, wanted_id uuid)
  returns table (message_id uuid, duplicate boolean)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  fault constant text := realtime._channel_name_error(channel);
begin
  if fault is not null then
    raise exception 'channel name %', fault using errcode = 'invalid_parameter_value';
  elsif coalesce(event, '') = '' or octet_length(event) > 255 then
    raise exception 'event name must have 1 to 255 bytes' using errcode = 'invalid_parameter_value';
  elsif octet_length(payload) > realtime._max_event_bytes() then
    raise exception 'payload has % bytes, more than realtime.max_event_bytes', octet_length(payload)
      using errcode = 'program_limit_exceeded', hint = 'Send a reference instead of the content.';
  elsif not exists (select from pg_roles r where r.rolname = role) or not pg_has_role(session_user, role, 'MEMBER') then
    raise exception 'role "%" does not exist, or may not be assumed', role using errcode = 'undefined_object',
      hint = 'select realtime.grant_sidecar(...), or grant the role to the sidecar''s.';
  elsif realtime._best_channel(channel) is null then
    raise exception 'not allowed to publish' using errcode = 'insufficient_privilege';
  end if;

  duplicate := false;
  if wanted_id is null then
    message_id := gen_random_uuid();
    perform realtime._insert_as(role, claims, channel, event, payload, message_id);
    return next;
    return;
  end if;
  message_id := wanted_id;
  duplicate := realtime._is_duplicate(role, claims, channel, event, wanted_id);
  if not duplicate then
    begin
      perform realtime._insert_as(role, claims, channel, event, payload, wanted_id);
    exception when unique_violation then  -- the same id, sent twice at once: the other one committed first
      duplicate := realtime._is_duplicate(role, claims, channel, event, wanted_id);
    end;
  end if;
  return next;
end $$;
comment on function realtime.publish_as(text, text, text, text, text, uuid) is
  'Publishes a message as a role with these claims, under its INSERT policies. The same message id again makes no second message.';

-- Whether the caller has sent this very message before. Another's message is none of theirs, not even its existence
-- on their channel: only those whom no policy binds may repeat the system's.
create function realtime._is_duplicate(role text, claims text, channel text, event text, wanted_id uuid) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  m record;
begin
  select x.channel_name, x.event_name, x.sender, x.sender_type into m from realtime.messages x where x.id = wanted_id;
  if not found then
    return false;
  elsif m.channel_name = channel and m.event_name = event
        and (case m.sender_type
               when 'user' then m.sender is not distinct from realtime._subject(claims::jsonb)
               else not realtime._policies_decide((select r.oid from pg_roles r where r.rolname = role), 'realtime.messages'::regclass)
             end) then
    return true;
  end if;
  raise exception 'message id % names another message', wanted_id using errcode = 'unique_violation',
    hint = 'Make a new id for each message.';
end $$;

-- ==== read.sql ====

-- Reading: what every client is served from.
--
-- A reader passes the last offset it has and gets what follows, or first an explicit gap. Never silence, never a part
-- called whole: an offset that this history did not assign is a gap, and rows found must be rows announced.
-- A reader must not stay in a transaction: TRUNCATE is not MVCC safe, and an open reader holds up retention.

-- One image as JSON text, made with the layout it was written by. Only for this file: bytes read under a wrong layout
-- would kill the backend, so no user may ever pass bytes to it.
-- Columns go by number and are called as they are today; one that is no more is left out. Grants are those of today and
-- go by number too: by the names of then, a column renamed since would be shown under a grant that was another's.
-- The names are an argument, and `shape` stands for them: the reader takes both from one snapshot. What a backend
-- remembers of the catalog may be older or newer, and then a name would stand for a column that the shape does not say.
create function realtime._render(layout bigint, image bytea, key_only boolean, names text[], shape bigint) returns text
  language c strict as 'MODULE_PATHNAME', 'render';

-- The functions that every read calls are not in language sql: those are planned anew in every call of read(), and that was
-- most of what a read of one event took.

-- Which name stands for which column of a table today, as one number; NULL when the table is gone. A reader that keeps a
-- grant by names compares it with the event's before it shows anything by it.
create function realtime._shape(relation oid) returns bigint
  language plpgsql stable strict
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select hashtextextended(string_agg(a.attnum || ' ' || a.attname, chr(10) order by a.attnum), 0)
      from pg_attribute a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped);
end $$;

-- The shapes of a table and of those that were its partition ancestors. One that is no ancestor any more has none: its
-- columns may be called otherwise by now.
create function realtime._shapes(relations oid[]) returns bigint[]
  language plpgsql stable strict
  set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(relations) = 1 then
    return array[realtime._shape(relations[1])];
  end if;
  return (
    with recursive up(relation) as (
      select relations[1]
      union all
      select i.inhparent from up join pg_inherits i on i.inhrelid = up.relation
    )
    select array_agg(case when r.relation in (select up.relation from up) then realtime._shape(r.relation) end order by r.n)
      from unnest(relations) with ordinality r(relation, n));
end $$;

-- What the columns of a layout are called today, in its order; NULL for one that is no more.
create function realtime._names_today(relation oid, columns int) returns text[]
  language plpgsql stable strict
  set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select case when not a.attisdropped then a.attname::text end
      from pg_attribute a where a.attrelid = relation and a.attnum between 1 and columns order by a.attnum);
end $$;

-- The key's columns as they are called today; NULL when one of them is no more.
create function realtime._key_today(names text[], names_today text[], key text[]) returns text[]
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select case when count(k.name) = count(*) then array_agg(k.name order by k.n) end
      from (select names_today[array_position(names, u.name)] as name, u.n from unnest(key) with ordinality u(name, n)) k
    having count(*) > 0);
end $$;

-- The rows of one tick behind an offset, in their order, run by run; `place` counts from 0 in each run. Inlined into the
-- statements that call it, so that their settings choose its plan: a nested loop over the ordered runs, which never sorts
-- an image. The end of a run comes from one index, the rows before it from the other (log.sql).
create function realtime._rows_of_tick(first_offset bigint, xids xid8[], seqs bigint[], counts int4[], after bigint)
  returns table (chunk bigint, first bigint, n int4, last bigint, transaction_end bigint,
                 place bigint, layout bigint, written_at timestamptz, flags int2, operation "char", message uuid, old bytea, new bytea)
  language sql stable
as $$
  select c.chunk, c.first, c.n, c.last, c.transaction_end,
         l.seq - c.seq, l.layout, l.at, l.flags, l.op, l.message_id, l.old, l.new
    from (select w.*, max(w.last) over (partition by w.xid) as transaction_end
            from (select u.chunk, u.xid, u.seq, u.n, $1 + sum(u.n) over (order by u.chunk) - u.n as first,
                         $1 + sum(u.n) over (order by u.chunk) - 1 as last
                    from unnest($2, $3, $4) with ordinality u(xid, seq, n, chunk)) w
           where w.last > $5 order by w.chunk) c
   cross join lateral (
      (select x.* from realtime.log x
        where c.n > 1 and x.run is null and x.xid = c.xid and x.seq >= c.seq and x.seq < c.seq + c.n - 1 order by x.seq)
      union all
      select x.* from realtime.log x where x.run is not null and x.xid = c.xid and x.seq = c.seq + c.n - 1) l
$$;

-- The newest tick, and where the one before it ended; NULL for what there is not. A segment is empty when it becomes the
-- one that is written, so both mostly lie there, and to look into all of them takes many times as long. Whoever calls
-- this says `segment` of realtime.state. Static statements, as in _store_tick. Volatile: each takes its snapshot when it has
-- its locks. When it waited for those who begin a new history, an older snapshot would find everything empty.
create function realtime._newest_tick(segment int, out newest realtime.tick_0, out before bigint)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  case segment
    when 0 then
      select t.* into newest from realtime.tick_0 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_0 t where t.id = newest.id - 1);
    when 1 then
      select t.* into newest from realtime.tick_1 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_1 t where t.id = newest.id - 1);
    when 2 then
      select t.* into newest from realtime.tick_2 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_2 t where t.id = newest.id - 1);
    when 3 then
      select t.* into newest from realtime.tick_3 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_3 t where t.id = newest.id - 1);
    when 4 then
      select t.* into newest from realtime.tick_4 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_4 t where t.id = newest.id - 1);
    when 5 then
      select t.* into newest from realtime.tick_5 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_5 t where t.id = newest.id - 1);
    when 6 then
      select t.* into newest from realtime.tick_6 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_6 t where t.id = newest.id - 1);
    when 7 then
      select t.* into newest from realtime.tick_7 t order by t.id desc limit 1;
      before := (select t.last_offset from realtime.tick_7 t where t.id = newest.id - 1);
  end case;
  if newest.id is null then
    select t.id, t.history, t.incarnation, t.snapshot, t.first_offset, t.last_offset, t.xids, t.seqs, t.counts, t.at
      into newest from realtime.ticks t order by t.id desc limit 1;
  end if;
  if before is null then
    before := (select t.last_offset from realtime.ticks t where t.id = newest.id - 1);
  end if;
end $$;

-- What one call of read() knows of a layout. Looked up once a call: tables take turns inside a transaction, and a look
-- costs more than an event.
create type realtime._known_layout as (
  relations oid[], schemas text[], tables text[], names text[], key text[], shapes bigint[]
);

create function realtime._look_up_layout(layout bigint) returns realtime._known_layout
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- One statement, for one snapshot: names and shapes must belong together.
  return (
    select row(l.relations, l.schemas, l.tables, l.names_today, realtime._key_today(l.names, l.names_today, l.key),
               realtime._shapes(l.relations))::realtime._known_layout
      from (select k.*, realtime._names_today(k.relations[1], cardinality(k.names)) as names_today
              from realtime.layouts k where k.id = layout limit 1) l);
end $$;

create function realtime.read(after bigint, max_events int, max_bytes int, only_relation oid, only_channel text)
  returns table (kind "char", "offset" bigint, until bigint, reason text, op "char",
                 relations oid[], shapes bigint[], schemas text[], tables text[], key text[], record text, old_record text, oversize boolean, at timestamptz,
                 channel text, event text, payload text, message_id uuid, sender_type text, sender_id uuid, sender text)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
  set enable_memoize = off set enable_material = off set plan_cache_mode = force_generic_plan set jit = off
  -- One event, one text, whatever the writer or this session prefer.
  set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set timezone = 'UTC' set extra_float_digits = 1
  set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C' set lock_timeout = '500ms'
as $$
#variable_conflict use_column
declare
  ticks refcursor; at_end record; newest realtime.tick_0; t record; r record;
  head bigint; floor_tick_now bigint; segment_now int; cursor_at bigint := after; gap record; is_enough boolean := false;
  layout realtime._known_layout; known bigint[] := '{}'; known_layouts realtime._known_layout[] := '{}'; place int;
  start_at bigint; position_at bigint; chunk bigint; scanned int := 0; found_events int := 0; bytes bigint := 0;
  payload_bytes_max constant int := realtime._max_event_bytes();
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'realtime.read() runs in READ COMMITTED only' using errcode = 'invalid_transaction_state',
      hint = 'An older snapshot would find a truncated segment empty.';
  end if;
  select s.floor_tick, s.segment into floor_tick_now, segment_now from realtime.state s;
  select * into at_end from realtime._newest_tick(segment_now);
  newest := at_end.newest; head := newest.last_offset;
  if head is null then
    raise exception 'the log has not begun' using errcode = 'object_not_in_prerequisite_state', hint = 'select realtime.tick()';
  end if;
  kind := 'c';
  if after is null then
    "offset" := head; until := head;
    return next;
    return;
  end if;

  if after = at_end.before or after between newest.first_offset and head then
    -- Mostly a reader has all but the newest tick, or but the end of that.
    open ticks for select newest.id, newest.first_offset, newest.last_offset, newest.xids, newest.seqs, newest.counts where after < head;
  else
    select * into gap from realtime._gap_after(after, floor_tick_now, head);
    if gap.reason is not null then
      kind := 'g'; "offset" := after + 1; until := gap.until; reason := gap.reason;
      return next;
      kind := 'c'; reason := null; cursor_at := gap.until;
    end if;
    -- The tick that holds the cursor; from there on in order.
    select x.first_offset into start_at from realtime.ticks x where x.first_offset <= cursor_at order by x.first_offset desc limit 1;
    start_at := coalesce(start_at, 0);
    open ticks for
      select x.id, x.first_offset, x.last_offset, x.xids, x.seqs, x.counts from realtime.ticks x
       where x.first_offset >= start_at and x.id >= floor_tick_now and x.last_offset > cursor_at
       order by x.first_offset;
  end if;

  loop
    fetch ticks into t;
    exit when not found;
    position_at := null; chunk := null;
    for r in select * from realtime._rows_of_tick(t.first_offset, t.xids, t.seqs, t.counts, cursor_at) loop
      -- The order is the plan's (a nested loop over ordered chunks), so it is checked, row by row.
      if chunk is distinct from r.chunk then
        -- The first one holds the place behind the cursor, or begins the tick.
        if r.first <> position_at or position_at is null and r.first > greatest(cursor_at + 1, t.first_offset) then
          perform realtime._read_failed(t.id, floor_tick_now);
        end if;
        position_at := r.first; chunk := r.chunk;
      elsif position_at > r.last then
        perform realtime._read_failed(t.id, floor_tick_now);
      end if;
      if r.place <> position_at - r.first then
        perform realtime._read_failed(t.id, floor_tick_now);
      end if;
      "offset" := position_at; position_at := position_at + 1;
      continue when "offset" <= cursor_at;
      is_enough := scanned >= 20000 or found_events >= max_events or bytes >= max_bytes;
      exit when is_enough;
      scanned := scanned + 1;
      cursor_at := "offset";

      kind := 'e'; op := r.operation; reason := null; oversize := r.flags & 4 <> 0; at := r.written_at;
      until := r.transaction_end;
      relations := null; shapes := null; schemas := null; tables := null; key := null; record := null; old_record := null;
      channel := null; event := null; payload := null; message_id := null; sender_type := null; sender_id := null; sender := null;
      if r.operation = 'M' then
        continue when only_relation is not null;
        select m.channel_name, m.event_name, case when octet_length(m.payload::text) <= payload_bytes_max then m.payload::text end,
               m.sender_type, m.sender_id, m.sender, m.created_at
          into channel, event, payload, sender_type, sender_id, sender, at from realtime.messages m where m.id = r.message;
        message_id := r.message; oversize := channel is not null and payload is null;
        continue when only_channel is not null and channel is distinct from only_channel;
      elsif r.operation = 'G' and r.layout = 0 then
        reason := 'log_full';  -- no relations: of any table, and any message
      elsif r.operation = 'C' then
        continue;  -- the end of a transaction that wrote early: nothing for anybody
      else
        continue when only_channel is not null;
        place := array_position(known, r.layout);
        if place is null then
          known := known || r.layout; known_layouts := known_layouts || realtime._look_up_layout(r.layout);
          place := cardinality(known);
        end if;
        layout := known_layouts[place];
        continue when only_relation is not null and only_relation <> all (layout.relations);
        relations := layout.relations; shapes := layout.shapes; schemas := layout.schemas; tables := layout.tables; key := layout.key;
        reason := case when r.operation = 'G' then case when r.flags & 32 <> 0 then 'unordered' when r.flags & 64 <> 0 then 'unseen' else 'capture_off' end end;
        if layout.shapes[1] is null and op in ('I', 'U', 'D') then
          -- The table is gone, and with it who might read which column. For its ancestors this is a gap.
          op := 'G'; reason := 'table_dropped'; oversize := false;
          found_events := found_events + 1;
          return next;
          continue;
        end if;
        -- Too large and without a key: an object, but nothing in it.
        record := coalesce(realtime._render(r.layout, r.new, r.flags & 2 <> 0, layout.names, layout.shapes[1]), case when r.operation in ('I', 'U') then '{}' end);
        old_record := coalesce(realtime._render(r.layout, r.old, r.flags & 1 <> 0, layout.names, layout.shapes[1]), case when r.operation in ('U', 'D') then '{}' end);
      end if;
      found_events := found_events + 1;
      bytes := bytes + 200 + coalesce(octet_length(record), 0) + coalesce(octet_length(old_record), 0) + coalesce(octet_length(payload), 0);
      return next;
    end loop;
    exit when is_enough;
    if t.xids = '{}' then
      cursor_at := t.last_offset;  -- the first tick of a history: an offset without an event
    elsif position_at is distinct from t.last_offset + 1 then
      perform realtime._read_failed(t.id, floor_tick_now);
    end if;
  end loop;
  close ticks;

  kind := 'c'; "offset" := cursor_at; until := greatest(head, cursor_at); reason := null; op := null; oversize := null; at := null;
  relations := null; shapes := null; schemas := null; tables := null; key := null; record := null; old_record := null;
  channel := null; event := null; payload := null; message_id := null; sender_type := null; sender_id := null; sender := null;
  return next;
end $$;
comment on function realtime.read(bigint, int, int, oid, text) is
  'Events after an offset, in order, as JSON; gaps said first; the last row is the cursor. For the sidecar.';

-- Whether something after this offset cannot be had, up to where, and why.
create function realtime._gap_after(after bigint, floor_tick bigint, head bigint, out until bigint, out reason text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  t record; next_first bigint; floor_at bigint;
  -- A segment that somebody holds may have many older ticks, which do not count any more: looked past, not through.
  floor_first constant bigint := (select x.first_offset from realtime.ticks x where x.id >= floor_tick order by x.id limit 1);
begin
  if after > head then
    until := head; reason := 'ahead';
    return;
  end if;
  select x.id, x.last_offset into t from realtime.ticks x
   where x.first_offset between floor_first and after order by x.first_offset desc limit 1;
  if t.id is not null and after <= t.last_offset then
    return;  -- an offset of this history
  end if;
  floor_at := realtime._floor_offset();
  if t.id is null and after = floor_at then
    return;  -- the end of what was given back: nothing is missing
  end if;
  select x.first_offset into next_first from realtime.ticks x
   where x.first_offset >= greatest(after + 1, floor_first) order by x.first_offset limit 1;
  until := next_first - 1;
  reason := case when after >= (select s.begun_at from realtime.state s) and after < floor_at then 'retention' else 'history' end;
end $$;

-- The offset before the oldest event that can be had.
create function realtime._floor_offset() returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(s.floor_offset,
                  (select t.first_offset - 1 from realtime.ticks t where t.id >= s.floor_tick order by t.first_offset limit 1))
    from realtime.state s
$$;

create function realtime._read_failed(tick bigint, floor_tick_before bigint) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if floor_tick_before <> (select s.floor_tick from realtime.state s) then
    raise exception 'retention moved under the reader' using errcode = 'serialization_failure', hint = 'Ask again.';
  end if;
  raise exception 'the log does not hold what tick % announced', tick using errcode = 'data_corrupted',
    hint = 'Do not skip it. Was a table of schema realtime changed by hand, or copied without the others?';
end $$;

-- ==== judge.sql ====

-- Verdicts: who sees which event of a table with row level security.
--
-- Each event is judged on the row images that it carries, by the table's own policies, as each subscriber. A caller
-- passes log positions and identities and never bytes: this reads the log itself. An identity (role and claims) is told
-- once per session and named by a number from then on.

create function realtime.know_identity(id int, role text, claims text) returns void
  language c strict as 'MODULE_PATHNAME', 'know_identity';
comment on function realtime.know_identity(int, text, text) is 'Tells this session an identity, for realtime.judge().';

create function realtime.forget_identity(id int) returns void
  language c strict as 'MODULE_PATHNAME', 'forget_identity';
comment on function realtime.forget_identity(int) is 'Takes away what know_identity() said of a number in this session, and its seats.';

create function realtime.seat(relation oid, ids int[]) returns void
  language c strict as 'MODULE_PATHNAME', 'seat_identities';
comment on function realtime.seat(oid, int[]) is 'From now on this session''s realtime.judge() judges these identities for this table without being told.';

create function realtime.unseat(relation oid, ids int[]) returns void
  language c strict as 'MODULE_PATHNAME', 'unseat_identities';
comment on function realtime.unseat(oid, int[]) is 'Takes back seat().';

create function realtime._judge(relation oid, layouts bigint[], flags int2[], olds bytea[], news bytea[], identities int[],
                                out seen_by int[], out verdicts text[], out failures text[])
  language c as 'MODULE_PATHNAME', 'judge_images';

-- Whether a layout is of this table or of one of its partitions. Remembered by the backend: layouts never change.
create function realtime._is_layout_of(layout bigint, relation oid) returns boolean
  language c strict stable as 'MODULE_PATHNAME', 'is_layout_of';

-- Mostly all of it is in one tick of the segment being written, and looking at all segments costs more than a judgement.
-- So each segment has a look of its own; `is_whole` says whether it found everything there.
create type realtime._row_events as (offsets bigint[], layouts bigint[], flags int2[], olds bytea[], news bytea[], is_whole boolean);

do $$
begin
  for k in 0..7 loop
    execute format($look$
      create function realtime._row_events_%s(relation oid, after bigint, until bigint) returns realtime._row_events
        language plpgsql stable
        set search_path = pg_catalog, pg_temp
      as $body$
      declare
        t record; r record; events realtime._row_events;
      begin
        select x.first_offset, x.last_offset, x.xids, x.seqs, x.counts into t
          from realtime.tick_%1$s x where x.first_offset <= until order by x.first_offset desc limit 1;
        if t.counts = '{1}' and after + 1 = until and t.first_offset = until then
          -- One row, committed by itself: most of what there is.
          select x.layout, x.flags, x.op, x.old, x.new into r
            from realtime.log_%1$s x where x.run is not null and x.xid = t.xids[1] and x.seq = t.seqs[1];
          events.is_whole := r.layout is not null;
          if r.op in ('I', 'U', 'D') and realtime._is_layout_of(r.layout, relation) then
            events := (array[until], array[r.layout], array[r.flags], array[r.old], array[r.new], true);
          end if;
        elsif t.first_offset <= after + 1 and until <= t.last_offset then
          select array_agg(e.at) filter (where e.is_wanted), array_agg(e.layout) filter (where e.is_wanted), array_agg(e.flags) filter (where e.is_wanted),
                 array_agg(e.old) filter (where e.is_wanted), array_agg(e.new) filter (where e.is_wanted), count(*) = until - after
            into events
            from (select c.first + l.place - 1 as at, l.layout, l.flags,
                         l.op in ('I', 'U', 'D') and realtime._is_layout_of(l.layout, relation) as is_wanted, l.old, l.new
                    from (select u.xid, u.seq, u.n, t.first_offset + sum(u.n) over (order by u.chunk) - u.n as first
                            from unnest(t.xids, t.seqs, t.counts) with ordinality u(xid, seq, n, chunk)) c
                   cross join lateral (
                        select x.layout, x.flags, x.op, x.old, x.new, x.seq - c.seq + 1 as place from realtime.log_%1$s x
                         where c.n > 1 and x.run is null and x.xid = c.xid and x.seq >= c.seq and x.seq < c.seq + c.n - 1
                        union all
                        select x.layout, x.flags, x.op, x.old, x.new, c.n from realtime.log_%1$s x
                         where x.run is not null and x.xid = c.xid and x.seq = c.seq + c.n - 1) l
                   where c.first + c.n > after + 1 and c.first <= until
                     and c.first + l.place - 1 > after and c.first + l.place - 1 <= until
                   order by 1) e;
        end if;
        return events;
      end $body$
    $look$, k);
  end loop;
end $$;

-- The row events of a table in (after, until], with their images as they lie in the log, wherever that is. Events of others
-- are passed over without looking at their images.
create function realtime._row_events_anywhere(relation oid, after bigint, until bigint) returns realtime._row_events
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
  set enable_memoize = off set enable_material = off set plan_cache_mode = force_generic_plan set jit = off
as $$
declare
  events realtime._row_events; from_tick bigint;
begin
  from_tick := coalesce((select t.first_offset from realtime.ticks t where t.first_offset <= after + 1 order by t.first_offset desc limit 1), 0);
  select array_agg(e.at), array_agg(e.layout), array_agg(e.flags), array_agg(e.old), array_agg(e.new)
    into events
    from (select c.first + l.place - 1 as at, l.layout, l.flags, l.old, l.new
            from (select t.first_offset, t.xids, t.seqs, t.counts from realtime.ticks t
                   where t.first_offset between from_tick and until and t.last_offset > after) t
           cross join lateral (
                select u.xid, u.seq, u.n, t.first_offset + sum(u.n) over (order by u.chunk) - u.n as first
                  from unnest(t.xids, t.seqs, t.counts) with ordinality u(xid, seq, n, chunk)) c
           cross join lateral (
                select x.layout, x.flags, x.op, x.old, x.new, x.seq - c.seq + 1 as place from realtime.log x
                 where c.n > 1 and x.run is null and x.xid = c.xid and x.seq >= c.seq and x.seq < c.seq + c.n - 1
                union all
                select x.layout, x.flags, x.op, x.old, x.new, c.n from realtime.log x
                 where x.run is not null and x.xid = c.xid and x.seq = c.seq + c.n - 1) l
           where c.first + c.n > after + 1 and c.first <= until
             and c.first + l.place - 1 > after and c.first + l.place - 1 <= until
             and l.op in ('I', 'U', 'D') and realtime._is_layout_of(l.layout, relation)
           order by 1) e;
  return events;
end $$;

create function realtime._row_events(relation oid, after bigint, until bigint) returns realtime._row_events
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan set jit = off
as $$
declare
  segment constant int := (select s.segment from realtime.state s);
  events realtime._row_events;
begin
  events := case segment
    when 0 then realtime._row_events_0(relation, after, until) when 1 then realtime._row_events_1(relation, after, until)
    when 2 then realtime._row_events_2(relation, after, until) when 3 then realtime._row_events_3(relation, after, until)
    when 4 then realtime._row_events_4(relation, after, until) when 5 then realtime._row_events_5(relation, after, until)
    when 6 then realtime._row_events_6(relation, after, until) when 7 then realtime._row_events_7(relation, after, until) end;
  if events.is_whole is not true then
    events := realtime._row_events_anywhere(relation, after, until);
  end if;
  return events;
end $$;

create function realtime.judge(relation oid, after bigint, until bigint, identities int[] default null,
                               out offsets bigint[], out seen_by int[], out verdicts text[], out failures text[])
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  e realtime._row_events; j record;
begin
  e := realtime._row_events(relation, after, until);
  offsets := coalesce(e.offsets, '{}'); seen_by := '{}'; verdicts := '{}';
  if offsets <> '{}' then
    j := realtime._judge(relation, e.layouts, e.flags, e.olds, e.news, identities);
    seen_by := j.seen_by; verdicts := j.verdicts; failures := j.failures;
  end if;
end $$;
comment on function realtime.judge(oid, bigint, bigint, int[]) is
  'Verdicts on the row events of a table in (after, until], of the given or else of all seated identities. Only who sees something, or on whom there is no verdict, is in seen_by; their verdicts are two characters an event, old and new image: 1 visible, 0 not, e no verdict, - no image. failures is null, or says of each of them the SQLSTATE that an error of a policy had.';

-- ==== snapshot.sql ====

-- Snapshots for subscribers: all rows of a table as of one offset, and then exactly the later changes.
--
-- A snapshot is itself a tick: the tick's own MVCC snapshot is exported, a second session imports it and reads the rows,
-- so the rows are those of all events up to the tick's last offset, and of no other. The first session commits as soon
-- as the second has imported; ticks wait for a round trip, not for the reading.
--
--   session 1: begin; select * from realtime.begin_snapshot();
--   session 2: begin isolation level repeatable read, read only; set transaction snapshot '...';
--   session 1: commit;
--   session 2: select * from realtime.snapshot(role, claims, relation); commit;

create function realtime.begin_snapshot(out "offset" bigint, out snapshot_id text)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  t record;
begin
  select * into t from realtime._tick(true);
  if t.exported is null then
    -- The first tick of a history has marked its beginning; what is visible now is behind that.
    raise exception 'the log has just begun' using errcode = 'serialization_failure', hint = 'Ask again.';
  end if;
  "offset" := t.last_offset; snapshot_id := t.exported;
end $$;
comment on function realtime.begin_snapshot() is
  'Ticks and exports the tick''s snapshot: rows read in it are those as of the offset. First in its transaction; commit once the snapshot is imported.';

-- The rows that the role sees, by its grants and policies, as JSON objects like those of events.
create function realtime._rows_as(role text, claims text, relation oid, columns text[]) returns setof text
  language c volatile strict as 'MODULE_PATHNAME', 'rows_as';

create function realtime.snapshot(role text, claims text, relation oid) returns setof text
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set timezone = 'UTC' set extra_float_digits = 1
  set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
as $$
declare
  may record;
begin
  select m.* into may from pg_class c join pg_namespace n on n.oid = c.relnamespace,
         realtime.may_subscribe(role, claims, '', n.nspname, c.relname) m where c.oid = snapshot.relation;
  if may.allowed is not true then
    raise exception 'not allowed to read this table' using errcode = 'insufficient_privilege';
  elsif may.key is null or not may.key <@ may.columns then
    raise exception 'the table has no key that the caller may read' using errcode = 'feature_not_supported',
      hint = 'Rows and later changes could not be told apart.';
  end if;
  return query select * from realtime._rows_as(role, claims, relation, may.columns);
end $$;
comment on function realtime.snapshot(text, text, oid) is
  'Every row of a table that the role sees, as JSON. In the transaction that imported begin_snapshot()''s snapshot.';

-- What the caller may see of a channel's past, with the rights of today. The caller is whoever the code runs as, noted in
-- C before the owner's rights are taken: not the session's user, in whose session others' code may run (the expressions of
-- an index during ANALYZE, say).
create function realtime.history(channel text, since bigint default null, max_events int default 100)
  returns table ("offset" bigint, at timestamptz, event text, payload jsonb)
  language c volatile as 'MODULE_PATHNAME', 'history_of_caller';

create function realtime._history(channel text, since bigint, max_events int, caller text)
  returns table ("offset" bigint, at timestamptz, event text, payload jsonb)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  claims constant text := coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}');
  parts constant text[] := realtime._table_of(channel);
  may record; r record; after bigint := coalesce(since, realtime._floor_offset()); n int := 0;
begin
  if parts is null then
    select * into may from realtime.may_subscribe(caller, claims, channel, null, null);
  else
    select * into may from realtime._may_subscribe_table(caller, case when cardinality(parts) = 1 then 'public' else parts[1] end, parts[cardinality(parts)]);
  end if;
  if may.allowed is not true then
    raise exception 'not allowed to read this channel' using errcode = 'insufficient_privilege';
  end if;
  if may.judged then
    perform realtime.know_identity(-1, caller, claims);
  end if;
  loop
    for r in
      with page as materialized (
        select p.*, row_number() over () as place
          from realtime.read(after, least(max_events - n, 1000), 4194304, may.relation, case when parts is null then channel end) p),
      judgement as materialized (
        select j.offsets, j.verdicts[1] as verdicts
          from (select may.relation where may.judged) t
         cross join lateral realtime.judge(t.relation, after, (select c."offset" from page c where c.kind = 'c'), array[-1]) j)
      select p.*, case when may.judged and p.op in ('I', 'U', 'D')
                       then realtime._seen_as(p.op, realtime._verdicts_at(j.verdicts, array_position(j.offsets, p."offset"))) end as seen_as
        from page p left join judgement j on true order by p.place
    loop
      if r.kind = 'e' then
        -- What is not seen, a key that the caller may not read, and an update of what the caller may not read.
        continue when may.judged and r.op in ('I', 'U', 'D') and (r.seen_as is null
          or r.seen_as = 'L' and (may.key is null or not may.key <@ may.columns)
          or r.seen_as = 'U' and not may.whole and not r.oversize and realtime._only(r.record, may.columns) = realtime._only(r.old_record, may.columns));
        n := n + 1;
        "offset" := r."offset"; at := r.at;
        if parts is null then
          event := r.event; payload := r.payload::jsonb;
        elsif r.relations is not null and not may.whole and may.shape is distinct from r.shapes[array_position(r.relations, may.relation)] then
          -- Columns have changed places since the caller was judged: no name may stand for another column.
          event := 'GAP'; payload := '{"reason": "unjudged"}';
        elsif r.seen_as = 'G' then
          event := 'GAP'; payload := '{"reason": "unjudged"}';
        elsif r.seen_as = 'L' then
          event := 'DELETE'; payload := jsonb_build_object('old_record', realtime._only(r.old_record, may.key));
        elsif r.seen_as = 'I' then
          event := 'INSERT'; payload := jsonb_build_object('record', realtime._only(r.record, may.columns));
        else
          event := case r.op when 'I' then 'INSERT' when 'U' then 'UPDATE' when 'D' then 'DELETE' when 'T' then 'TRUNCATE' else 'GAP' end;
          payload := case when r.reason is null then '{}' else jsonb_build_object('reason', r.reason) end
                  || case when r.record is null then '{}' else jsonb_build_object('record', realtime._only(r.record, may.columns)) end
                  || case when r.old_record is null then '{}' else jsonb_build_object('old_record', realtime._only(r.old_record, may.columns)) end;
        end if;
        return next;
      elsif r.kind = 'g' then
        "offset" := r.until; at := null; event := 'GAP';
        payload := jsonb_build_object('reason', r.reason, 'from', r."offset", 'to', r.until);
        return next;
      elsif r.kind = 'c' then
        after := r."offset";
        exit when after >= r.until;
      end if;
    end loop;
    exit when n >= max_events or after >= (select t.last_offset from realtime.ticks t order by t.id desc limit 1);
  end loop;
end $$;
comment on function realtime.history(text, bigint, int) is
  'Events of a channel after an offset (default: all that is retained), judged by what the caller may see today.';

-- The verdicts on the old and the new image of the event at a place. Who is not in the answer sees nothing of its events;
-- an event that is not in it has no verdict.
create function realtime._verdicts_at(verdicts text, place int) returns text
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$
  select case when place is null then 'ee' when verdicts is null then '00' else substr(verdicts, 2 * place - 1, 2) end
$$;

-- What an event is to somebody with these verdicts on its images: I U D as they are, I also when a row comes into view, L
-- when it leaves it, G when there is no verdict on what was there; NULL when it is nothing.
create function realtime._seen_as(op "char", verdicts text) returns "char"
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$
  select case when op <> 'I' and verdicts like 'e%' then 'G'
              when op = 'I' then case when verdicts like '%1' then 'I' end
              when op = 'D' then case when verdicts like '1%' then 'D' end
              when verdicts = '11' then 'U' when verdicts like '1%' then 'L' when verdicts like '%1' then 'I' end::"char"
$$;

-- Schema and table of a table channel, `table:[schema.]table`; parts may be double-quoted, and no part is folded.
create function realtime._table_of(channel text) returns text[]
  language sql immutable strict
  set search_path = pg_catalog, pg_temp
as $$
  select array_agg(case when p[1] like '"%' then replace(substr(p[1], 2, length(p[1]) - 2), '""', '"') else p[1] end order by n)
    from regexp_matches(substr(channel, 7), '("(?:[^"]|"")+"|[^".]+)', 'g') with ordinality m(p, n)
   where channel like 'table:%'
$$;

-- The columns of a row that a role may read.
create function realtime._only(record text, columns text[]) returns jsonb
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(key, value) from jsonb_each(record::jsonb) where key = any (columns)
$$;

-- ==== explain.sql ====

-- Why somebody may listen or publish, or may not: for people, in rows. It asks what the sidecar asks, so it says what
-- holds; and it asks each policy by itself, so it says whose word it is.
--
-- `allowed` is whether the thing stands in nobody's way; NULL where it does not matter. `says` is a policy's own word, yes,
-- no, null or the SQLSTATE of the error that it raised: only yes counts as yes.

-- What one policy says of one row to an identity, as whom it is run: yes, no or null, or the SQLSTATE of an error. The row
-- is the one with the key's values in these columns (none or several when there is not exactly one), whoever may see it;
-- without columns the key is the row, one that may come to be. Without an expression: what all policies say together. An
-- expression is only to be had from the catalog: nobody can write a pg_node_tree.
create function realtime._policy_says(role text, claims text, channel text, relation oid, expression pg_node_tree, columns text[], key jsonb) returns text
  language c as 'MODULE_PATHNAME', 'policy_says';

create function realtime.explain_access(claims jsonb, channel text, key jsonb default null)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  role_name constant text := claims ->> 'role';
  parts constant text[] := realtime._table_of(channel);
begin
  subject := 'role'; allowed := exists (select from pg_roles r where r.rolname = role_name);
  detail := case when role_name is null then 'the claims have no role' when allowed then role_name else format('there is no role %s', role_name) end;
  return next;
  if allowed then
    allowed := pg_has_role(session_user, role_name, 'MEMBER');
    subject := 'login role';
    detail := format(case when allowed then '%s may act as %s' else '%s may not act as %s: grant it the role' end, session_user, role_name);
    return next;
  end if;
  if not allowed then
    subject := 'verdict'; detail := 'may not subscribe'; return next;
  elsif parts is not null then
    return query select * from realtime._explain_table(role_name, claims, coalesce(parts[cardinality(parts) - 1], 'public'), parts[cardinality(parts)], key);
  else
    return query select * from realtime._explain_channel(role_name, claims, channel);
    return query select * from realtime._explain_publish(role_name, claims, channel, coalesce(key, '{}'));
  end if;
end $$;
comment on function realtime.explain_access(jsonb, text, jsonb) is
  'Why a token with these claims may listen to a channel or publish there, or not; with the key of a table''s row, whether it sees that row, and what each policy says of it. One row for each thing that counts. For a channel the key may hold event_name and payload of the message.';

-- A grant that somebody needs, and the statement that gives it.
create function realtime._explain_grant(what text, granted boolean, remedy text)
  returns table (subject text, allowed boolean, says text, detail text)
  language sql immutable
  set search_path = pg_catalog, pg_temp
begin atomic
  select what, granted, null, case when granted then 'granted' else 'missing: ' || remedy end;
end;

create function realtime._explain_table(role_name text, claims jsonb, schema_name text, table_name text, key jsonb)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  may record; hidden text; sees text := 'yes';
begin
  select * into may from realtime.may_subscribe(role_name, claims::text, '', schema_name, table_name);
  subject := 'table'; allowed := may.reason not in ('no_table', 'not_enabled');
  detail := case may.reason when 'no_table' then 'there is no such table'
                            when 'not_enabled' then format('is not enabled: select realtime.enable_realtime(%L, %L)', schema_name, table_name)
                            else 'is enabled' end;
  return next;
  if not allowed then
    subject := 'verdict'; detail := 'may not subscribe'; return next;
    return;
  end if;
  may.relation := format('%I.%I', schema_name, table_name)::regclass;
  return query select * from realtime._explain_grant('schema', has_schema_privilege(role_name, schema_name, 'USAGE'),
                                                     format('grant usage on schema %I to %I', schema_name, role_name));
  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into hidden from pg_attribute a
   where a.attrelid = may.relation and a.attnum > 0 and not a.attisdropped and not has_column_privilege(role_name, may.relation, a.attnum, 'SELECT');
  subject := 'columns'; allowed := has_any_column_privilege(role_name, may.relation, 'SELECT');
  detail := concat_ws('; ', 'may read ' || array_to_string(may.columns, ', '),
                      'missing: grant select (' || hidden || format(') on %s to %I', may.relation::regclass, role_name),
                      'left out when the table was enabled: ' || array_to_string(nullif(realtime._excluded_columns(may.relation), '{}'), ', '));
  return next;
  return query select * from realtime._explain_policies(role_name, claims, null, may.relation, 'r', key);
  if key is not null then
    sees := realtime._policy_says(role_name, claims::text, '', may.relation, null, realtime._key_of(may.relation, key), key);
    subject := 'row'; allowed := sees = 'yes'; says := sees;
    detail := format(case sees when 'yes' then 'sees %s' when 'none' then 'sees no row like %s' when 'several' then 'several rows are like %s: give the whole key'
                               else 'sees no row like %s: error ' || sees end, key);
    return next;
  end if;
  subject := 'verdict'; allowed := may.allowed and sees = 'yes'; says := null;
  detail := concat_ws(', ', case when may.allowed then 'may subscribe' else 'may not subscribe' end,
                      case when key is null then null when sees = 'yes' then 'sees the row' else 'does not see the row' end);
  return next;
end $$;

-- The columns that a key names, which must be there.
create function realtime._key_of(relation oid, key jsonb) returns text[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  names constant text[] := array(select jsonb_object_keys(key));
  stranger constant text := (select n from unnest(names) n
    where not exists (select from pg_attribute a where a.attrelid = relation and a.attname = n and a.attnum > 0 and not a.attisdropped) limit 1);
begin
  if names = '{}' or stranger is not null then
    raise exception 'the key names no column of the table' using errcode = 'invalid_parameter_value',
      hint = 'Give the key columns and their values, such as {"id": 1}.';
  end if;
  return names;
end $$;

create function realtime._explain_channel(role_name text, claims jsonb, channel text)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c record; may record;
begin
  for c in select x.id, x.pattern, x.enabled from realtime.channels x where realtime._matches(channel, x.pattern) order by x.pattern loop
    subject := format('pattern %s', c.pattern); allowed := c.enabled; detail := case when c.enabled then 'matches' else 'matches, and is disabled' end;
    return next;
    return query select * from realtime._explain_policies(role_name, claims, channel, 'realtime.channels'::regclass, 'r', jsonb_build_object('id', c.id));
  end loop;
  return query select * from realtime._explain_grant('schema', has_schema_privilege(role_name, 'realtime', 'USAGE'), format('grant usage on schema realtime to %I', role_name));
  return query select * from realtime._explain_grant('channels', has_column_privilege(role_name, 'realtime.channels', 'pattern', 'SELECT')
                                                                 and has_column_privilege(role_name, 'realtime.channels', 'enabled', 'SELECT'),
                                                     format('grant select (id, pattern, enabled) on realtime.channels to %I', role_name));
  select * into may from realtime.may_subscribe(role_name, claims::text, channel, null, null);
  subject := 'verdict'; allowed := may.allowed;
  detail := case may.reason when 'ok' then 'may subscribe' when 'no_channel' then 'no enabled pattern matches the channel'
                            when 'policies' then 'no policy on realtime.channels shows a matching pattern'
                            else replace(may.reason, 'policy_failed', 'a policy on realtime.channels raised') end;
  return next;
end $$;

-- A client publishes with an INSERT: each policy is asked about the message as the triggers would stamp it, then the INSERT
-- is tried and taken back.
create function realtime._explain_publish(role_name text, claims jsonb, channel text, message jsonb)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  event constant text := coalesce(message ->> 'event_name', 'event');
  payload constant jsonb := coalesce(message -> 'payload', '{}');
  sender constant text := realtime._subject(claims);
begin
  return query select * from realtime._explain_grant('insert', has_column_privilege(role_name, 'realtime.messages', 'channel_name', 'INSERT')
                                                               and has_column_privilege(role_name, 'realtime.messages', 'event_name', 'INSERT')
                                                               and has_column_privilege(role_name, 'realtime.messages', 'payload', 'INSERT'),
                                                     format('grant insert (channel_name, event_name, payload) on realtime.messages to %I', role_name));
  return query select * from realtime._explain_policies(role_name, claims, channel, 'realtime.messages'::regclass, 'a', jsonb_build_object(
    'id', gen_random_uuid(), 'event_name', event, 'channel_id', realtime._best_channel(channel), 'channel_name', channel, 'payload', payload,
    'sender_type', 'user', 'sender', sender, 'sender_id', case when sender ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then sender end,
    'ws_audience_count', 0, 'wh_audience_count', 0, 'wh_delivered_count', 0, 'created_at', clock_timestamp()));
  subject := 'publish'; allowed := false;
  begin
    perform realtime.publish_as(role_name, claims::text, channel, event, payload::text, null);
    allowed := true;
    raise exception 'taken back';
  -- A cancelled statement too: a policy may raise what looks like one, and nothing comes after this that could take long.
  exception when query_canceled or assert_failure or others then
    detail := case when allowed then 'may publish' else 'may not publish: error ' || sqlstate end;
  end;
  return next;
end $$;

-- The policies that a command asks, whether they are about the role, and what each says of the row with this key, or of this
-- new row. Permissive ones say yes, restrictive ones can only say no.
create function realtime._explain_policies(role_name text, claims jsonb, channel text, relation oid, command "char", key jsonb)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  p record; columns text[]; has_permissive boolean := false;
  command_name constant text := case command when 'a' then 'INSERT' else 'SELECT' end;
begin
  subject := 'row level security';
  if not realtime._policies_decide((select r.oid from pg_roles r where r.rolname = role_name), relation) then
    allowed := true; detail := 'does not bind this role'; return next;
    return;
  end if;
  allowed := null; detail := format('policies on %s decide', relation::regclass); return next;
  if command = 'r' and key is not null then
    columns := realtime._key_of(relation, key);
  end if;
  for p in
    select x.polname, x.polpermissive, x.polrelid, case command when 'a' then coalesce(x.polwithcheck, x.polqual) else x.polqual end as expression,
           x.polroles = '{0}' or exists (select from unnest(x.polroles) r where pg_has_role(role_name, r, 'USAGE')) as binds
      from pg_policy x where x.polrelid = relation and x.polcmd in (command, '*') order by x.polname
  loop
    subject := format('policy %s', p.polname); says := null; allowed := null;
    if p.binds and p.expression is not null then
      has_permissive := has_permissive or p.polpermissive;
      if key is not null then
        says := realtime._policy_says(role_name, claims::text, coalesce(channel, ''), relation, p.expression, columns, key);
        allowed := says = 'yes';
      end if;
    end if;
    detail := format('%s for %s, %s: %s', case when p.polpermissive then 'permissive' else 'restrictive' end, command_name,
                     case when p.binds then 'applies' else 'is for other roles' end, pg_get_expr(p.expression, p.polrelid));
    return next;
  end loop;
  if not has_permissive then
    subject := 'policies'; allowed := false; says := null;
    detail := format('there is none for %s that applies and is permissive: no row passes', command_name);
    return next;
  end if;
end $$;

-- ==== admin.sql ====

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

-- ==== people.sql ====

-- For people: what is going on, and the roles and helpers that most installations want.
-- None of these is called by CREATE EXTENSION; each says what it did.

create function realtime.start_worker() returns boolean
  language c volatile as 'MODULE_PATHNAME', 'start_worker';
comment on function realtime.start_worker() is
  'Launches this database''s worker when there is none. False: switched off (realtime.worker), no free slot (max_worker_processes), sidecars then tick themselves; or a standby.';

create function realtime._worker_pid() returns int
  language c volatile as 'MODULE_PATHNAME', 'worker_pid';

create function realtime.stop_worker() returns boolean
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(pg_terminate_backend(realtime._worker_pid()), false)
$$;
comment on function realtime.stop_worker() is
  'Ends this database''s worker; the next write starts one again. To keep it away: alter database ... set realtime.worker = off.';

create view realtime.sidecars as
  select a.application_name as name, a.client_addr as address, min(a.usename::text) as role, min(a.backend_start) as since, count(*) as sessions
    from pg_stat_activity a
   where a.datname = current_database() and a.application_name like 'realtime-sidecar%'
   group by a.application_name, a.client_addr;
comment on view realtime.sidecars is 'Sidecars connected to this database. Each has a name of its own and several sessions.';

create view realtime.segments as
  select k as segment, k = s.segment as is_current,
         pg_total_relation_size(format('realtime.log_%s', k)::regclass) + pg_total_relation_size(format('realtime.tick_%s', k)::regclass) as bytes,
         oldest.first_offset, newest.last_offset, oldest.at as since, newest.at as until
    from realtime.state s cross join generate_series(0, 7) k
    left join lateral (select t.first_offset, t.at from realtime.ticks t where t.segment = k order by t.id limit 1) oldest on true
    left join lateral (select t.last_offset, t.at from realtime.ticks t where t.segment = k order by t.id desc limit 1) newest on true;
comment on view realtime.segments is 'The log''s segments: size, offsets and time of what each holds.';

create function realtime.status(out mode text, out worker_pid int, out head bigint, out oldest bigint, out lag_ms float8,
                                out log_bytes bigint, out retention interval, out sidecars int)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  waiting timestamptz;
begin
  worker_pid := realtime._worker_pid();
  mode := case when pg_is_in_recovery() then 'standby' when worker_pid is null then 'poll' else 'worker' end;
  select t.last_offset into head from realtime.ticks t order by t.id desc limit 1;
  oldest := realtime._floor_offset();
  select min(l.at) into waiting from realtime.log l
   where l.run is not null and l.xid >= (select pg_snapshot_xmax(t.snapshot) from realtime.ticks t order by t.id desc limit 1);
  lag_ms := coalesce(extract(epoch from clock_timestamp() - waiting) * 1000, 0);
  log_bytes := realtime._log_bytes();
  retention := realtime._setting('log_retention')::interval;
  sidecars := (select count(*) from realtime.sidecars);
end $$;
comment on function realtime.status() is
  'mode worker|poll|standby, the worker''s pid, head (last offset), oldest (pass it as `after` for all that can be had), lag of what has committed and is not yet readable, size.';

create function realtime.create_roles() returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  role_name text;
begin
  foreach role_name in array array['anon', 'authenticated', 'service_role'] loop
    if exists (select from pg_roles where rolname = role_name) then
      return next format('role %I exists already', role_name);
    else
      execute format('create role %I nologin noinherit %s', role_name, case role_name when 'service_role' then 'bypassrls' else '' end);
      return next format('created role %I', role_name);
    end if;
  end loop;
end $$;
comment on function realtime.create_roles() is 'Creates the roles anon, authenticated and service_role (BYPASSRLS) where they are missing, and says so.';

create function realtime.create_auth_helpers() returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  helper record;
begin
  if not exists (select from pg_namespace where nspname = 'auth') then
    create schema auth;
    grant usage on schema auth to public;
    return next 'created schema auth';
  end if;
  for helper in select * from (values
      ('jwt', 'jsonb', $body$nullif(current_setting('request.jwt.claims', true), '')::jsonb$body$),
      ('uid', 'uuid', $body$case when nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid end$body$),
      ('role', 'text', $body$nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'$body$),
      ('email', 'text', $body$nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'$body$)
    ) v(name, type, body) loop
    if to_regprocedure(format('auth.%I()', helper.name)) is not null then
      return next format('function auth.%I() exists already', helper.name);
    else
      execute format('create function auth.%I() returns %s language sql stable as %L', helper.name, helper.type, 'select ' || helper.body);
      return next format('created function auth.%I()', helper.name);
    end if;
  end loop;
end $$;
comment on function realtime.create_auth_helpers() is 'Creates auth.jwt(), auth.uid(), auth.role() and auth.email() where they are missing, and says so.';

create function realtime.grant_sidecar(sidecar regrole) returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  r record; role_name text;
begin
  select rolsuper, rolbypassrls, rolinherit, rolname into r from pg_roles where oid = sidecar;
  if r.rolsuper or r.rolbypassrls then
    raise exception 'role % is a superuser or bypasses row level security', sidecar using errcode = 'invalid_role_specification',
      hint = format('alter role %s nosuperuser nobypassrls', sidecar);
  end if;
  if r.rolinherit then
    execute format('alter role %s noinherit', sidecar);
    return next format('%s: set NOINHERIT, so that it acts as a client''s role only where the extension makes it', sidecar);
  end if;
  execute format('grant execute on function realtime.tick(), realtime.ring(), realtime.rotate(), realtime.mark_lost(), realtime.keep_house(),
    realtime.read(bigint, int, int, oid, text), realtime.status(), realtime.may_subscribe(text, text, text, text, text), realtime.comparable(oid, text[]),
    realtime.publish_as(text, text, text, text, text, uuid), realtime.begin_snapshot(), realtime.snapshot(text, text, oid),
    realtime.know_identity(int, text, text), realtime.forget_identity(int), realtime.seat(oid, int[]), realtime.unseat(oid, int[]),
    realtime.judge(oid, bigint, bigint, int[]), realtime.explain_access(jsonb, text, jsonb),
    realtime.elect_webhook_sender(), realtime.claim_webhooks(int, int, text[], int[], int, int), realtime.webhook_wait_ms(text[]),
    realtime.finish_webhooks(uuid[], boolean[], int[], text[], int[], boolean), realtime.count_messages(uuid[], int[], int[]) to %s', sidecar);
  return next format('%s: may read the log and ask on behalf of clients', sidecar);
  execute format('grant execute on function realtime.admin_channels(uuid, int), realtime.admin_create_channel(text, text, text[], boolean),
    realtime.admin_update_channel(uuid, text, text, text[], boolean), realtime.admin_delete_channel(uuid),
    realtime.admin_messages(uuid, text, int, bigint, bigint), realtime.admin_clear_messages(timestamptz, uuid, int),
    realtime.admin_message_stats(uuid, timestamptz), realtime.admin_policies(), realtime.admin_retention_days(),
    realtime.admin_keep_messages(int) to %s', sidecar);
  return next format('%s: may do what administrators ask of its API', sidecar);
  foreach role_name in array array['anon', 'authenticated', 'service_role'] loop
    if exists (select from pg_roles where rolname = role_name) then
      execute format('grant %I to %s', role_name, sidecar);
      return next format('%s: member of %I', sidecar, role_name);
    end if;
  end loop;
end $$;
comment on function realtime.grant_sidecar(regrole) is
  'Gives a login role what a sidecar needs: EXECUTE on its functions, membership in anon, authenticated and service_role. Says what it did.';

-- Who may call what. Functions are open to everybody by default; here only those are that somebody needs.
revoke execute on all functions in schema realtime from public;
grant execute on function
  realtime.contract_version(), realtime.channel_name(), realtime.history(text, bigint, int), realtime._matches(text, text), realtime._subject(jsonb), realtime.notify_table_change(), realtime.start_worker(),
  realtime.enable_realtime(regclass, jsonb), realtime.enable_realtime(text, text, jsonb),
  realtime.enable_realtime_all(text, jsonb),
  realtime.disable_realtime(regclass), realtime.disable_realtime(text, text), realtime._check_table(regclass), realtime._find_table(text, text),
  realtime._trigger_arguments(regclass, jsonb), realtime._trigger_name(name, text), realtime._drop_triggers(regclass, jsonb),
  realtime._wanted_triggers(regclass, jsonb), realtime._warn_of_policies(regclass), realtime._remember(regclass)
  to public;
