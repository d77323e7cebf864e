-- Policies on channels and messages, saved for pg_dump.
--
-- pg_dump leaves out the policies of an extension's tables, so a restored database would have its channels and nobody
-- could enter them. This table is dumped instead. It is kept in step every few seconds, and when a restore puts its rows
-- back, a trigger makes the policies that are missing. A policy that cannot be made (its role or function is not there)
-- is a warning: it must not fail the restore.

create table realtime.saved_policies (
  table_name text not null check (table_name in ('channels', 'messages')),
  name       text not null,
  permissive boolean not null,
  command    text not null check (command in ('ALL', 'SELECT', 'INSERT', 'UPDATE', 'DELETE')),
  roles      text[] not null,
  using_expression text,
  check_expression text,
  primary key (table_name, name)
);
comment on table realtime.saved_policies is 'The policies of realtime.channels and realtime.messages, for pg_dump. Kept in step by the worker; do not edit.';
select pg_extension_config_dump('realtime.saved_policies', '');
select realtime._keep_ours('realtime.saved_policies');

-- Deparsed under this search_path every name outside pg_catalog is qualified, so it means the same anywhere.
create view realtime._policies as
  select p.tablename::text collate "default" as table_name, p.policyname::text collate "default" as name,
         p.permissive = 'PERMISSIVE' as permissive, p.cmd as command, p.roles::text[] collate "default" as roles, p.qual as using_expression, p.with_check as check_expression
    from pg_policies p where p.schemaname = 'realtime' and p.tablename in ('channels', 'messages');

create function realtime.save_policies() returns int
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  changed int; n int;
begin
  delete from realtime.saved_policies s where not exists (select from realtime._policies p where p::text = s::text);
  get diagnostics changed = row_count;
  insert into realtime.saved_policies select p.* from realtime._policies p on conflict do nothing;
  get diagnostics n = row_count;
  return changed + n;
end $$;
comment on function realtime.save_policies() is 'Brings realtime.saved_policies in step with the policies. The worker calls it; call it yourself right before a dump.';

create function realtime._restore_policy() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from realtime._policies p where p.table_name = new.table_name and p.name = new.name) then
    return null;
  end if;
  execute format('create policy %I on realtime.%I as %s for %s to %s', new.name, new.table_name,
      case when new.permissive then 'permissive' else 'restrictive' end, new.command,
      (select string_agg(case when r = 'public' then 'public' else quote_ident(r) end, ', ') from unnest(new.roles) r))
    || case when new.using_expression is null then '' else format(' using (%s)', new.using_expression) end
    || case when new.check_expression is null then '' else format(' with check (%s)', new.check_expression) end;
  return null;
exception when others then
  raise warning 'realtime: policy "%" on % could not be restored: %', new.name, new.table_name, sqlerrm
    using hint = 'Make what it needs (roles, functions), then create it by hand.';
  return null;
end $$;

create trigger restore_policy after insert on realtime.saved_policies
  for each row execute function realtime._restore_policy();

-- What has to be done now and then, by whoever ticks.
create function realtime.keep_house() returns text
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
begin
  perform realtime.cleanup_messages(10000);
  perform realtime.cleanup_webhook_deliveries(10000);
  perform realtime.save_policies();
  begin
    perform realtime._notice_changes(true);
  exception when lock_not_available then
    null;  -- somebody is changing the table: at the next turn
  end;
  return realtime.rotate();
end $$;
comment on function realtime.keep_house() is
  'Retention of messages, webhook deliveries and log, saved policies, tables that changed without events. Called every ten seconds by the worker, or by a sidecar when there is none.';
