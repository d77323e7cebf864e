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
