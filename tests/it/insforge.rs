//! The InsForge seed's SQL, and what its policies and triggers mean to subscribers. Each test names the requirement
//! that it covers.

use realtime_tests::{Stack, eventually};
use serde_json::json;

use crate::fixtures::{ADA, GRACE, ROOMS};

/// The seed's own statements: patterns, a policy with `channel_name()` and `auth.uid()`, a trigger that publishes.
const SEED: &str = "
    create table public.orders (id int primary key, user_id uuid, status text);
    grant select on public.orders to authenticated;
    insert into realtime.channels (pattern, description, enabled) values
      ('orders', 'Global order events', true),
      ('order:%', 'Order-specific events', true);
    create policy users_subscribe_own_orders on realtime.channels for select to authenticated
      using (pattern = 'order:%' and exists (
        select 1 from public.orders
         where id = nullif(split_part(realtime.channel_name(), ':', 2), '')::int and user_id = auth.uid()));
    create function public.notify_order_status() returns trigger language plpgsql security definer as $$
    begin
      perform realtime.publish('order:' || new.id::text, 'status_changed',
        jsonb_build_object('id', new.id, 'status', new.status));
      return new;
    end $$;
    create trigger order_status_trigger after update on public.orders
      for each row when (old.status is distinct from new.status) execute function public.notify_order_status();
";

async fn seeded() -> Stack {
    let stack = Stack::with(SEED).await;
    stack.exec(&format!("insert into orders values (1, '{ADA}', 'new'), (2, '{GRACE}', 'new')")).await;
    stack
}

#[tokio::test]
async fn if_01_channels_are_rows() {
    let stack = Stack::start().await;
    stack
        .exec(
            "INSERT INTO realtime.channels (pattern, description, webhook_urls, enabled)
             VALUES ('orders', 'Global order events', ARRAY['https://example.com/hook'], true),
                    ('order:%', 'Order-specific events', NULL, true)",
        )
        .await;
    assert_eq!(stack.text("select count(*) from realtime.channels where enabled").await, "2");
    assert!(stack.try_exec("insert into realtime.channels (pattern) values ('orders')").await.is_err(), "unique");
}

#[tokio::test]
async fn if_02_only_percent_is_a_wildcard_and_the_exact_pattern_wins() {
    let stack = Stack::with(ROOMS).await;
    stack.exec("insert into realtime.channels (pattern) values ('order:%'), ('order:1'), ('a_b')").await;
    let mut client = stack.native_as(ADA).await;
    for channel in ["order:1", "order:2", "order:", "a_b", "room:x:y"] {
        client.subscribe(channel).await;
    }
    for channel in ["axb", "order", "xorder:1", "ORDER:1"] {
        let answer = client.try_subscribe(json!({"channel": channel})).await;
        assert_eq!((answer.kind(), answer.code()), ("error", "UNAUTHORIZED"), "{channel}: {answer}");
    }
    stack.exec("select realtime.publish('order:1', 'e', '{}'), realtime.publish('order:2', 'e', '{}')").await;
    let patterns = stack
        .rows("select m.channel_name, c.pattern from realtime.messages m join realtime.channels c on c.id = m.channel_id order by 1")
        .await;
    let pair = |name: &str, pattern: &str| vec![Some(name.to_owned()), Some(pattern.to_owned())];
    assert_eq!(patterns, [pair("order:1", "order:1"), pair("order:2", "order:%")]);
    let channels: Vec<_> = client.events(2).await.iter().map(|event| event["channel"].clone()).collect();
    assert_eq!(channels, ["order:1", "order:2"]);
}

#[tokio::test]
async fn if_03_a_disabled_channel_is_closed() {
    let stack = Stack::with(ROOMS).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    stack.exec("update realtime.channels set enabled = false").await;
    let ended = client.expect("error").await;
    assert_eq!((&ended["final"], &ended["channel"]), (&json!(true), &json!("room:1")), "{ended}");
    assert!(["CHANNEL_DISABLED", "UNAUTHORIZED"].contains(&ended.code()), "{ended}");
    let answer = client.try_subscribe(json!({"channel": "room:1"})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED");
    assert_eq!(stack.text("select realtime.publish('room:1', 'e', '{}')").await, "", "nothing is sent there");
    stack.exec("update realtime.channels set enabled = true").await;
    client.subscribe("room:1").await;
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    assert_eq!(client.event().await["payload"]["event"], "e");
}

#[tokio::test]
async fn if_04_select_policies_decide_who_may_subscribe() {
    let stack = seeded().await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("order:1").await;
    let answer = ada.try_subscribe(json!({"channel": "order:2"})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED", "{answer}");
    stack.native_as(GRACE).await.subscribe("order:2").await;
    let answer = stack.native().await.try_subscribe(json!({"channel": "order:1"})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED", "anonymous");
    // Without any policy nobody may.
    let answer = ada.try_subscribe(json!({"channel": "orders"})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED");
}

#[tokio::test]
async fn if_05_channel_name_is_the_name_that_was_asked_for() {
    let stack = Stack::with(
        "insert into realtime.channels (pattern) values ('%');
         create policy p on realtime.channels for select using (realtime.channel_name() = 'it''s:me');",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("it's:me").await;
    let answer = client.try_subscribe(json!({"channel": "its:me"})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED");
    assert_eq!(stack.text("select realtime.channel_name() is null").await, "t");
}

#[tokio::test]
async fn if_06_auth_uid_is_the_token_s_subject() {
    let stack = Stack::with(
        "insert into realtime.channels (pattern) values ('user:%');
         create policy p on realtime.channels for select
           using (realtime.channel_name() = 'user:' || auth.uid()::text and auth.role() = 'authenticated');",
    )
    .await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe(&format!("user:{ADA}")).await;
    let answer = client.try_subscribe(json!({"channel": format!("user:{GRACE}")})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED");
    let mut nameless = stack.native_as("not-a-uuid").await;
    let answer = nameless.try_subscribe(json!({"channel": format!("user:{ADA}")})).await;
    assert_eq!(answer.code(), "UNAUTHORIZED", "a subject that is no uuid is nobody");
}

#[tokio::test]
async fn if_07_insert_policies_decide_who_may_publish() {
    let stack = Stack::with(
        "insert into realtime.channels (pattern) values ('chat:%');
         create policy enter on realtime.channels for select using (true);
         create policy speak on realtime.messages for insert to authenticated with check (channel_name = 'chat:' || auth.uid()::text);",
    )
    .await;
    let mut ada = stack.native_as(ADA).await;
    let (own, other) = (format!("chat:{ADA}"), format!("chat:{GRACE}"));
    ada.subscribe(&own).await;
    ada.subscribe(&other).await;
    assert_eq!(ada.publish(&own, "e", json!({})).await.kind(), "ack");
    let denied = ada.publish(&other, "e", json!({})).await;
    assert_eq!((denied.code(), &denied["channel"]), ("UNAUTHORIZED", &json!(other)), "{denied}");
    let mut anonymous = stack.native().await;
    anonymous.subscribe(&own).await;
    assert_eq!(anonymous.publish(&own, "e", json!({})).await.code(), "UNAUTHORIZED");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "1");
}

#[tokio::test]
async fn if_08_triggers_publish() {
    let stack = seeded().await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("order:1").await;
    stack.exec("update orders set status = 'shipped'").await;
    let event = ada.event().await;
    assert_eq!(event["payload"]["event"], "status_changed");
    assert_eq!(event["payload"]["payload"], json!({"id": 1, "status": "shipped"}));
    let rows = stack.rows("select channel_name, event_name from realtime.messages order by 1").await;
    assert_eq!(rows.len(), 2, "one for each order: {rows:?}");
}

#[tokio::test]
async fn if_09_publish_in_a_trigger_needs_no_insert_policy() {
    // The writer is an ordinary role: no policy lets it insert into messages.
    let stack = seeded().await;
    stack.exec("grant update on orders to authenticated").await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("order:1").await;
    stack.exec("begin; set local role authenticated; update orders set status = 'paid'; commit").await;
    assert_eq!(ada.event().await["payload"]["payload"]["status"], "paid");
}

#[tokio::test]
async fn if_10_ordinary_roles_cannot_call_publish() {
    let stack = Stack::with(ROOMS).await;
    for role in ["anon", "authenticated"] {
        let error = stack
            .try_exec(&format!("set role {role}; select realtime.publish('room:1', 'e', '{{}}')"))
            .await
            .unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{error:?}");
        stack.exec("reset role").await;
    }
}

#[tokio::test]
async fn if_11_without_a_channel_there_is_a_warning_and_the_write_survives() {
    let stack = seeded().await;
    stack.exec("delete from realtime.channels").await;
    stack.exec("update orders set status = 'shipped'").await;
    assert_eq!(stack.text("select count(*) from orders where status = 'shipped'").await, "2");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "0");
}

#[tokio::test]
async fn if_12_large_payloads_work() {
    let stack = Stack::with(ROOMS).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    stack.exec("select realtime.publish('room:1', 'big', jsonb_build_object('x', repeat('y', 100000)))").await;
    assert_eq!(client.event().await["payload"]["payload"]["x"].as_str().map(str::len), Some(100_000));
}

#[tokio::test]
async fn if_13_a_rollback_sends_nothing() {
    let stack = seeded().await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("order:1").await;
    stack.exec("begin; update orders set status = 'lost'; rollback").await;
    stack.exec("update orders set status = 'kept'").await;
    assert_eq!(ada.event().await["payload"]["payload"]["status"], "kept");
}

#[tokio::test]
async fn if_25_meta_is_the_server_s() {
    let stack = Stack::with(ROOMS).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("room:1").await;
    let forged = json!({"text": "hi", "meta": {"senderId": GRACE, "channel": "room:2"}});
    let ack = ada.publish("room:1", "said", forged.clone()).await;
    let event = ada.event().await;
    let meta = &event["payload"]["meta"];
    assert_eq!(event["payload"]["payload"], forged, "the payload is the sender's");
    assert_eq!((&meta["channel"], &meta["messageId"]), (&json!("room:1"), &ack["message_id"]));
    assert_eq!((&meta["senderType"], &meta["senderId"], &meta["sender"]), (&json!("user"), &json!(ADA), &json!(ADA)));
    assert!(meta["timestamp"].is_string());
    // Not even SQL under the sender's role can forge what the triggers set.
    let error = stack
        .try_exec(&format!(
            "set role authenticated;
             insert into realtime.messages (channel_name, event_name, sender_id) values ('room:1', 'e', '{GRACE}')"
        ))
        .await
        .unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
}

#[tokio::test]
async fn if_26_triggers_are_the_system_and_clients_are_users() {
    let stack = seeded().await;
    stack.exec("create policy speak on realtime.messages for insert to authenticated with check (true)").await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("order:1").await;
    stack.exec("update orders set status = 'shipped' where id = 1").await;
    let meta = ada.event().await["payload"]["meta"].clone();
    assert_eq!((&meta["senderType"], &meta["senderId"]), (&json!("system"), &json!(null)));
    ada.publish("order:1", "thanks", json!({})).await;
    let meta = ada.event().await["payload"]["meta"].clone();
    assert_eq!((&meta["senderType"], &meta["senderId"]), (&json!("user"), &json!(ADA)));
}

#[tokio::test]
async fn if_28_messages_has_the_documented_columns() {
    let stack = Stack::start().await;
    let rows = stack
        .rows(
            "select column_name::text, data_type::text, is_nullable::text, column_default
               from information_schema.columns where table_schema = 'realtime' and table_name = 'messages'
              order by ordinal_position",
        )
        .await;
    let found: Vec<String> = rows
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" | "))
        .collect();
    let expected = [
        "id | uuid | NO | gen_random_uuid()",
        "event_name | text | NO | ",
        "channel_id | uuid | YES | ",
        "channel_name | text | NO | ",
        "payload | jsonb | NO | '{}'::jsonb",
        "sender_type | text | NO | 'system'::text",
        "sender_id | uuid | YES | ",
        "sender | text | YES | ",
        "ws_audience_count | integer | NO | 0",
        "wh_audience_count | integer | NO | 0",
        "wh_delivered_count | integer | NO | 0",
        "created_at | timestamp with time zone | NO | now()",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn if_35_nothing_is_replayed_unless_asked_for() {
    let stack = Stack::with(ROOMS).await;
    stack.exec("select realtime.publish('room:1', 'missed', '{}')").await;
    // The sidecar has read it: what it has not read yet is not missed.
    let stored = async || {
        stack.text("select max(last_offset) from realtime.ticks where cardinality(xids) > 0").await.parse::<i64>().ok()
    };
    let offset = eventually("the message has an offset", stored).await;
    let mut client = eventually("the sidecar has read it", async || {
        let client = stack.native_as(ADA).await;
        (client.hello().offset() >= offset).then_some(client)
    })
    .await;
    client.subscribe("room:1").await;
    stack.exec("select realtime.publish('room:1', 'seen', '{}')").await;
    assert_eq!(client.event().await["payload"]["event"], "seen");
}
