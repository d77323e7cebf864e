-- What the sidecar asks on behalf of a client.
--
-- The database decides, as the client's role, with the client's verified claims in request.jwt.claims. A role is only
-- ever assumed inside the C functions below: they set role and claims, forbid everything that could outlive the call
-- (SECURITY_RESTRICTED_OPERATION), and undo all of it. `set local role` around SQL would be an escalation: a policy's
-- function can reset the role, or replace the driver's prepared statements.

-- 1 when the caller sees an enabled channel whose pattern matches, 0 when not, and the SQLSTATE when a policy raised an
-- error. Whatever the policies did is rolled back.
create function realtime._sees_channel(role text, claims text, channel text) returns text
  language c strict as 'MODULE_PATHNAME', 'sees_channel';

-- Inserts a message under the caller's policies. It stays; nothing else does.
create function realtime._insert_as(role text, claims text, channel text, event text, payload text, message_id uuid) returns void
  language c strict as 'MODULE_PATHNAME', 'insert_as';

-- True when row level security would decide what this role sees of the table.
create function realtime._policies_decide(role oid, relation oid) returns boolean
  language c strict stable as 'MODULE_PATHNAME', 'policies_decide';

create function realtime.may_subscribe(role text, claims text, channel text, schema_name text, table_name text)
  returns table (allowed boolean, reason text, relation oid, columns text[], types text[], key text[], whole boolean, shape bigint,
                 judged boolean, rights bigint, numbers int2[])
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  sight text;
begin
  allowed := false;
  if not exists (select from pg_roles r where r.rolname = role) then
    reason := 'no_role';
  elsif not pg_has_role(session_user, role, 'MEMBER') then
    reason := 'role_not_granted';
  elsif table_name is not null then
    return query select * from realtime._may_subscribe_table(role, schema_name, table_name);
    return;
  elsif realtime._channel_name_error(channel) is not null then
    reason := 'channel_name';
  elsif realtime._best_channel(channel) is null then
    reason := 'no_channel';
  else
    sight := realtime._sees_channel(role, claims, channel);
    allowed := sight = '1';
    reason := case sight when '1' then 'ok' when '0' then 'policies' else 'policy_failed ' || sight end;
  end if;
  return next;
end $$;
comment on function realtime.may_subscribe(text, text, text, text, text) is
  'Whether a role with these claims may subscribe to a channel, or to a table: which of its columns it may read, and whether policies judge each row. `reason` is for the log; policy_failed is followed by the SQLSTATE.';

create function realtime._may_subscribe_table(role text, schema_name text, table_name text)
  returns table (allowed boolean, reason text, relation oid, columns text[], types text[], key text[], whole boolean, shape bigint,
                 judged boolean, rights bigint, numbers int2[])
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  hidden text[];
begin
  allowed := false;
  select c.oid into relation from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where n.nspname = schema_name and c.relname = table_name;
  if relation is null then
    reason := 'no_table';
  elsif not exists (select from realtime.tables t where t.relation = _may_subscribe_table.relation) then
    reason := 'not_enabled';
  elsif not has_schema_privilege(role, schema_name, 'USAGE') then
    reason := 'no_privilege';
  else
    hidden := realtime._excluded_columns(relation);
    -- The numbers tell a column from a new one by the same name.
    select array_agg(a.attname::text order by a.attnum), array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum), array_agg(a.attnum order by a.attnum)
      into columns, types, numbers from pg_attribute a
     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attname <> all (hidden)
       and has_column_privilege(role, relation, a.attnum, 'SELECT');
    key := realtime._key_columns(relation);
    whole := has_table_privilege(role, relation, 'SELECT');
    shape := realtime._shape(relation);
    judged := realtime._policies_decide((select r.oid from pg_roles r where r.rolname = role), relation);
    rights := case when judged then realtime._rights(role, relation) end;
    reason := case when columns is null then 'no_privilege' else 'ok' end;
    allowed := reason = 'ok';
  end if;
  return next;
end $$;

-- A number that changes whenever verdicts for a role on a table whose policies decide may change: with the policies, the
-- functions that they call and the tables that they read, and the policies of those; with owners, grants and switches of
-- these tables; with the role and what it is a member of. What is further away (the tables that a function reads) is not seen.
create function realtime._rights(role text, relation oid) returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  with recursive read(oid) as (
    select _rights.relation
    union
    select d.refobjid from read join pg_policy p on p.polrelid = read.oid
      join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
  ), member(oid) as (
    select r.oid from pg_roles r where r.rolname = _rights.role
    union
    select m.roleid from member join pg_auth_members m on m.member = member.oid
  ), fact(said) as (
    select concat_ws(' ', 't', c.oid, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relacl) from read join pg_class c on c.oid = read.oid
    union all
    select concat_ws(' ', 'c', a.attrelid, a.attnum, a.attacl) from read join pg_attribute a on a.attrelid = read.oid where a.attacl is not null
    union all
    select concat_ws(' ', 'p', p.oid, p.xmin) from read join pg_policy p on p.polrelid = read.oid
    union all
    select concat_ws(' ', 'f', f.oid, f.xmin) from read join pg_policy p on p.polrelid = read.oid
      join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
      join pg_proc f on f.oid = d.refobjid
    union all
    select concat_ws(' ', 'r', r.oid, r.rolsuper, r.rolbypassrls, r.rolinherit) from member join pg_roles r on r.oid = member.oid
    union all
    select concat_ws(' ', 'm', m::text) from member join pg_auth_members m on m.member = member.oid
  )
  select hashtextextended(string_agg(said, chr(10) order by said collate "C"), 0) from fact;
end;

-- Primary key or, without one, the index that REPLICA IDENTITY names; in the index's order.
create function realtime._key_columns(relation oid) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select array_agg(a.attname::text order by k.position)
    from (select i.indexrelid, i.indkey, i.indnkeyatts from pg_index i
           where i.indrelid = relation and (i.indisprimary or i.indisreplident) order by i.indisprimary desc limit 1) i,
         unnest(i.indkey) with ordinality k(attnum, position), pg_attribute a
   where a.attrelid = relation and a.attnum = k.attnum and k.position <= i.indnkeyatts;
end;

-- What the table's `exclude` option leaves out. Trigger arguments are stored as zero-terminated strings, in pairs.
create function realtime._excluded_columns(relation oid) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(p.words[i + 1]), '{}')
    from pg_trigger t,
         lateral (select array_agg(convert_from(decode(w, 'hex'), getdatabaseencoding()) order by n) as words
                    from regexp_split_to_table(regexp_replace(encode(t.tgargs, 'hex'), '((?:(?!00)..)*)00', '\1,', 'g'), ',')
                         with ordinality s(w, n)) p,
         generate_series(1, t.tgnargs, 2) i
   where t.tgrelid = relation and t.tgparentid = 0 and t.tgfoid = 'realtime.notify_table_change()'::regprocedure
     and p.words[i] = 'exclude'
$$;

create function realtime.publish_as(role text, claims text, channel text, event text, payload text, wanted_id uuid)
  returns table (message_id uuid, duplicate boolean)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  fault constant text := realtime._channel_name_error(channel);
begin
  if fault is not null then
    raise exception 'channel name %', fault using errcode = 'invalid_parameter_value';
  elsif coalesce(event, '') = '' or octet_length(event) > 255 then
    raise exception 'event name must have 1 to 255 bytes' using errcode = 'invalid_parameter_value';
  elsif octet_length(payload) > realtime._max_event_bytes() then
    raise exception 'payload has % bytes, more than realtime.max_event_bytes', octet_length(payload)
      using errcode = 'program_limit_exceeded', hint = 'Send a reference instead of the content.';
  elsif not exists (select from pg_roles r where r.rolname = role) or not pg_has_role(session_user, role, 'MEMBER') then
    raise exception 'role "%" does not exist, or may not be assumed', role using errcode = 'undefined_object',
      hint = 'select realtime.grant_sidecar(...), or grant the role to the sidecar''s.';
  elsif realtime._best_channel(channel) is null then
    raise exception 'not allowed to publish' using errcode = 'insufficient_privilege';
  end if;

  duplicate := false;
  if wanted_id is null then
    message_id := gen_random_uuid();
    perform realtime._insert_as(role, claims, channel, event, payload, message_id);
    return next;
    return;
  end if;
  message_id := wanted_id;
  duplicate := realtime._is_duplicate(role, claims, channel, event, wanted_id);
  if not duplicate then
    begin
      perform realtime._insert_as(role, claims, channel, event, payload, wanted_id);
    exception when unique_violation then  -- the same id, sent twice at once: the other one committed first
      duplicate := realtime._is_duplicate(role, claims, channel, event, wanted_id);
    end;
  end if;
  return next;
end $$;
comment on function realtime.publish_as(text, text, text, text, text, uuid) is
  'Publishes a message as a role with these claims, under its INSERT policies. The same message id again makes no second message.';

-- Whether the caller has sent this very message before. Another's message is none of theirs, not even its existence
-- on their channel: only those whom no policy binds may repeat the system's.
create function realtime._is_duplicate(role text, claims text, channel text, event text, wanted_id uuid) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  m record;
begin
  select x.channel_name, x.event_name, x.sender, x.sender_type into m from realtime.messages x where x.id = wanted_id;
  if not found then
    return false;
  elsif m.channel_name = channel and m.event_name = event
        and (case m.sender_type
               when 'user' then m.sender is not distinct from realtime._subject(claims::jsonb)
               else not realtime._policies_decide((select r.oid from pg_roles r where r.rolname = role), 'realtime.messages'::regclass)
             end) then
    return true;
  end if;
  raise exception 'message id % names another message', wanted_id using errcode = 'unique_violation',
    hint = 'Make a new id for each message.';
end $$;
