-- How the values of a column are compared, for filters that are answered outside of the database.
--
-- A filter must say what the same WHERE would say here. What that takes is told in one text: the type that stands below
-- any domains, an enum's labels in their order, and for texts how the server compares them. What is not known is `other`:
-- of such a column a filter can only ask whether it is NULL.

-- Texts: nothing when equal bytes are equal and the order is the server's own, `C` when bytes and ASCII decide everything,
-- `dotted` in languages whose letters I and i are no pair, `loose` when different bytes may be equal or nothing is known.
-- The catalogs' columns differ between versions of Postgres, so they are read by name.
create function realtime._compares_texts(collation oid) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select case when pg_encoding_to_char(d.encoding) = 'SQL_ASCII' or not c.collisdeterministic then ' collate loose'
              when l.provider in ('c', 'b') and l.sorts in ('C', 'POSIX') and l.types in ('C', 'POSIX') then ' collate C'
              when l.provider not in ('c', 'i', 'b') or l.types is null then ' collate loose'
              when l.types ~* '^(tr|az|lt|crh|gag|kaa|ku|tt)([-_.@]|$)' then ' collate dotted'
              else '' end
    from pg_database d
    join pg_collation c on c.oid = $1
   cross join lateral (select to_jsonb(d) as d, to_jsonb(c) as c, c.collprovider = 'd' as is_default) j
   cross join lateral (select case when is_default then coalesce(j.d ->> 'datlocprovider', 'c') else c.collprovider::text end) p(provider)
   cross join lateral (
     select p.provider,
            case when p.provider = 'c' and is_default then d.datcollate
                 when p.provider = 'c' then j.c ->> 'collcollate'
                 when is_default then coalesce(j.d ->> 'datlocale', j.d ->> 'daticulocale')
                 else coalesce(j.c ->> 'colllocale', j.c ->> 'colliculocale', j.c ->> 'collcollate') end as sorts,
            case when p.provider = 'c' and is_default then d.datctype
                 when p.provider = 'c' then j.c ->> 'collctype'
                 when is_default then coalesce(j.d ->> 'datlocale', j.d ->> 'daticulocale')
                 else coalesce(j.c ->> 'colllocale', j.c ->> 'colliculocale', j.c ->> 'collctype') end as types) l
   where d.datname = current_database()
$$;

create function realtime._comparable(kind oid, collation oid) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  with recursive below(oid) as (
    select $1
    union all
    select t.typbasetype from below b join pg_type t on t.oid = b.oid where t.typtype = 'd'
  )
  select case when t.typtype = 'e' then 'enum ' || coalesce(l.labels, '[]')
              when t.oid >= 16384 then 'other'  -- may be altered, and may be called like one of the server's own
              when t.oid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
                then format_type(t.oid, null) || coalesce(realtime._compares_texts($2), ' collate loose')
              when t.oid in ('json'::regtype, 'jsonb'::regtype)
                then format_type(t.oid, null) || realtime._compares_texts('"default"'::regcollation)
              else format_type(t.oid, null) end
    from below b join pg_type t on t.oid = b.oid
    left join lateral (select json_agg(e.enumlabel::text order by e.enumsortorder)::text
                         from pg_enum e where e.enumtypid = t.oid) l(labels) on true
   where t.typtype <> 'd'
$$;
