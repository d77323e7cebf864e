//! Publishing without a socket.

use serde_json::{Value, json};

use super::{Caller, assert_refused, builder};
use crate::fixtures::{ADA, ROOMS};

#[tokio::test]
async fn a_published_message_comes_as_every_other_one() {
    let stack = builder().sql(ROOMS).start().await;
    let mut client = stack.native().await;
    client.subscribe("room:1").await;
    let ada = Caller::bearer(&stack, &stack.signer.user(ADA));
    let body = json!({"channel": "room:1", "event": "said", "payload": {"n": 1}});
    let answer = ada.send("POST", "/publish", body).await;
    assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(false)), "{}", answer.body);
    let event = client.event().await;
    assert_eq!(event["payload"]["payload"], json!({"n": 1}));
    let meta = &event["payload"]["meta"];
    assert_eq!((&meta["messageId"], &meta["senderId"]), (&answer.json()["messageId"], &json!(ADA)));
    assert_eq!(meta["senderType"], "user");

    let topic = json!({"topic": "realtime:room:1", "event": "said", "payload": [2]});
    let answer = ada.send("POST", "/broadcast", topic).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let event = client.event().await;
    assert_eq!((&event["payload"]["payload"], &event["channel"]), (&json!([2]), &json!("room:1")));
    let plain = json!({"topic": "room:1", "event": "said", "payload": "three"});
    assert_eq!(ada.send("POST", "/broadcast", plain).await.status, 200);
    assert_eq!(client.event().await["payload"]["payload"], "three");
}

#[tokio::test]
async fn the_same_message_id_makes_no_second_message() {
    let stack = builder().sql(ROOMS).start().await;
    let ada = Caller::bearer(&stack, &stack.signer.user(ADA));
    let id = "11111111-2222-4333-8444-555555555555";
    for (name, duplicate) in [("message_id", false), ("messageId", true)] {
        let body = json!({"channel": "room:1", "event": "said", "payload": {}, name: id});
        let answer = ada.send("POST", "/publish", body).await;
        assert_eq!(answer.json(), json!({"messageId": id, "duplicate": duplicate}));
    }
    let other = json!({"channel": "room:1", "event": "other", "payload": {}, "message_id": id});
    assert_refused(&ada.send("POST", "/publish", other).await, 400, "INVALID_INPUT");
    let bad = json!({"channel": "room:1", "event": "said", "payload": {}, "message_id": "1"});
    assert_refused(&ada.send("POST", "/publish", bad).await, 400, "INVALID_INPUT");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "1");
}

/// Policies decide, also for administrators; missing and forbidden look alike.
#[tokio::test]
async fn policies_decide_who_publishes() {
    let stack = builder().sql(ROOMS).start().await;
    let ada = Caller::bearer(&stack, &stack.signer.user(ADA));
    let message = |channel: &str| json!({"channel": channel, "event": "said", "payload": {}});
    let topic = |channel: &str| json!({"topic": channel, "event": "said", "payload": {}});
    stack.exec("insert into realtime.channels (pattern) values ('news')").await;
    for (who, channel) in
        [(&ada, "news"), (&ada, "nowhere"), (&Caller::nobody(&stack), "room:1"), (&Caller::admin(&stack), "room:1")]
    {
        assert_refused(&who.send("POST", "/publish", message(channel)).await, 403, "REALTIME_UNAUTHORIZED");
        assert_refused(&who.send("POST", "/broadcast", topic(channel)).await, 403, "REALTIME_UNAUTHORIZED");
    }
    stack
        .exec("create policy anybody on realtime.messages for insert to anon with check (channel_name = 'news')")
        .await;
    assert_eq!(Caller::nobody(&stack).send("POST", "/publish", message("news")).await.status, 200);
    assert_eq!(stack.text("select string_agg(channel_name, ',') from realtime.messages").await, "news");
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_the_rule() {
    let stack = builder().set("REALTIME_LIMITS_EVENT_BYTES_MAX", "100000").sql(ROOMS).start().await;
    let ada = Caller::bearer(&stack, &stack.signer.user(ADA));
    let said =
        |channel: &str, event: &str, payload: Value| json!({"channel": channel, "event": event, "payload": payload});
    for (body, code) in [
        (said("", "said", json!({})), "INVALID_INPUT"),
        (said("room:%", "said", json!({})), "INVALID_INPUT"),
        (said("table:public.t", "said", json!({})), "INVALID_INPUT"),
        (said("room:1", "", json!({})), "REALTIME_INVALID_EVENT"),
        (said("room:1", &"e".repeat(256), json!({})), "REALTIME_INVALID_EVENT"),
        (said("room:1", "a\u{0}", json!({})), "INVALID_INPUT"),
        (said("room:1", "said", json!("\u{0}")), "INVALID_INPUT"),
        (json!({"channel": "room:1", "event": "said"}), "INVALID_INPUT"),
        (json!("room:1"), "INVALID_INPUT"),
    ] {
        assert_refused(&ada.send("POST", "/publish", body).await, 400, code);
    }
    let large = said("room:1", "said", json!("x".repeat(200_000)));
    assert_refused(&ada.send("POST", "/publish", large).await, 413, "PAYLOAD_TOO_LARGE");
    let too_large = said("room:1", "said", json!("x".repeat(70_000)));
    assert_refused(&Caller::nobody(&stack).send("POST", "/publish", too_large).await, 413, "PAYLOAD_TOO_LARGE");
    assert_eq!(stack.text("select count(*) from realtime.messages").await, "0");
}

#[tokio::test]
async fn a_policy_that_fails_refuses_its_caller() {
    let stack = builder().sql(ROOMS).start().await;
    stack.exec("create policy broken on realtime.messages as restrictive for insert with check (1 / (length(event_name) - 4) > 0)").await;
    let ada = Caller::bearer(&stack, &stack.signer.user(ADA));
    let body = json!({"channel": "room:1", "event": "said", "payload": {}});
    assert_refused(&ada.send("POST", "/publish", body).await, 403, "REALTIME_UNAUTHORIZED");
}
