\set SHOW_CONTEXT never
-- What a policy may do while it is asked, and what is left of it: nothing.
create function nosy() returns bool language plpgsql as $$
begin
  begin perform set_config('role', 'none', true); exception when others then raise notice 'role: %', sqlerrm; end;
  begin set local role postgres; exception when others then raise notice 'set role: %', sqlerrm; end;
  begin execute 'prepare stolen as select 1'; exception when others then raise notice 'prepare: %', sqlerrm; end;
  begin execute 'create temp table left_behind (x int)'; exception when others then raise notice 'temp: %', sqlerrm; end;
  begin execute 'listen ears'; exception when others then raise notice 'listen: %', sqlerrm; end;
  begin insert into public.orders values (666, 'written'); exception when others then raise notice 'write: %', sqlerrm; end;
  perform set_config('request.jwt.claims', '{"sub": "somebody else"}', false);
  perform set_config('search_path', 'evil', false);
  perform pg_advisory_lock(4711);
  raise notice 'user %, session %', current_user, session_user;
  return true;
end $$;
create policy nosy on realtime.channels for select to anon using (nosy());
create function noisy() returns bool language plpgsql as $$ begin return 1 / 0 > 0; end $$;
create policy noisy on realtime.channels for select to service_role using (noisy());
alter role service_role nobypassrls;
select session_user = current_user as own, current_setting('role') as role;
select allowed, reason from realtime.may_subscribe('anon', '{"sub": "eve"}', 'room:1', null, null);
select allowed, reason from realtime.may_subscribe('service_role', '{}', 'room:1', null, null);
select session_user = current_user as own, current_setting('role') as role, current_setting('request.jwt.claims', true) as claims, current_setting('search_path') as path;
select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();
select count(*) from pg_prepared_statements;
select pg_listening_channels();
select count(*) from orders where id = 666;
alter role service_role bypassrls;
-- Tables: privileges by column; row level security that would decide is refused.
create table secret (id int primary key, open text, hidden text);
select realtime.enable_realtime('public', 'secret');
select reason, columns from realtime.may_subscribe('anon', '{}', 'table:secret', 'public', 'secret');
grant select (id, open) on secret to anon;
grant usage on schema public to anon;
select allowed, reason, columns, types, key from realtime.may_subscribe('anon', '{}', 'table:secret', 'public', 'secret');
select allowed, reason from realtime.may_subscribe('anon', '{}', 'table:none', 'public', 'none');
select allowed, reason from realtime.may_subscribe('anon', '{}', 'table:x', 'public', 'orders');
alter table secret enable row level security;
select allowed, reason from realtime.may_subscribe('anon', '{}', 'table:secret', 'public', 'secret');
grant select on secret to service_role;
grant usage on schema public to service_role;
select allowed, reason, columns from realtime.may_subscribe('service_role', '{}', 'table:secret', 'public', 'secret');
select realtime.enable_realtime('secret'::regclass, '{"exclude": ["hidden"]}');
select columns from realtime.may_subscribe('service_role', '{}', 'table:secret', 'public', 'secret');
