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
