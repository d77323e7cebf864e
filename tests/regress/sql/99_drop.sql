\set SHOW_CONTEXT never
-- DROP EXTENSION needs no CASCADE and leaves the users' tables as they were.
select count(*) > 0 as enabled from realtime.tables;
drop policy nosy on realtime.channels;
drop policy noisy on realtime.channels;
drop extension realtime;
select count(*) from pg_trigger where tgname ~ '_notify_(change|truncate)$';
insert into big values (9999, 'still here');
-- Also inside a transaction that has written.
create extension realtime;
create table late (id int primary key);
select realtime.enable_realtime('public', 'late');
begin;
insert into late values (1);
drop extension realtime;
commit;
select * from late;
-- What these tests made beside it.
drop table orders, secret;
drop schema auth cascade;
drop function nosy(), noisy();
revoke usage on schema public from anon, authenticated, service_role;
drop role stranger, app_sidecar, too_strong, anon, authenticated, service_role;
