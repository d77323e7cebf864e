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
  elsif may.judged then
    raise exception 'the history of a table whose policies decide cannot be shown' using errcode = 'feature_not_supported',
      hint = 'Subscribe to it.';
  end if;
  loop
    for r in select * from realtime.read(after, least(max_events - n, 1000), 4194304, may.relation, case when parts is null then channel end) loop
      if r.kind = 'e' then
        n := n + 1;
        "offset" := r."offset"; at := r.at;
        if parts is null then
          event := r.event; payload := r.payload::jsonb;
        elsif r.relations is not null and not may.whole and may.shape is distinct from r.shapes[array_position(r.relations, may.relation)] then
          -- Columns have changed places since the caller was judged: no name may stand for another column.
          event := 'GAP'; payload := '{"reason": "unjudged"}';
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
