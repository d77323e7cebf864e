-- Why somebody may listen or publish, or may not: for people, in rows. It asks what the sidecar asks, so it says what
-- holds; and it asks each policy by itself, so it says whose word it is.
--
-- `allowed` is whether the thing stands in nobody's way; NULL where it does not matter. `says` is a policy's own word, yes,
-- no, null or the SQLSTATE of the error that it raised: only yes counts as yes.

-- What one policy says of one row to an identity, as whom it is run: yes, no or null, or the SQLSTATE of an error. The row
-- is the one with the key's values in these columns (none or several when there is not exactly one), whoever may see it;
-- without columns the key is the row, one that may come to be. Without an expression: what all policies say together. An
-- expression is only to be had from the catalog: nobody can write a pg_node_tree.
create function realtime._policy_says(role text, claims text, channel text, relation oid, expression pg_node_tree, columns text[], key jsonb) returns text
  language c as 'MODULE_PATHNAME', 'policy_says';

create function realtime.explain_access(claims jsonb, channel text, key jsonb default null)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  role_name constant text := claims ->> 'role';
  parts constant text[] := realtime._table_of(channel);
begin
  subject := 'role'; allowed := exists (select from pg_roles r where r.rolname = role_name);
  detail := case when role_name is null then 'the claims have no role' when allowed then role_name else format('there is no role %s', role_name) end;
  return next;
  if allowed then
    allowed := pg_has_role(session_user, role_name, 'MEMBER');
    subject := 'login role';
    detail := format(case when allowed then '%s may act as %s' else '%s may not act as %s: grant it the role' end, session_user, role_name);
    return next;
  end if;
  if not allowed then
    subject := 'verdict'; detail := 'may not subscribe'; return next;
  elsif parts is not null then
    return query select * from realtime._explain_table(role_name, claims, coalesce(parts[cardinality(parts) - 1], 'public'), parts[cardinality(parts)], key);
  else
    return query select * from realtime._explain_channel(role_name, claims, channel);
    return query select * from realtime._explain_publish(role_name, claims, channel, coalesce(key, '{}'));
  end if;
end $$;
comment on function realtime.explain_access(jsonb, text, jsonb) is
  'Why a token with these claims may listen to a channel or publish there, or not; with the key of a table''s row, whether it sees that row, and what each policy says of it. One row for each thing that counts. For a channel the key may hold event_name and payload of the message.';

-- A grant that somebody needs, and the statement that gives it.
create function realtime._explain_grant(what text, granted boolean, remedy text)
  returns table (subject text, allowed boolean, says text, detail text)
  language sql immutable
  set search_path = pg_catalog, pg_temp
begin atomic
  select what, granted, null, case when granted then 'granted' else 'missing: ' || remedy end;
end;

create function realtime._explain_table(role_name text, claims jsonb, schema_name text, table_name text, key jsonb)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  may record; hidden text; sees text := 'yes';
begin
  select * into may from realtime.may_subscribe(role_name, claims::text, '', schema_name, table_name);
  subject := 'table'; allowed := may.reason not in ('no_table', 'not_enabled');
  detail := case may.reason when 'no_table' then 'there is no such table'
                            when 'not_enabled' then format('is not enabled: select realtime.enable_realtime(%L, %L)', schema_name, table_name)
                            else 'is enabled' end;
  return next;
  if not allowed then
    subject := 'verdict'; detail := 'may not subscribe'; return next;
    return;
  end if;
  may.relation := format('%I.%I', schema_name, table_name)::regclass;
  return query select * from realtime._explain_grant('schema', has_schema_privilege(role_name, schema_name, 'USAGE'),
                                                     format('grant usage on schema %I to %I', schema_name, role_name));
  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into hidden from pg_attribute a
   where a.attrelid = may.relation and a.attnum > 0 and not a.attisdropped and not has_column_privilege(role_name, may.relation, a.attnum, 'SELECT');
  subject := 'columns'; allowed := has_any_column_privilege(role_name, may.relation, 'SELECT');
  detail := concat_ws('; ', 'may read ' || array_to_string(may.columns, ', '),
                      'missing: grant select (' || hidden || format(') on %s to %I', may.relation::regclass, role_name),
                      'left out when the table was enabled: ' || array_to_string(nullif(realtime._excluded_columns(may.relation), '{}'), ', '));
  return next;
  return query select * from realtime._explain_policies(role_name, claims, null, may.relation, 'r', key);
  if key is not null then
    sees := realtime._policy_says(role_name, claims::text, '', may.relation, null, realtime._key_of(may.relation, key), key);
    subject := 'row'; allowed := sees = 'yes'; says := sees;
    detail := format(case sees when 'yes' then 'sees %s' when 'none' then 'sees no row like %s' when 'several' then 'several rows are like %s: give the whole key'
                               else 'sees no row like %s: error ' || sees end, key);
    return next;
  end if;
  subject := 'verdict'; allowed := may.allowed and sees = 'yes'; says := null;
  detail := concat_ws(', ', case when may.allowed then 'may subscribe' else 'may not subscribe' end,
                      case when key is null then null when sees = 'yes' then 'sees the row' else 'does not see the row' end);
  return next;
end $$;

-- The columns that a key names, which must be there.
create function realtime._key_of(relation oid, key jsonb) returns text[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  names constant text[] := array(select jsonb_object_keys(key));
  stranger constant text := (select n from unnest(names) n
    where not exists (select from pg_attribute a where a.attrelid = relation and a.attname = n and a.attnum > 0 and not a.attisdropped) limit 1);
begin
  if names = '{}' or stranger is not null then
    raise exception 'the key names no column of the table' using errcode = 'invalid_parameter_value',
      hint = 'Give the key columns and their values, such as {"id": 1}.';
  end if;
  return names;
end $$;

create function realtime._explain_channel(role_name text, claims jsonb, channel text)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c record; may record;
begin
  for c in select x.id, x.pattern, x.enabled from realtime.channels x where realtime._matches(channel, x.pattern) order by x.pattern loop
    subject := format('pattern %s', c.pattern); allowed := c.enabled; detail := case when c.enabled then 'matches' else 'matches, and is disabled' end;
    return next;
    return query select * from realtime._explain_policies(role_name, claims, channel, 'realtime.channels'::regclass, 'r', jsonb_build_object('id', c.id));
  end loop;
  return query select * from realtime._explain_grant('schema', has_schema_privilege(role_name, 'realtime', 'USAGE'), format('grant usage on schema realtime to %I', role_name));
  return query select * from realtime._explain_grant('channels', has_column_privilege(role_name, 'realtime.channels', 'pattern', 'SELECT')
                                                                 and has_column_privilege(role_name, 'realtime.channels', 'enabled', 'SELECT'),
                                                     format('grant select (id, pattern, enabled) on realtime.channels to %I', role_name));
  select * into may from realtime.may_subscribe(role_name, claims::text, channel, null, null);
  subject := 'verdict'; allowed := may.allowed;
  detail := case may.reason when 'ok' then 'may subscribe' when 'no_channel' then 'no enabled pattern matches the channel'
                            when 'policies' then 'no policy on realtime.channels shows a matching pattern'
                            else replace(may.reason, 'policy_failed', 'a policy on realtime.channels raised') end;
  return next;
end $$;

-- A client publishes with an INSERT: each policy is asked about the message as the triggers would stamp it, then the INSERT
-- is tried and taken back.
create function realtime._explain_publish(role_name text, claims jsonb, channel text, message jsonb)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  event constant text := coalesce(message ->> 'event_name', 'event');
  payload constant jsonb := coalesce(message -> 'payload', '{}');
  sender constant text := realtime._subject(claims);
begin
  return query select * from realtime._explain_grant('insert', has_column_privilege(role_name, 'realtime.messages', 'channel_name', 'INSERT')
                                                               and has_column_privilege(role_name, 'realtime.messages', 'event_name', 'INSERT')
                                                               and has_column_privilege(role_name, 'realtime.messages', 'payload', 'INSERT'),
                                                     format('grant insert (channel_name, event_name, payload) on realtime.messages to %I', role_name));
  return query select * from realtime._explain_policies(role_name, claims, channel, 'realtime.messages'::regclass, 'a', jsonb_build_object(
    'id', gen_random_uuid(), 'event_name', event, 'channel_id', realtime._best_channel(channel), 'channel_name', channel, 'payload', payload,
    'sender_type', 'user', 'sender', sender, 'sender_id', case when sender ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then sender end,
    'ws_audience_count', 0, 'wh_audience_count', 0, 'wh_delivered_count', 0, 'created_at', clock_timestamp()));
  subject := 'publish'; allowed := false;
  begin
    perform realtime.publish_as(role_name, claims::text, channel, event, payload::text, null);
    allowed := true;
    raise exception 'taken back';
  -- A cancelled statement too: a policy may raise what looks like one, and nothing comes after this that could take long.
  exception when query_canceled or assert_failure or others then
    detail := case when allowed then 'may publish' else 'may not publish: error ' || sqlstate end;
  end;
  return next;
end $$;

-- The policies that a command asks, whether they are about the role, and what each says of the row with this key, or of this
-- new row. Permissive ones say yes, restrictive ones can only say no.
create function realtime._explain_policies(role_name text, claims jsonb, channel text, relation oid, command "char", key jsonb)
  returns table (subject text, allowed boolean, says text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  p record; columns text[]; has_permissive boolean := false;
  command_name constant text := case command when 'a' then 'INSERT' else 'SELECT' end;
begin
  subject := 'row level security';
  if not realtime._policies_decide((select r.oid from pg_roles r where r.rolname = role_name), relation) then
    allowed := true; detail := 'does not bind this role'; return next;
    return;
  end if;
  allowed := null; detail := format('policies on %s decide', relation::regclass); return next;
  if command = 'r' and key is not null then
    columns := realtime._key_of(relation, key);
  end if;
  for p in
    select x.polname, x.polpermissive, x.polrelid, case command when 'a' then coalesce(x.polwithcheck, x.polqual) else x.polqual end as expression,
           x.polroles = '{0}' or exists (select from unnest(x.polroles) r where pg_has_role(role_name, r, 'USAGE')) as binds
      from pg_policy x where x.polrelid = relation and x.polcmd in (command, '*') order by x.polname
  loop
    subject := format('policy %s', p.polname); says := null; allowed := null;
    if p.binds and p.expression is not null then
      has_permissive := has_permissive or p.polpermissive;
      if key is not null then
        says := realtime._policy_says(role_name, claims::text, coalesce(channel, ''), relation, p.expression, columns, key);
        allowed := says = 'yes';
      end if;
    end if;
    detail := format('%s for %s, %s: %s', case when p.polpermissive then 'permissive' else 'restrictive' end, command_name,
                     case when p.binds then 'applies' else 'is for other roles' end, pg_get_expr(p.expression, p.polrelid));
    return next;
  end loop;
  if not has_permissive then
    subject := 'policies'; allowed := false; says := null;
    detail := format('there is none for %s that applies and is permissive: no row passes', command_name);
    return next;
  end if;
end $$;
