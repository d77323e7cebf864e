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
