-- How the values of a column are compared, for filters that are answered outside of the database.
--
-- A filter must say what the same WHERE would say here. What that takes is told in one text for each column: the type that
-- stands below any domains, an enum's labels in their order, and for texts how the server compares them. What is not known
-- is `other`: of such a column a filter can only ask whether it is NULL. Asked once a second for each party that filters, so
-- the functions are written in a language that keeps its plans.

create function realtime.comparable(relation oid, columns text[]) returns text[]
  language plpgsql stable strict security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    select array_agg(
             case when t.typtype = 'e' then realtime._labels(t.oid)
                  when t.oid >= 16384 then 'other'  -- may be altered, and may be called like one of the server's own
                  when t.oid in (25, 1042, 1043) then format_type(t.oid, null) || realtime._compares_texts(a.attcollation)
                  when t.oid in (114, 3802) then format_type(t.oid, null) || realtime._compares_texts(100)  -- of what ->> gives
                  else format_type(t.oid, null) end order by c.n)
      from unnest(comparable.columns) with ordinality c(name, n)
      left join (pg_attribute a join pg_type d on d.oid = a.atttypid
                 join pg_type t on t.oid = case when d.typtype = 'd' then realtime._below(d.oid) else d.oid end)
        on a.attrelid = comparable.relation and a.attname = c.name and a.attnum > 0 and not a.attisdropped);
end $$;
comment on function realtime.comparable(oid, text[]) is
  'How the values of these columns are compared: what a sidecar must know to answer filters as the database would.';

-- The type below a domain, however many stand above it.
create function realtime._below(domain oid) returns oid
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  below oid := domain; kind "char" := 'd';
begin
  while kind = 'd' loop
    select t.typbasetype into below from pg_type t where t.oid = below;
    select t.typtype into kind from pg_type t where t.oid = below;
  end loop;
  return below;
end $$;

create function realtime._labels(kind oid) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return 'enum ' || (select coalesce(json_agg(e.enumlabel::text order by e.enumsortorder), '[]') from pg_enum e where e.enumtypid = kind);
end $$;

-- Texts: nothing when equal bytes are equal and the order is the server's own, `C` when bytes and ASCII decide everything,
-- `dotted` in languages whose letters I and i are no pair, `loose` when different bytes may be equal or nothing is known.
-- The catalogs' columns differ between versions of Postgres, so they are read by name.
create function realtime._compares_texts(sorting oid) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb; c jsonb; provider text; sorts text; cases text;
begin
  if getdatabaseencoding() = 'SQL_ASCII' then
    return ' collate loose';
  end if;
  select to_jsonb(x) - 'collversion' into c from pg_collation x where x.oid = sorting;
  if c ->> 'collprovider' = 'd' then
    select to_jsonb(x) into d from pg_database x where x.datname = current_database();
    provider := coalesce(d ->> 'datlocprovider', 'c');
    sorts := case when provider = 'c' then d ->> 'datcollate' else coalesce(d ->> 'datlocale', d ->> 'daticulocale') end;
    cases := case when provider = 'c' then d ->> 'datctype' else sorts end;
  else
    provider := c ->> 'collprovider';
    sorts := coalesce(c ->> 'colllocale', c ->> 'colliculocale', c ->> 'collcollate');
    cases := coalesce(c ->> 'colllocale', c ->> 'colliculocale', c ->> 'collctype');
  end if;
  return case when not (c ->> 'collisdeterministic')::boolean or provider not in ('c', 'i', 'b') or sorts is null or cases is null then ' collate loose'
              when provider <> 'i' and sorts in ('C', 'POSIX') and cases in ('C', 'POSIX') then ' collate C'
              when cases ~* '^(tr|az|lt|crh|gag|kaa|ku|tt)([-_.@]|$)' then ' collate dotted'
              else '' end;
end $$;
