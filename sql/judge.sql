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
