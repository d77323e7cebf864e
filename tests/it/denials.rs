//! Who was denied what is in the log, once, with the reason, and never more of it than the log can bear.

use realtime_tests::{Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::{ADA, GRACE, ROOMS, TABLE};

/// Something of every kind that can be denied.
const WORLD: &str = "
    create table closed (id int primary key); select realtime.enable_realtime('closed');
    create table plain (id int primary key);
    insert into realtime.channels (pattern) values ('hidden'), ('broken:%');
    create policy fails on realtime.channels as restrictive for select to authenticated
      using (pattern not like 'broken:%' or 1 / length(realtime.channel_name()) > 1 / (length(realtime.channel_name()) - 8));
    create policy not_hidden on realtime.channels as restrictive for select to authenticated using (pattern <> 'hidden');
    create table papers (id int primary key, owner text);
    select realtime.enable_realtime('papers');
    grant select on papers to authenticated;
    alter table papers enable row level security;
    create policy own on papers for select to authenticated
      using (case when auth.jwt() ->> 'sub' = 'fragile' and id > 0 then owner::int > 0 else true end);
";

/// The lines about denials, in their order.
fn denials(stack: &Stack) -> Vec<Value> {
    let log = stack.sidecar.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == "denied").collect()
}

async fn denial(stack: &Stack, what: &str, reason: &str, channel: &str) -> Value {
    let is_it = |line: &Value| line["what"] == what && line["reason"] == reason && line["channel"] == channel;
    let name = format!("{what} of {channel} is denied: {reason}");
    eventually(&name, async || denials(stack).into_iter().find(is_it)).await
}

async fn stack() -> Stack {
    let builder = Stack::builder().sql(TABLE).sql(ROOMS).sql(WORLD).set("REALTIME_LOG_FORMAT", "json");
    builder.set("REALTIME_LOG_DENIALS_MAX", "200").start().await
}

#[tokio::test]
async fn who_may_not_subscribe_is_in_the_log_with_the_reason() {
    let stack = stack().await;
    let mut ada = stack.native_as(ADA).await;
    for (channel, reason) in [
        ("table:nothing", "no_table"),
        ("table:plain", "not_enabled"),
        ("table:closed", "no_privilege"),
        ("nothing", "no_channel"),
        ("hidden", "policies"),
        ("broken:1", "policy_failed"),
    ] {
        assert_eq!(ada.try_subscribe(json!({"channel": channel})).await.code(), "UNAUTHORIZED", "{channel}");
        let line = denial(&stack, "subscribe", reason, channel).await;
        assert_eq!(
            (&line["subject"], &line["role"], &line["level"]),
            (&json!(ADA), &json!("authenticated"), &json!("INFO"))
        );
        assert_eq!(line.get("sqlstate"), (reason == "policy_failed").then_some(&json!("22012")), "{line}");
    }
    assert_eq!(denials(&stack).len(), 6, "each once");
    assert_eq!(stack.sidecar.metric("realtime_denials_total").await, 6.0);
    assert_eq!(stack.sidecar.metric("realtime_denials_total{what=\"subscribe\",reason=\"policies\"}").await, 1.0);
}

#[tokio::test]
async fn who_may_not_publish_is_in_the_log_with_the_reason() {
    let stack = stack().await;
    let (mut ada, mut nobody) = (stack.native_as(ADA).await, stack.connect().open().await);
    ada.subscribe("room:1").await;
    nobody.subscribe("room:1").await;
    assert_eq!(nobody.publish("room:1", "e", json!("canary")).await.code(), "UNAUTHORIZED");
    let line = denial(&stack, "publish", "policies", "room:1").await;
    assert_eq!((line.get("subject"), &line["role"]), (None, &json!("anon")), "{line}");
    stack
        .exec(
            "create policy fails on realtime.messages as restrictive for insert to authenticated
               with check (1 / (length(event_name) - 6) > 0)",
        )
        .await;
    assert_eq!(ada.publish("room:1", "canary", json!("canary")).await.code(), "INTERNAL_ERROR");
    let line = denial(&stack, "publish", "policy_failed", "room:1").await;
    assert_eq!((&line["subject"], &line["sqlstate"]), (&json!(ADA), &json!("22012")), "{line}");
    stack.exec("revoke insert on realtime.messages from public").await;
    ada.publish("room:1", "e", json!("canary")).await;
    denial(&stack, "publish", "no_privilege", "room:1").await;
    assert!(!stack.sidecar.log().contains("canary"), "{}", stack.sidecar.log());
}

#[tokio::test]
async fn each_right_that_is_lost_is_in_the_log_once_for_each_subscription() {
    let stack = stack().await;
    let (mut ada, mut grace) = (stack.native_as(ADA).await, stack.native_as(GRACE).await);
    for client in [&mut ada, &mut grace] {
        client.subscribe("table:t").await;
        client.subscribe("room:1").await;
    }
    stack.exec("revoke select on t from authenticated").await;
    stack.exec("update realtime.channels set enabled = false where pattern = 'room:%'").await;
    for client in [&mut ada, &mut grace] {
        client.expect("error").await;
        client.expect("error").await;
    }
    denial(&stack, "revocation", "no_privilege", "table:t").await;
    denial(&stack, "revocation", "no_channel", "room:1").await;
    let mut subjects: Vec<String> =
        denials(&stack).iter().map(|line| format!("{} {}", line["subject"], line["channel"])).collect();
    subjects.sort();
    let wanted =
        [ADA, GRACE].map(|name| ["room:1", "table:t"].map(|channel| format!("\"{name}\" \"{channel}\""))).concat();
    assert_eq!(subjects, wanted);
}

#[tokio::test]
async fn a_policy_that_raises_for_one_user_is_in_the_log_with_its_code_and_without_the_value() {
    let stack = stack().await;
    let (mut ada, mut fragile) = (stack.native_as(ADA).await, stack.native_as("fragile").await);
    ada.subscribe("table:papers").await;
    let begin = fragile.subscribe("table:papers").await.offset();
    stack.exec("insert into papers values (1, 'canary')").await;
    ada.event().await;
    let line = denial(&stack, "row", "policy_failed", "table:public.papers").await;
    assert_eq!(
        (&line["subject"], &line["sqlstate"], &line["role"]),
        (&json!("fragile"), &json!("22P02"), &json!("authenticated"))
    );
    assert_eq!(denials(&stack).len(), 1, "nobody else's policies failed");
    let mut later = stack.native_as("fragile").await;
    later.try_subscribe(json!({"channel": "table:papers", "since": begin})).await;
    eventually("who comes back is judged too", async || (denials(&stack).len() == 2).then_some(())).await;
    assert!(!stack.sidecar.log().contains("canary"), "{}", stack.sidecar.log());
}

/// One user asks for what is forbidden again and again: the log has a few lines, and the number of the others.
#[tokio::test]
async fn nobody_floods_the_log_with_denials() {
    let mut stack = Stack::builder()
        .sql(WORLD)
        .set("REALTIME_LOG_FORMAT", "json")
        .set("REALTIME_LOG_DENIALS_MAX", "20")
        .set("REALTIME_TIMING_REFUSAL_MS", "0")
        .start()
        .await;
    let (mut eve, mut ada) = (stack.native_as("eve").await, stack.native_as(ADA).await);
    for n in 0..150 {
        eve.try_subscribe(json!({"channel": format!("table:nothing_{n}")})).await;
    }
    ada.try_subscribe(json!({"channel": "table:nothing"})).await;
    let line = denial(&stack, "subscribe", "no_table", "table:nothing").await;
    assert_eq!(line["subject"], ADA, "nobody hides another's denial");
    assert_eq!(stack.sidecar.metric("realtime_denials_total").await, 151.0);
    assert!(stack.sidecar.stop().await.success());
    let log = stack.sidecar.log();
    let lines = denials(&stack).iter().filter(|line| line["subject"] == "eve").count();
    let numbers = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["left_out"].as_u64());
    assert!(lines <= 20, "{lines} lines");
    assert_eq!(numbers.sum::<u64>() + lines as u64, 150, "what is left out is told");
}
