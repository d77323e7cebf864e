-- What administrators ask through the sidecar's API.
delete from realtime.messages; delete from realtime.channels;
select pattern, description, webhook_urls, enabled from realtime.admin_create_channel('order:%', 'orders', '{https://example.com/hook}', true);
select pattern, webhook_urls, enabled from realtime.admin_create_channel('chat', null, null, false);
select count(*) from realtime.admin_create_channel('chat', null, null, true);
select pattern from realtime.admin_channels() order by 1;
select pattern, webhook_urls from realtime.channels c, realtime.admin_channels(c.id) a(id, pattern_found, description, webhook_urls_found) where c.pattern = 'order:%';
select count(*) from realtime.admin_channels(gen_random_uuid());
-- NULL leaves as it was.
select u.pattern, u.description, u.webhook_urls, u.enabled from realtime.channels c, realtime.admin_update_channel(c.id, null, null, '{}', null) u where c.pattern = 'order:%';
select u.pattern, u.description, u.enabled from realtime.channels c, realtime.admin_update_channel(c.id, 'chat:%', 'talk', null, true) u where c.pattern = 'chat';
select count(*) from realtime.admin_update_channel(gen_random_uuid(), 'x', null, null, null);
-- Messages, newest first; those of a deleted channel stay, and belong to none.
select realtime.publish('order:1', 'created', '{"n": 1}') is not null, realtime.publish('order:2', 'created', '{"n": 2}') is not null,
       realtime.publish('chat:1', 'said', '{"n": 3}') is not null;
update realtime.messages set wh_audience_count = 2, wh_delivered_count = 1 where event_name = 'created';
select m.event_name, m.channel_name, m.payload, c.pattern from realtime.admin_messages(null, null, 10, 0, 1000) m left join realtime.channels c on c.id = m.channel_id;
select m.payload from realtime.channels c, realtime.admin_messages(c.id, 'created', 1, 1, 1000) m where c.pattern = 'order:%';
select count(*) from realtime.admin_messages(null, null, 10, 0, 10);
select * from realtime.admin_message_stats(null, null);
select s.* from realtime.channels c, realtime.admin_message_stats(c.id, null) s where c.pattern = 'chat:%';
select * from realtime.admin_message_stats(null, now() + interval '1 day');
select realtime.admin_delete_channel(c.id) from realtime.channels c where c.pattern = 'order:%';
select realtime.admin_delete_channel(gen_random_uuid());
select m.channel_name, m.channel_id is null as of_none from realtime.admin_messages(null, null, 10, 0, 1000) m;
-- Policies.
create policy listen on realtime.channels for select to public using (realtime.channel_name() = 'a');
create policy speak on realtime.messages for insert to public with check (event_name = 'b');
select * from realtime.admin_policies() where name in ('listen', 'speak');
drop policy listen on realtime.channels;
drop policy speak on realtime.messages;
-- Retention in days, or for ever.
select realtime.admin_retention_days();
select realtime.admin_keep_messages(7);
select realtime.admin_retention_days();
select realtime.admin_keep_messages(1);
select realtime.admin_keep_messages(null);
select realtime.admin_retention_days() is null as for_ever, value from realtime.settings where name = 'messages_retention';
update realtime.messages set created_at = now() - interval '1000 days';
select realtime.cleanup_messages();
update realtime.settings set value = '300000 years' where name = 'messages_retention';
update realtime.messages set created_at = now() + interval '1 day' where event_name = 'said';
update realtime.settings set value = '30 days' where name = 'messages_retention';
-- Batch by batch up to a moment; what somebody holds is left out.
select b.deleted, b.last_id is null as done from realtime.admin_clear_messages(now(), null, 10) a, realtime.admin_clear_messages(now(), a.last_id, 10) b;
select event_name from realtime.messages;
delete from realtime.messages; delete from realtime.channels;
-- For the sidecar alone.
select p.proname from pg_proc p where p.pronamespace = 'realtime'::regnamespace and p.proname like 'admin%' and has_function_privilege('public', p.oid, 'execute');
