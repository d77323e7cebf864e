\set SHOW_CONTEXT never
insert into realtime.channels (pattern, webhook_urls) values
  ('hooked:%', array['https://a.example/x', 'HTTP://User:pw@B.example:8080?y', null, 'ftp://c.example/', '', 'https://', 'http://d.example/a b']),
  ('plain:%', null), ('empty:%', '{}');
select realtime.publish('hooked:1', 'e', '{"n": 1}') is not null as sent;
select realtime.publish('plain:1', 'e') is not null, realtime.publish('empty:1', 'e') is not null;
select d.url, d.host, d.state, d.attempts, d.next_attempt_at = m.created_at as due_at_once, d.last_error, d.channel_id = m.channel_id as channel
  from realtime.webhook_deliveries d join realtime.messages m on m.id = d.message_id order by d.url;
select channel_name, ws_audience_count, wh_audience_count, wh_delivered_count from realtime.messages where channel_name ~ '^(hooked|plain|empty)' order by 1;
-- A rollback, a savepoint and a repeated message leave nothing.
begin; select realtime.publish('hooked:1', 'lost') is not null as sent; rollback;
select count(*) from realtime.webhook_deliveries;
create policy speak on realtime.messages for insert to authenticated with check (true);
select duplicate from realtime.publish_as('authenticated', '{"sub": "ada"}', 'hooked:2', 'twice', '{}', '00000000-0000-4000-8000-00000000aaaa');
select duplicate from realtime.publish_as('authenticated', '{"sub": "ada"}', 'hooked:2', 'twice', '{}', '00000000-0000-4000-8000-00000000aaaa');
select count(*) from realtime.webhook_deliveries where message_id = '00000000-0000-4000-8000-00000000aaaa';
delete from realtime.webhook_deliveries where message_id = '00000000-0000-4000-8000-00000000aaaa' or state = 'failed';
drop policy speak on realtime.messages;
-- A writer's lastval() stays the writer's.
create sequence mine; select nextval('mine');
select realtime.publish('hooked:3', 'three') is not null as sent, lastval();
delete from realtime.webhook_deliveries d using realtime.messages m where m.id = d.message_id and m.channel_name = 'hooked:3';
-- One session sends. Claims are leased, and each host has its places.
select realtime.elect_webhook_sender();
select realtime.webhook_wait_ms('{}');
select url, attempts, channel, event, payload, is_oversize from realtime.claim_webhooks(10, 8, '{a.example}', '{0}', 60000, 1000) order by 1;
select url, payload, is_oversize from realtime.claim_webhooks(10, 8, '{}', '{}', 60000, 3) order by 1;
select count(*) from realtime.claim_webhooks(10, 8, '{}', '{}', 60000, 1000);
select realtime.webhook_wait_ms('{}') between 50000 and 60000 as leased;
-- What came of it.
create function finish(url text, delivered boolean, status int, error text, retry_ms int) returns bigint language sql as
  $$ select (select count(*) from realtime.finish_webhooks(array[d.id], array[$2], array[$3], array[$4], array[$5], true)) from realtime.webhook_deliveries d where d.url = $1 $$;
select finish('https://a.example/x', true, 200, null, null), finish('HTTP://User:pw@B.example:8080?y', false, null, 'connection refused', 0);
select url, state, attempts, last_status, last_error, next_attempt_at is null as over, delivered_at is not null as delivered from realtime.webhook_deliveries order by 1;
select url, attempts from realtime.claim_webhooks(10, 8, '{}', '{}', 60000, 1000);
select finish('HTTP://User:pw@B.example:8080?y', false, 503, 'HTTP 503', null);
select finish('HTTP://User:pw@B.example:8080?y', true, 200, 'too late: it is over', null);
select url, state, attempts, last_status, last_error, next_attempt_at is null as over from realtime.webhook_deliveries order by 1;
select realtime.webhook_wait_ms('{}') is null as nothing_waits, realtime.webhook_wait_ms('{d.example}') is null as nothing_else_waits;
-- What was in hand when a sender ended is due at once for the next one.
update realtime.webhook_deliveries set state = 'sending', next_attempt_at = now() + interval '1 hour' where url like 'https://a%';
select realtime.elect_webhook_sender(), realtime.webhook_wait_ms('{}');
-- At most so many for each host, the oldest first.
insert into realtime.webhook_deliveries (message_id, url, host, state, next_attempt_at, created_at)
  select gen_random_uuid(), format('http://%s/%s', h, n), h, 'pending', now() - interval '1 hour' + n * interval '1 s', now() - interval '1 hour' + n * interval '1 s'
    from unnest(array['one', 'two']) h, generate_series(1, 9) n;
select url, channel from realtime.claim_webhooks(6, 4, '{two}', '{1}', 60000, 1000) order by url;
-- Counters: who is gone is nobody. The webhook that was delivered above counts already.
select realtime.count_messages(array[m.id, gen_random_uuid()], '{3,1}', '{1,1}') from realtime.messages m where m.channel_name = 'hooked:1';
select ws_audience_count, wh_audience_count, wh_delivered_count from realtime.messages where channel_name = 'hooked:1';
-- Retention is the log's.
update realtime.webhook_deliveries set created_at = now() - interval '73 hours' where host = 'one';
select realtime.cleanup_webhook_deliveries(5), realtime.cleanup_webhook_deliveries();
-- Nobody but the owner sees any of it.
set role authenticated;
select count(*) from realtime.webhook_deliveries;
select realtime.claim_webhooks(10, 8, '{}', '{}', 60000, 1000);
reset role;
select pg_advisory_unlock_all();
delete from realtime.webhook_deliveries;
delete from realtime.messages;
delete from realtime.channels;
-- A host that is longer than a host can be, and than an index takes, costs nobody a write.
insert into realtime.channels (pattern, webhook_urls)
  select 'long:%', array['https://' || string_agg(md5(i::text), '') || '/'] from generate_series(1, 200) i;
select realtime.publish('long:1', 'e') is not null as sent;
select length(d.url), d.host, d.state, d.last_error from realtime.webhook_deliveries d
  join realtime.messages m on m.id = d.message_id where m.channel_name = 'long:1';
delete from realtime.webhook_deliveries;
delete from realtime.messages;
delete from realtime.channels;
