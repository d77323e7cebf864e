//! Ways to break the log. A ledger that does not notice them would prove nothing.

/// Transactions in the order of their ids: who began first comes first, whatever it waited for.
pub(crate) const ORDER_BY_XID: &str = "
do $$
declare
  intact text := pg_get_functiondef(coalesce(to_regprocedure('realtime._tick(boolean)'), 'realtime.tick()'::regprocedure));
  broken text := replace(intact, 'order by last_seq, xid', 'order by xid, last_seq');
begin
  if broken = intact then raise exception 'there is nothing to break'; end if;
  execute broken;
end $$";

/// Some of the transactions that were in progress at the last tick are forgotten.
pub(crate) const FORGET_LATE_COMMITS: &str = "
do $$
declare
  intact text := pg_get_functiondef(coalesce(to_regprocedure('realtime._tick(boolean)'), 'realtime.tick()'::regprocedure));
  broken text := replace(intact, 'and not pg_visible_in_snapshot(l.xid, old_snapshot)',
    'and not pg_visible_in_snapshot(l.xid, old_snapshot) and (l.xid >= old_xmax or l.xid::text::bigint % 7 > 0)');
begin
  if broken = intact then raise exception 'there is nothing to break'; end if;
  execute broken;
end $$";
