\set SHOW_CONTEXT never
select * from realtime.create_roles();
select * from realtime.create_roles();
select * from realtime.create_auth_helpers();
select count(*) from realtime.create_auth_helpers();
create role app_sidecar login;
select * from realtime.grant_sidecar('app_sidecar');
create role too_strong superuser;
select * from realtime.grant_sidecar('too_strong');
-- IF-01, IF-02: patterns. Only % is a wildcard; exact first, then the longest.
insert into realtime.channels (pattern, description) values ('room:%', 'rooms'), ('room:42', 'the answer'), ('under_score', null), ('off', null);
update realtime.channels set enabled = false where pattern = 'off';
select c.pattern from (values ('room:1'), ('room:42'), ('under_score'), ('underXscore'), ('off'), ('none')) v(name)
  left join realtime.channels c on c.id = realtime._best_channel(v.name);
-- Nothing is open until a policy says so.
select allowed, reason from realtime.may_subscribe('authenticated', '{"sub": "ada"}', 'room:1', null, null);
select realtime.publish_as('authenticated', '{"sub": "ada"}', 'room:1', 'hello', '{}', null);
create policy members on realtime.channels for select to authenticated
  using (pattern = 'room:%' and realtime.channel_name() = 'room:' || (auth.jwt() ->> 'room'));
create policy writers on realtime.messages for insert to authenticated
  with check (channel_name = 'room:' || (auth.jwt() ->> 'room'));
select allowed, reason from realtime.may_subscribe('authenticated', '{"sub": "ada", "room": "1"}', 'room:1', null, null);
select allowed, reason from realtime.may_subscribe('authenticated', '{"sub": "ada", "room": "1"}', 'room:2', null, null);
select allowed, reason from realtime.may_subscribe('anon', '{}', 'room:1', null, null);
select allowed, reason from realtime.may_subscribe('nobody', '{}', 'room:1', null, null);
select allowed, reason from realtime.may_subscribe('authenticated', '{"room": "1"}', 'off', null, null);
select allowed, reason from realtime.may_subscribe('authenticated', '{"room": "1"}', 'room:%', null, null);
select realtime.channel_name() is null as none_outside;
-- The caller says channel, event and payload; the rest is ours.
select duplicate from realtime.publish_as('authenticated', '{"sub": "550e8400-e29b-41d4-a716-446655440000", "room": "1"}', 'room:1', 'hello', '{"meta": "mine"}', '00000000-0000-4000-8000-000000000001');
select duplicate from realtime.publish_as('authenticated', '{"sub": "550e8400-e29b-41d4-a716-446655440000", "room": "1"}', 'room:1', 'hello', '{"meta": "mine"}', '00000000-0000-4000-8000-000000000001');
select duplicate from realtime.publish_as('authenticated', '{"sub": "eve", "room": "1"}', 'room:1', 'hello', '{}', '00000000-0000-4000-8000-000000000001');
select duplicate from realtime.publish_as('authenticated', '{"sub": "ada", "room": "1"}', 'room:1', 'hello', '{"a": "\u0000"}', null);
select duplicate from realtime.publish_as('authenticated', '{"sub": "ada", "room": "1"}', 'room:1', '', '{}', null);
select duplicate from realtime.publish_as('authenticated', '{"sub": "ada", "room": "1"}', repeat('x', 256), 'hello', '{}', null);
select m.id, m.event_name, c.pattern, m.payload, m.sender_type, m.sender_id, m.sender from realtime.messages m left join realtime.channels c on c.id = m.channel_id;
set role authenticated;
insert into realtime.messages (channel_name, event_name, id) values ('room:1', 'forged', gen_random_uuid());
insert into realtime.messages (channel_name, event_name, sender_id) values ('room:1', 'forged', gen_random_uuid());
select count(*) from realtime.messages;
select webhook_urls from realtime.channels;
-- IF-10
select realtime.publish('room:1', 'sneaky');
reset role;
-- IF-08, IF-09, IF-11, IF-13: a trigger publishes with its transaction, past the policies; without a channel it warns.
create table orders (id int primary key, status text);
create function orders_changed() returns trigger language plpgsql security definer as $$
begin
  perform realtime.publish('room:' || new.id, 'status_changed', jsonb_build_object('status', new.status));
  perform realtime.publish('nowhere', 'status_changed', '{}');
  return new;
end $$;
create trigger orders_changed after insert or update on orders for each row execute function orders_changed();
grant insert, update, select on orders to authenticated;
grant usage on schema public to authenticated;
set role authenticated;
insert into orders values (42, 'new');
begin; update orders set status = 'lost'; rollback;
reset role;
select realtime.publish('table:public.orders', 'x');
select realtime.publish('', 'x');
select realtime.publish('room:1', '');
-- X-17: names that Socket.IO clients keep for themselves, and names that are the server's.
select realtime.publish('room:1', 'disconnect'), realtime.publish('room:1', 'newListener');
select duplicate from realtime.publish_as('authenticated', '{"sub": "ada", "room": "1"}', 'room:1', 'connect', '{}', null);
select duplicate from realtime.publish_as('authenticated', '{"sub": "ada", "room": "1"}', 'room:1', 'presence:join', '{}', null);
select realtime.tick() is not null as ticked;
select r.channel, r.event, r.payload, r.sender_type, r.sender_id, r.sender from realtime.status() s, realtime.read(s.oldest, 100, 100000, null, 'room:42') r where kind = 'e';
select count(*) from realtime.status() s, realtime.read(s.oldest, 100, 100000, null, 'room:7') r where kind = 'e';
-- IF-28
select column_name, data_type, is_nullable, column_default from information_schema.columns where table_schema = 'realtime' and table_name = 'messages' order by ordinal_position;
-- A deleted message leaves its offset and nothing else.
delete from realtime.messages where channel_name = 'room:42';
select r.op, r.channel, r.payload from realtime.status() s, realtime.read(s.oldest, 100, 100000, null, null) r where kind = 'e' and r.op = 'M';
-- Retention of messages.
update realtime.messages set created_at = now() - interval '31 days';
select realtime.cleanup_messages(), count(*) from realtime.messages;
-- Policies are saved for pg_dump, and made again by a restore.
select realtime.save_policies();
select * from realtime.saved_policies order by 1, 2;
alter policy writers on realtime.messages to authenticated, anon;
select realtime.save_policies();
select name, roles from realtime.saved_policies order by 1;
drop policy writers on realtime.messages;
drop policy members on realtime.channels;
create table dumped as select * from realtime.saved_policies;
delete from realtime.saved_policies;
insert into realtime.saved_policies select * from dumped;
insert into realtime.saved_policies values ('channels', 'of nobody', true, 'SELECT', '{no_such_role}', 'true', null);
insert into realtime.saved_policies values ('channels', 'everybody', false, 'SELECT', '{public}', 'true', null);
select tablename, policyname, permissive, roles, cmd, qual, with_check from pg_policies where schemaname = 'realtime' order by 1, 2;
drop policy everybody on realtime.channels;
select realtime.save_policies();
select name from realtime.saved_policies;
