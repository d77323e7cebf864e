//! Messages and their retention.

use serde_json::{Value, json};

use super::{Caller, assert_refused, builder};
use crate::fixtures::{ADA, ROOMS};

/// Three messages of two channels.
const TALK: &str = "
    insert into realtime.channels (pattern) values ('lobby');
    select realtime.publish('room:1', 'said', '{\"n\": 1}');
    select realtime.publish('lobby', 'said', '{\"n\": 12345678901234567890}');
    select realtime.publish('lobby', 'left', '[3]');
";

fn names(messages: &Value) -> Vec<(&str, &str)> {
    let messages = messages.as_array().unwrap().iter();
    messages.map(|it| (it["channelName"].as_str().unwrap(), it["eventName"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn messages_are_listed_by_channel_and_event_newest_first() {
    let stack = builder().sql(ROOMS).sql(TALK).start().await;
    let admin = Caller::admin(&stack);
    let all = admin.get("/messages").await;
    assert_eq!(names(&all), [("lobby", "left"), ("lobby", "said"), ("room:1", "said")]);
    let first = &all[0];
    let lobby = stack.text("select id from realtime.channels where pattern = 'lobby'").await;
    assert_eq!((&first["channelId"], &first["payload"]), (&json!(lobby), &json!([3])));
    assert_eq!((&first["senderType"], &first["senderId"]), (&json!("system"), &Value::Null));
    for counter in ["wsAudienceCount", "whAudienceCount", "whDeliveredCount"] {
        assert!(first[counter].is_u64(), "{first}");
    }
    assert!(first["createdAt"].as_str().unwrap().ends_with('Z'));
    let raw = admin.ask("GET", "/messages").await.body;
    assert!(raw.contains("12345678901234567890"), "digits are exact: {raw}");
    let of_lobby = admin.get(&format!("/messages?channelId={lobby}&eventName=said")).await;
    assert_eq!(names(&of_lobby), [("lobby", "said")]);
    assert_eq!(names(&admin.get("/messages?limit=1&offset=1").await), [("lobby", "said")]);
    assert_eq!(admin.get(&format!("/messages?channelId={ADA}")).await, json!([]));
    for query in ["limit=0", "limit=1001", "limit=x", "offset=-1", "channelId=1", "eventName=%00", "limit=1&limit=2"] {
        assert_refused(&admin.ask("GET", &format!("/messages?{query}")).await, 400, "INVALID_INPUT");
    }
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_is_refused() {
    let stack = builder().sql(ROOMS).start().await;
    let large = "select realtime.publish('room:1', 'large', jsonb_build_object('text', repeat('x', 1000000))) from generate_series(1, 20)";
    stack.exec(large).await;
    let admin = Caller::admin(&stack);
    assert_refused(&admin.ask("GET", "/messages").await, 400, "INVALID_INPUT");
    assert_eq!(names(&admin.get("/messages?limit=2").await).len(), 2);
}

#[tokio::test]
async fn messages_of_a_deleted_channel_stay_and_belong_to_none() {
    let stack = builder().sql(ROOMS).sql(TALK).start().await;
    let admin = Caller::admin(&stack);
    let lobby = stack.text("select id from realtime.channels where pattern = 'lobby'").await;
    admin.ask("DELETE", &format!("/channels/{lobby}")).await;
    let all = admin.get("/messages").await;
    let ids: Vec<_> = all.as_array().unwrap().iter().map(|it| it["channelId"].is_null()).collect();
    assert_eq!(ids, [true, true, false]);
    assert_eq!(admin.get(&format!("/messages?channelId={lobby}")).await, json!([]));
}

#[tokio::test]
async fn messages_are_counted() {
    let stack = builder().sql(ROOMS).sql(TALK).start().await;
    let admin = Caller::admin(&stack);
    let said = json!([{"eventName": "said", "count": 2}, {"eventName": "left", "count": 1}]);
    let all = json!({"totalMessages": 3, "whDeliveryRate": 0.0, "topEvents": said, "retentionDays": 30});
    assert_eq!(admin.get("/messages/stats").await, all);
    stack
        .exec("update realtime.messages set wh_audience_count = 2, wh_delivered_count = 1 where event_name = 'left'")
        .await;
    let lobby = stack.text("select id from realtime.channels where pattern = 'lobby'").await;
    let stats = admin.get(&format!("/messages/stats?channelId={lobby}&since=2020-01-01T00:00:00Z")).await;
    assert_eq!((&stats["totalMessages"], &stats["whDeliveryRate"]), (&json!(2), &json!(0.5)));
    assert_eq!(admin.get("/messages/stats?since=2999-01-01T00:00:00.5%2B02:00").await["totalMessages"], 0);
    for query in [
        "since=now",
        "since=2026-02-31T00:00:00Z",
        "since=2026-01-01",
        "since=2026-01-01T00:00:61Z",
        "since=2026-01-01T00:00:00%2B24:00",
        "channelId=x",
    ] {
        assert_refused(&admin.ask("GET", &format!("/messages/stats?{query}")).await, 400, "INVALID_INPUT");
    }
    let many = "select realtime.publish('lobby', 'e' || n, '{}') from generate_series(1, 12) n";
    stack.exec(many).await;
    assert_eq!(admin.get("/messages/stats").await["topEvents"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn all_messages_are_deleted_in_batches() {
    let stack = builder().sql(ROOMS).start().await;
    stack.exec("select realtime.publish('room:1', 'said', '{}') from generate_series(1, 2500)").await;
    let admin = Caller::admin(&stack);
    assert_eq!(admin.ask("DELETE", "/messages").await.json(), json!({"deleted": 2500}));
    assert_eq!(admin.get("/messages").await, json!([]));
    assert_eq!(admin.ask("DELETE", "/messages").await.json(), json!({"deleted": 0}));
}

/// What somebody holds is left, and nobody waits.
#[tokio::test]
async fn deleting_all_messages_waits_for_no_writer() {
    let stack = builder().sql(ROOMS).sql(TALK).start().await;
    let holder = stack.session().await;
    holder
        .batch_execute("begin; update realtime.messages set ws_audience_count = 1 where event_name = 'left'")
        .await
        .unwrap();
    let admin = Caller::admin(&stack);
    assert_eq!(admin.ask("DELETE", "/messages").await.json(), json!({"deleted": 2}));
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(names(&admin.get("/messages").await), [("lobby", "left")]);
}

#[tokio::test]
async fn retention_is_days_or_for_ever() {
    let stack = builder().sql(ROOMS).sql(TALK).start().await;
    let admin = Caller::admin(&stack);
    let setting = "select value from realtime.settings where name = 'messages_retention'";
    assert_eq!(admin.get("/config").await, json!({"retentionDays": 30}));
    for (days, value) in [(json!(7), "7 days"), (Value::Null, "forever")] {
        let answer = admin.send("PATCH", "/config", json!({"retentionDays": days})).await;
        assert_eq!((answer.status, answer.json()["message"].is_string()), (200, true), "{}", answer.body);
        assert_eq!(admin.get("/config").await, json!({"retentionDays": days}));
        assert_eq!(stack.text(setting).await, value);
    }
    assert_eq!(admin.get("/messages/stats").await["retentionDays"], Value::Null);
    stack.exec("update realtime.messages set created_at = now() - interval '1000 days'").await;
    assert_eq!(stack.text("select realtime.cleanup_messages()").await, "0");
    for days in [json!(0), json!(-1), json!(1.5), json!("7"), json!(36_501)] {
        let answer = admin.send("PATCH", "/config", json!({"retentionDays": days})).await;
        assert_refused(&answer, 400, "INVALID_INPUT");
    }
    assert_refused(&admin.send("PATCH", "/config", json!({})).await, 400, "INVALID_INPUT");
    assert_refused(&admin.send("PATCH", "/config", json!({"retentionDays": 1})).await, 409, "CONFLICT");
    assert_eq!(stack.text(setting).await, "forever");
}
