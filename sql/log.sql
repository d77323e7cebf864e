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
