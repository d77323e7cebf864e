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
comment on function realtime.forget_identity(int) is 'Takes away what know_identity() said of a number in this session.';

create function realtime._judge(relation oid, layouts bigint[], flags int2[], olds bytea[], news bytea[], identities int[]) returns text[]
  language c strict as 'MODULE_PATHNAME', 'judge_images';

create function realtime.judge(relation oid, after bigint, until bigint, identities int[], out offsets bigint[], out verdicts text[])
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
  set enable_memoize = off set enable_material = off set plan_cache_mode = force_generic_plan set jit = off
as $$
#variable_conflict use_column
declare
  t record; r record; wanted boolean; last_layout bigint := 0; position_at bigint; chunk bigint;
  layouts bigint[] := '{}'; flags int2[] := '{}'; olds bytea[] := '{}'; news bytea[] := '{}';
begin
  offsets := '{}';
  for t in select x.first_offset, x.xids, x.seqs, x.counts from realtime.ticks x
            where x.first_offset >= coalesce((select y.first_offset from realtime.ticks y where y.first_offset <= after + 1 order by y.first_offset desc limit 1), 0)
              and x.first_offset <= until and x.last_offset > after
            order by x.first_offset loop
    chunk := null;
    for r in select * from realtime._rows_of_tick(t.first_offset, t.xids, t.seqs, t.counts, after) loop
      if chunk is distinct from r.chunk then
        position_at := r.first; chunk := r.chunk;
      end if;
      position_at := position_at + 1;
      continue when position_at - 1 <= after;
      exit when position_at - 1 > until;
      continue when r.operation not in ('I', 'U', 'D');
      if r.layout <> last_layout then
        select relation = any (l.relations) into wanted from realtime.layouts l where l.id = r.layout limit 1;
        last_layout := r.layout;
      end if;
      continue when not wanted;
      offsets := offsets || (position_at - 1);
      layouts := layouts || r.layout; flags := flags || r.flags; olds := olds || r.old; news := news || r.new;
    end loop;
  end loop;
  verdicts := case when offsets = '{}' then array_fill(''::text, array[cardinality(identities)])
                   else realtime._judge(relation, layouts, flags, olds, news, identities) end;
end $$;
comment on function realtime.judge(oid, bigint, bigint, int[]) is
  'Verdicts on the row events of a table in (after, until]. For each identity a text with two characters an event, old and new image: 1 visible, 0 not, e no verdict, - no image.';
