//! The counters of messages: how many got which.

use realtime_tests::{Sidecar, Stack, eventually};
use serde_json::json;

use crate::fixtures::{ADA, ROOMS};

async fn counted(stack: &Stack, event: &str, subscribers: u32) {
    let count = format!("select ws_audience_count from realtime.messages where event_name = '{event}'");
    eventually(&format!("{event} has {subscribers} subscribers"), async || {
        (stack.text(&count).await == subscribers.to_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn if_29_subscribers_at_delivery_are_counted_whatever_they_speak_and_wherever_they_are() {
    let stack = Stack::with(ROOMS).await;
    let other = Sidecar::start(&[
        ("REALTIME_DATABASE_URL".to_owned(), stack.sidecar_url(stack.server().port())),
        ("REALTIME_JWT_SECRET".to_owned(), stack.signer.secret().to_owned()),
    ]);
    other.ready().await;
    let mut native = stack.native_as(ADA).await;
    let mut seed = stack.seed_as(ADA).await;
    let connect = realtime_tests::Connect::new(other.address(), realtime_tests::Dialect::Native);
    let mut elsewhere = connect.token(&stack.signer.user(ADA)).open().await;
    for client in [&mut native, &mut seed, &mut elsewhere] {
        client.subscribe("room:1").await;
    }
    stack.exec("select realtime.publish('room:1', 'three', '{}'), realtime.publish('room:2', 'none', '{}')").await;
    counted(&stack, "three", 3).await;
    drop(seed);
    eventually("one has left", async || (stack.sidecar.metric("realtime_subscriptions").await == 1.0).then_some(()))
        .await;
    stack.exec("select realtime.publish('room:1', 'two', '{}')").await;
    counted(&stack, "two", 2).await;
    // Who comes later and asks for what was before is no audience of it.
    let mut late = stack.native_as(ADA).await;
    late.try_subscribe(json!({"channel": "room:1", "since": "oldest"})).await;
    late.events(2).await;
    stack.exec("select realtime.publish('room:1', 'last', '{}')").await;
    counted(&stack, "last", 3).await;
    counted(&stack, "three", 3).await;
    counted(&stack, "none", 0).await;
}

#[tokio::test]
async fn a_message_that_somebody_has_locked_is_counted_later_and_holds_nobody_up() {
    let stack = Stack::with(ROOMS).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    let session = stack.session().await;
    let id = stack.text("select realtime.publish('room:1', 'locked', '{}')").await;
    session.batch_execute(&format!("begin; select from realtime.messages where id = '{id}' for update")).await.unwrap();
    stack.exec("select realtime.publish('room:1', 'free', '{}')").await;
    counted(&stack, "free", 1).await;
    session.batch_execute("commit").await.unwrap();
    counted(&stack, "locked", 1).await;
}

#[tokio::test]
async fn counters_can_be_switched_off() {
    let stack = Stack::builder().sql(ROOMS).set("REALTIME_COUNTERS_ENABLED", "false").start().await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    client.event().await;
    let calls = "select count(*) from pg_stat_activity
        where query like '%count_messages%' and application_name like 'realtime-sidecar%' and datname = current_database()";
    assert_eq!(stack.text(calls).await, "0");
    assert_eq!(stack.text("select ws_audience_count from realtime.messages").await, "0");
}
