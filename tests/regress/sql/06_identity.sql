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
-- Tables: privileges by column; row level security that would decide is said.
create table secret (id int primary key, open text, hidden text);
select realtime.enable_realtime('public', 'secret');
select reason, columns from realtime.may_subscribe('anon', '{}', 'table:secret', 'public', 'secret');
grant select (id, open) on secret to anon;
grant usage on schema public to anon;
select allowed, reason, columns, types, key from realtime.may_subscribe('anon', '{}', 'table:secret', 'public', 'secret');
select allowed, reason from realtime.may_subscribe('anon', '{}', 'table:none', 'public', 'none');
select allowed, reason from realtime.may_subscribe('anon', '{}', 'table:x', 'public', 'orders');
alter table secret enable row level security;
select allowed, reason, judged from realtime.may_subscribe('anon', '{}', 'table:secret', 'public', 'secret');
-- What verdicts depend on has a number, which changes with it.
create table helper (id int);
create function rights_changed() returns boolean language plpgsql as $$
declare
  before constant text := current_setting('test.rights', true);
  now constant text := (select m.rights from realtime.may_subscribe('anon', '{}', 'table:secret', 'public', 'secret') m);
begin
  perform set_config('test.rights', now, false);
  return now is distinct from before;
end $$;
create function visible(id int) returns boolean language sql stable as 'select $1 > 0';
select rights_changed();
select rights_changed();
create policy p on secret using (visible(id) and exists (select from helper h where h.id = secret.id));
select rights_changed();
alter policy p on secret using (visible(id) or exists (select from helper h where h.id = secret.id));
select rights_changed();
create or replace function visible(id int) returns boolean language sql stable as 'select $1 > 1';
select rights_changed();
alter table helper enable row level security;
select rights_changed();
create policy q on helper using (true);
select rights_changed();
grant select on helper to anon;
select rights_changed();
alter table secret force row level security;
select rights_changed();
grant authenticated to anon;
select rights_changed();
revoke authenticated from anon;
select rights_changed();
insert into helper values (1);
select rights_changed();
grant select on secret to service_role;
grant usage on schema public to service_role;
select allowed, reason, judged, rights, columns from realtime.may_subscribe('service_role', '{}', 'table:secret', 'public', 'secret');
select realtime.enable_realtime('secret'::regclass, '{"exclude": ["hidden"]}');
select columns from realtime.may_subscribe('service_role', '{}', 'table:secret', 'public', 'secret');
