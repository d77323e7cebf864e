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
