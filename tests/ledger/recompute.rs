//! The order of each tick, computed again from the snapshots of two neighbouring ticks.

/// Ticks whose record differs from the difference of their snapshots: tick, what the record says, what was computed.
///
/// The log's rows say which transaction wrote them and with which key; the snapshots say what was new. A tick's
/// transactions come in the order of their last keys, their rows in the order of the keys, at dense offsets. Ticks whose
/// predecessor has gone cannot be checked, and those below the floor have lost their rows.
pub(crate) const DIFFERENCES: &str = "
with pairs as (
  select t.id, t.snapshot, t.first_offset, t.last_offset, t.xids, t.seqs, t.counts,
         p.snapshot as before, pg_snapshot_xmax(p.snapshot) as from_xid
    from realtime.ticks t join realtime.ticks p on p.id = t.id - 1
   where t.xids <> '{}' and t.id >= (select s.floor_tick from realtime.state s)),
computed as (
  select x.id, array_agg(row(x.xid, x.seq)::text order by x.last_seq, x.xid, x.seq) as rows
    from (select p.id, l.xid, l.seq, max(l.seq) over (partition by p.id, l.xid) as last_seq
            from pairs p cross join lateral (
              select l.xid, l.seq from realtime.log l
               where l.run is not null and l.xid >= p.from_xid and l.xid < pg_snapshot_xmax(p.snapshot)
                 and pg_visible_in_snapshot(l.xid, p.snapshot)
              union all
              select l.xid, l.seq from realtime.log l
               where l.run is null and l.xid >= p.from_xid and l.xid < pg_snapshot_xmax(p.snapshot)
                 and pg_visible_in_snapshot(l.xid, p.snapshot)
              union all
              select l.xid, l.seq from pg_snapshot_xip(p.before) e join realtime.log l on l.xid = e and l.run is not null
               where pg_visible_in_snapshot(e, p.snapshot)
              union all
              select l.xid, l.seq from pg_snapshot_xip(p.before) e join realtime.log l on l.xid = e and l.run is null
               where pg_visible_in_snapshot(e, p.snapshot)) l) x
   group by x.id),
recorded as (
  select p.id, array_agg(row(l.xid, l.seq)::text order by c.chunk, l.seq) as rows
    from pairs p
   cross join lateral unnest(p.xids, p.seqs, p.counts) with ordinality c(xid, seq, n, chunk)
   cross join lateral (
     select l.xid, l.seq from realtime.log l
      where l.run is null and l.xid = c.xid and l.seq >= c.seq and l.seq < c.seq + c.n - 1
     union all
     select l.xid, l.seq from realtime.log l where l.run is not null and l.xid = c.xid and l.seq = c.seq + c.n - 1) l
   group by p.id)
select p.id, p.last_offset - p.first_offset + 1 as announced,
       coalesce(array_length(r.rows, 1), 0) as recorded, coalesce(array_length(c.rows, 1), 0) as computed
  from pairs p left join recorded r using (id) left join computed c using (id)
 where r.rows is distinct from c.rows or p.last_offset - p.first_offset + 1 <> coalesce(array_length(r.rows, 1), 0)";

/// Ticks in their order, to be checked as a chain: numbers without a hole, offsets that never overlap. Those below the floor
/// do not count: a segment that could not be given back in its turn still has some.
pub(crate) const CHAIN: &str = "
select t.id, p.id as before, t.first_offset, p.last_offset
  from (select t.*, lag(t.id) over w as before_id, lag(t.last_offset) over w as before_last
          from realtime.ticks t where t.id >= (select s.floor_tick from realtime.state s) window w as (order by t.id)) t
  join realtime.ticks p on p.id = t.before_id
 where t.id <> p.id + 1 or t.first_offset <= p.last_offset
    or (t.incarnation = p.incarnation and t.first_offset <> p.last_offset + 1)
    or (t.incarnation <> p.incarnation and t.first_offset < p.last_offset + (1::bigint << 30))";

/// Rows that ended in no tick although everything has been read: none may be left.
pub(crate) const LEFT: &str = "
select l.xid::text, l.seq from realtime.log l
 where l.run is not null and l.xid >= (select pg_snapshot_xmax(t.snapshot) from realtime.ticks t order by t.id desc limit 1)";
