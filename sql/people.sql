-- For people: what is going on, and the roles and helpers that most installations want.
-- None of these is called by CREATE EXTENSION; each says what it did.

create function realtime.start_worker() returns boolean
  language c volatile as 'MODULE_PATHNAME', 'start_worker';
comment on function realtime.start_worker() is
  'Launches this database''s worker when there is none. False: switched off (realtime.worker), no free slot (max_worker_processes), sidecars then tick themselves; or a standby.';

create function realtime._worker_pid() returns int
  language c volatile as 'MODULE_PATHNAME', 'worker_pid';

create function realtime.stop_worker() returns boolean
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(pg_terminate_backend(realtime._worker_pid()), false)
$$;
comment on function realtime.stop_worker() is
  'Ends this database''s worker; the next write starts one again. To keep it away: alter database ... set realtime.worker = off.';

create view realtime.sidecars as
  select a.application_name as name, a.client_addr as address, min(a.usename::text) as role, min(a.backend_start) as since, count(*) as sessions
    from pg_stat_activity a
   where a.datname = current_database() and a.application_name like 'realtime-sidecar%'
   group by a.application_name, a.client_addr;
comment on view realtime.sidecars is 'Sidecars connected to this database. Each has a name of its own and several sessions.';

create view realtime.segments as
  select k as segment, k = s.segment as is_current,
         pg_total_relation_size(format('realtime.log_%s', k)::regclass) + pg_total_relation_size(format('realtime.tick_%s', k)::regclass) as bytes,
         oldest.first_offset, newest.last_offset, oldest.at as since, newest.at as until
    from realtime.state s cross join generate_series(0, 7) k
    left join lateral (select t.first_offset, t.at from realtime.ticks t where t.segment = k order by t.id limit 1) oldest on true
    left join lateral (select t.last_offset, t.at from realtime.ticks t where t.segment = k order by t.id desc limit 1) newest on true;
comment on view realtime.segments is 'The log''s segments: size, offsets and time of what each holds.';

create function realtime.status(out mode text, out worker_pid int, out head bigint, out oldest bigint, out lag_ms float8,
                                out log_bytes bigint, out retention interval, out sidecars int)
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  waiting timestamptz;
begin
  worker_pid := realtime._worker_pid();
  mode := case when pg_is_in_recovery() then 'standby' when worker_pid is null then 'poll' else 'worker' end;
  select t.last_offset into head from realtime.ticks t order by t.id desc limit 1;
  oldest := realtime._floor_offset();
  select min(l.at) into waiting from realtime.log l
   where l.run is not null and l.xid >= (select pg_snapshot_xmax(t.snapshot) from realtime.ticks t order by t.id desc limit 1);
  lag_ms := coalesce(extract(epoch from clock_timestamp() - waiting) * 1000, 0);
  log_bytes := realtime._log_bytes();
  retention := realtime._setting('log_retention')::interval;
  sidecars := (select count(*) from realtime.sidecars);
end $$;
comment on function realtime.status() is
  'mode worker|poll|standby, the worker''s pid, head (last offset), oldest (pass it as `after` for all that can be had), lag of what has committed and is not yet readable, size.';

create function realtime.create_roles() returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  role_name text;
begin
  foreach role_name in array array['anon', 'authenticated', 'service_role'] loop
    if exists (select from pg_roles where rolname = role_name) then
      return next format('role %I exists already', role_name);
    else
      execute format('create role %I nologin noinherit %s', role_name, case role_name when 'service_role' then 'bypassrls' else '' end);
      return next format('created role %I', role_name);
    end if;
  end loop;
end $$;
comment on function realtime.create_roles() is 'Creates the roles anon, authenticated and service_role (BYPASSRLS) where they are missing, and says so.';

create function realtime.create_auth_helpers() returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  helper record;
begin
  if not exists (select from pg_namespace where nspname = 'auth') then
    create schema auth;
    grant usage on schema auth to public;
    return next 'created schema auth';
  end if;
  for helper in select * from (values
      ('jwt', 'jsonb', $body$nullif(current_setting('request.jwt.claims', true), '')::jsonb$body$),
      ('uid', 'uuid', $body$case when nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid end$body$),
      ('role', 'text', $body$nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'$body$),
      ('email', 'text', $body$nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'$body$)
    ) v(name, type, body) loop
    if to_regprocedure(format('auth.%I()', helper.name)) is not null then
      return next format('function auth.%I() exists already', helper.name);
    else
      execute format('create function auth.%I() returns %s language sql stable as %L', helper.name, helper.type, 'select ' || helper.body);
      return next format('created function auth.%I()', helper.name);
    end if;
  end loop;
end $$;
comment on function realtime.create_auth_helpers() is 'Creates auth.jwt(), auth.uid(), auth.role() and auth.email() where they are missing, and says so.';

create function realtime.grant_sidecar(sidecar regrole) returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  r record; role_name text;
begin
  select rolsuper, rolbypassrls, rolinherit, rolname into r from pg_roles where oid = sidecar;
  if r.rolsuper or r.rolbypassrls then
    raise exception 'role % is a superuser or bypasses row level security', sidecar using errcode = 'invalid_role_specification',
      hint = format('alter role %s nosuperuser nobypassrls', sidecar);
  end if;
  if r.rolinherit then
    execute format('alter role %s noinherit', sidecar);
    return next format('%s: set NOINHERIT, so that it acts as a client''s role only where the extension makes it', sidecar);
  end if;
  execute format('grant execute on function realtime.tick(), realtime.ring(), realtime.rotate(), realtime.mark_lost(), realtime.keep_house(),
    realtime.read(bigint, int, int, oid, text), realtime.status(), realtime.may_subscribe(text, text, text, text, text), realtime.comparable(oid, text[]),
    realtime.publish_as(text, text, text, text, text, uuid), realtime.begin_snapshot(), realtime.snapshot(text, text, oid),
    realtime.know_identity(int, text, text), realtime.forget_identity(int), realtime.seat(oid, int[]), realtime.unseat(oid, int[]),
    realtime.judge(oid, bigint, bigint, int[]), realtime.explain_access(jsonb, text, jsonb),
    realtime.elect_webhook_sender(), realtime.claim_webhooks(int, int, text[], int[], int, int), realtime.webhook_wait_ms(text[]),
    realtime.finish_webhooks(uuid[], boolean[], int[], text[], int[], boolean), realtime.count_messages(uuid[], int[], int[]) to %s', sidecar);
  return next format('%s: may read the log and ask on behalf of clients', sidecar);
  execute format('grant execute on function realtime.admin_channels(uuid, int), realtime.admin_create_channel(text, text, text[], boolean),
    realtime.admin_update_channel(uuid, text, text, text[], boolean), realtime.admin_delete_channel(uuid),
    realtime.admin_messages(uuid, text, int, bigint, bigint), realtime.admin_clear_messages(timestamptz, uuid, int),
    realtime.admin_message_stats(uuid, timestamptz), realtime.admin_policies(), realtime.admin_retention_days(),
    realtime.admin_keep_messages(int) to %s', sidecar);
  return next format('%s: may do what administrators ask of its API', sidecar);
  foreach role_name in array array['anon', 'authenticated', 'service_role'] loop
    if exists (select from pg_roles where rolname = role_name) then
      execute format('grant %I to %s', role_name, sidecar);
      return next format('%s: member of %I', sidecar, role_name);
    end if;
  end loop;
end $$;
comment on function realtime.grant_sidecar(regrole) is
  'Gives a login role what a sidecar needs: EXECUTE on its functions, membership in anon, authenticated and service_role. Says what it did.';

-- Who may call what. Functions are open to everybody by default; here only those are that somebody needs.
revoke execute on all functions in schema realtime from public;
grant execute on function
  realtime.contract_version(), realtime.channel_name(), realtime.history(text, bigint, int), realtime._matches(text, text), realtime._subject(jsonb), realtime.notify_table_change(), realtime.start_worker(),
  realtime.enable_realtime(regclass, jsonb), realtime.enable_realtime(text, text, jsonb),
  realtime.enable_realtime_all(text, jsonb),
  realtime.disable_realtime(regclass), realtime.disable_realtime(text, text), realtime._check_table(regclass), realtime._find_table(text, text),
  realtime._trigger_arguments(regclass, jsonb), realtime._trigger_name(name, text), realtime._drop_triggers(regclass, jsonb),
  realtime._wanted_triggers(regclass, jsonb), realtime._warn_of_policies(regclass), realtime._remember(regclass)
  to public;
