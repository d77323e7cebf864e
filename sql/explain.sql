-- Why somebody may listen, or may not: for people, in rows. It asks what the sidecar asks, so it says what holds.

create function realtime.explain_access(claims jsonb, channel text, key jsonb default null)
  returns table (subject text, allowed boolean, detail text)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  role_name constant text := claims ->> 'role';
  parts constant text[] := realtime._table_of(channel);
  may record;
begin
  subject := 'role'; allowed := exists (select from pg_roles r where r.rolname = role_name);
  detail := case when role_name is null then 'the claims have no role' when allowed then role_name else format('there is no role %s', role_name) end;
  return next;
  if not allowed then
    return;
  end if;
  allowed := pg_has_role(session_user, role_name, 'MEMBER');
  subject := 'login role';
  detail := format(case when allowed then '%s may act as %s' else '%s may not act as %s: grant it the role' end, session_user, role_name);
  return next;
  if parts is not null then
    return query select * from realtime._explain_table(role_name, claims, coalesce(parts[cardinality(parts) - 1], 'public'), parts[cardinality(parts)], key);
    return;
  end if;
  return query
    select format('pattern %s', c.pattern), c.enabled, case when c.enabled then 'matches' else 'matches, and is disabled' end
      from realtime.channels c where realtime._matches(channel, c.pattern) order by c.pattern;
  return query select * from realtime._explain_policies(role_name, 'realtime.channels'::regclass);
  select * into may from realtime.may_subscribe(role_name, claims::text, channel, null, null);
  subject := 'verdict'; allowed := may.allowed;
  detail := case may.reason when 'ok' then 'may subscribe' when 'no_channel' then 'no enabled pattern matches the channel'
                            when 'policies' then 'no policy on realtime.channels shows a matching pattern' else may.reason end;
  return next;
end $$;
comment on function realtime.explain_access(jsonb, text, jsonb) is
  'Why a token with these claims may listen to a channel or not, and with the key of a row, whether it sees that row: one row for each thing that counts.';

create function realtime._explain_table(role_name text, claims jsonb, schema_name text, table_name text, key jsonb)
  returns table (subject text, allowed boolean, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  may record; hidden text;
begin
  select * into may from realtime.may_subscribe(role_name, claims::text, '', schema_name, table_name);
  subject := 'table'; allowed := may.reason not in ('no_table', 'not_enabled');
  detail := case may.reason when 'no_table' then 'there is no such table'
                            when 'not_enabled' then format('is not enabled: select realtime.enable_realtime(%L, %L)', schema_name, table_name)
                            else 'is enabled' end;
  return next;
  if not allowed then
    return;
  end if;
  subject := 'schema'; allowed := has_schema_privilege(role_name, schema_name, 'USAGE');
  detail := format(case when allowed then '%2$s may use it' else 'missing: grant usage on schema %1$I to %2$I' end, schema_name, role_name);
  return next;
  subject := 'columns'; allowed := may.columns is not null;
  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into hidden from pg_attribute a
   where a.attrelid = may.relation and a.attnum > 0 and not a.attisdropped and a.attname <> all (coalesce(may.columns, '{}'));
  detail := concat_ws('; ', 'may read ' || array_to_string(may.columns, ', '), 'no SELECT on, or excluded: ' || hidden);
  return next;
  subject := 'row level security'; allowed := not coalesce(may.judged, false);
  detail := case when may.judged then 'policies decide on each row' else 'does not bind this role: it sees every row' end;
  return next;
  if may.judged then
    return query select * from realtime._explain_policies(role_name, may.relation);
  end if;
  if key is not null and may.allowed then
    subject := 'row';
    allowed := exists (select from realtime._rows_as(role_name, claims::text, may.relation, may.columns) r where r::jsonb @> key);
    detail := format(case when allowed then 'sees %s' else 'sees no row like %s' end, key);
    return next;
  end if;
  subject := 'verdict'; allowed := may.allowed;
  detail := case when may.allowed then 'may subscribe' else 'may not subscribe' end;
  return next;
end $$;

-- The policies that SELECT asks, and whether they are about the role. Permissive ones say yes, restrictive ones can only
-- say no.
create function realtime._explain_policies(role_name text, relation oid) returns table (subject text, allowed boolean, detail text)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  (select format('policy %s', p.polname), b.binds,
         format('%s, %s: %s', case when p.polpermissive then 'permissive' else 'restrictive' end,
                case when b.binds then 'applies' else 'is for other roles' end, pg_get_expr(p.polqual, p.polrelid))
    from pg_policy p
   cross join lateral (select p.polroles = '{0}' or exists (select from unnest(p.polroles) r where pg_has_role(role_name, r, 'USAGE'))) b(binds)
   where p.polrelid = relation and p.polcmd in ('r', '*')
   order by p.polname)
   union all
  select 'policies', false, 'there is none for SELECT that applies and is permissive: no row is shown'
   where not exists (select from pg_policy p where p.polrelid = relation and p.polcmd in ('r', '*') and p.polpermissive
                        and (p.polroles = '{0}' or exists (select from unnest(p.polroles) r where pg_has_role(role_name, r, 'USAGE'))))
$$;
