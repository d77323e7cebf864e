//! Channels and permissions.

use realtime_tests::Stack;
use realtime_tests::token::in_seconds;
use serde_json::{Value, json};

use super::{Caller, assert_refused, builder};
use crate::fixtures::{ADA, ROOMS};

#[tokio::test]
async fn x_08_channels_are_made_listed_changed_and_deleted() {
    let stack = builder().start().await;
    let admin = Caller::admin(&stack);
    assert_eq!(admin.get("/channels").await, json!([]));
    let hooks = json!(["https://example.com/hook", "http://10.0.0.1:8080/x?y=1"]);
    let order = json!({"pattern": "order:%", "description": "orders", "webhookUrls": hooks});
    let id = admin.create(order).await;
    let shown = admin.get(&format!("/channels/{id}")).await;
    assert_eq!((&shown["pattern"], &shown["description"]), (&json!("order:%"), &json!("orders")));
    assert_eq!((&shown["webhookUrls"], &shown["enabled"]), (&hooks, &json!(true)));
    assert!(shown["createdAt"].as_str().unwrap().ends_with('Z'), "{shown}");
    let plain = admin.create(json!({"pattern": "lobby", "enabled": false, "unknown": 1})).await;
    let listed = admin.get("/channels").await;
    let patterns: Vec<_> = listed.as_array().unwrap().iter().map(|it| it["pattern"].as_str().unwrap()).collect();
    assert_eq!(patterns, ["lobby", "order:%"], "newest first");
    assert_eq!((&listed[0]["description"], &listed[0]["webhookUrls"]), (&Value::Null, &Value::Null));
    assert_eq!(listed[1], shown);

    let changed = admin.send("PUT", &format!("/channels/{id}"), json!({"enabled": false, "description": null})).await;
    assert_eq!(changed.status, 200);
    assert_eq!((&changed.json()["enabled"], &changed.json()["description"]), (&json!(false), &json!("orders")));
    assert!(changed.json()["updatedAt"].as_str() > shown["updatedAt"].as_str());
    let empty = admin.send("PUT", &format!("/channels/{plain}"), json!({})).await;
    assert_eq!((empty.status, &empty.json()["pattern"]), (200, &json!("lobby")));

    let gone = admin.ask("DELETE", &format!("/channels/{id}")).await;
    assert_eq!((gone.status, gone.json()), (200, json!({"message": "Channel deleted"})));
    assert_refused(&admin.ask("GET", &format!("/channels/{id}")).await, 404, "REALTIME_CHANNEL_NOT_FOUND");
    assert_eq!(stack.text("select string_agg(pattern, ',') from realtime.channels").await, "lobby");
}

#[tokio::test]
async fn what_a_channel_must_not_be_is_refused_with_its_code() {
    let stack = builder().start().await;
    let admin = Caller::admin(&stack);
    let id = admin.create(json!({"pattern": "lobby"})).await;
    admin.create(json!({"pattern": "order:%"})).await;
    let own = format!("/channels/{id}");
    for pattern in ["", "%", "%:x", "a_b", "a::b", "a b", "größe", "table:public.t"] {
        let answer = admin.send("POST", "/channels", json!({"pattern": pattern})).await;
        assert_refused(&answer, 400, "REALTIME_INVALID_CHANNEL_PATTERN");
        let answer = admin.send("PUT", &own, json!({"pattern": pattern})).await;
        assert_refused(&answer, 400, "REALTIME_INVALID_CHANNEL_PATTERN");
    }
    for body in [
        json!({}),
        json!([]),
        json!(["x"]),
        json!({"pattern": 1}),
        json!({"pattern": null}),
        json!({"pattern": "x", "enabled": "yes"}),
        json!({"pattern": "x", "webhookUrls": "https://example.com"}),
        json!({"pattern": "x", "webhookUrls": ["ftp://example.com"]}),
        json!({"pattern": "x", "webhookUrls": vec!["https://example.com"; 21]}),
    ] {
        let answer = admin.send("POST", "/channels", body.clone()).await;
        assert_refused(&answer, 400, "REALTIME_INVALID_CHANNEL_REQUEST");
    }
    let zero = json!({"pattern": "x", "description": "a\u{0}b"});
    assert_refused(&admin.send("POST", "/channels", zero).await, 400, "INVALID_INPUT");
    assert_refused(&admin.send("POST", "/channels", json!({"pattern": "lobby"})).await, 409, "ALREADY_EXISTS");
    assert_refused(&admin.send("PUT", &own, json!({"pattern": "order:%"})).await, 409, "ALREADY_EXISTS");
    let unknown = format!("/channels/{ADA}");
    assert_refused(&admin.send("PUT", &unknown, json!({})).await, 404, "REALTIME_CHANNEL_NOT_FOUND");
    for method in ["GET", "DELETE"] {
        assert_refused(&admin.ask(method, &unknown).await, 404, "REALTIME_CHANNEL_NOT_FOUND");
        assert_refused(&admin.ask(method, "/channels/1").await, 400, "INVALID_INPUT");
        assert_refused(&admin.ask(method, "/channels/%00").await, 400, "INVALID_INPUT");
    }
    assert_eq!(stack.text("select count(*) from realtime.channels").await, "2");
}

/// What is written over HTTP holds for those who listen, at once.
#[tokio::test]
async fn a_channel_that_is_disabled_ends_its_subscriptions() {
    let stack = builder().sql("create policy enter on realtime.channels for select to anon using (true)").start().await;
    let admin = Caller::admin(&stack);
    let id = admin.create(json!({"pattern": "room:%"})).await;
    let mut client = stack.native().await;
    client.subscribe("room:1").await;
    admin.send("PUT", &format!("/channels/{id}"), json!({"enabled": false})).await;
    let end = client.find("the end", |frame| frame.kind() == "error" && frame["final"] == true).await;
    assert_eq!(end.code(), "CHANNEL_DISABLED");
}

#[tokio::test]
async fn permissions_are_the_policies_of_channels_and_messages() {
    let stack = builder().sql(ROOMS).start().await;
    let permissions = Caller::admin(&stack).get("/permissions").await;
    let speak = json!({
        "policyName": "speak", "tableName": "messages", "command": "INSERT", "roles": ["authenticated"],
        "using": null, "withCheck": "(channel_name ~~ 'room:%'::text)",
    });
    let enter = json!({
        "policyName": "enter", "tableName": "channels", "command": "SELECT", "roles": ["anon", "authenticated"],
        "using": "true", "withCheck": null,
    });
    assert_eq!(permissions, json!({"subscribe": {"policies": [enter]}, "publish": {"policies": [speak]}}));
}

#[tokio::test]
async fn webhooks_are_seen_by_administrators_alone() {
    let secret = "https://hooks.example.com/secret";
    let stack = builder().sql(ROOMS).start().await;
    let admin = Caller::admin(&stack);
    let id = admin.create(json!({"pattern": "hooked", "webhookUrls": [secret]})).await;
    assert_eq!(admin.get(&format!("/channels/{id}")).await["webhookUrls"], json!([secret]));
    let user = Caller::bearer(&stack, &stack.signer.user(ADA));
    for path in ["/channels".to_owned(), format!("/channels/{id}")] {
        let answer = user.ask("GET", &path).await;
        assert_refused(&answer, 403, "FORBIDDEN");
        assert!(!answer.body.contains(secret));
    }
    let mut client = stack.native().await;
    client.subscribe("hooked").await;
    assert!(!stack.sidecar.log().contains(secret));
    assert!(stack.try_exec("set role anon; select webhook_urls from realtime.channels").await.is_err());
}

/// The database knows no role of administrators: none is assumed for them.
#[tokio::test]
async fn administrators_need_no_role_of_the_database() {
    let stack = Stack::builder().set("REALTIME_AUTH_ADMIN_ROLE", "nobody_s_role").start().await;
    let claims = json!({"role": "nobody_s_role", "exp": in_seconds(60)});
    Caller::bearer(&stack, &stack.signer.sign(&claims)).create(json!({"pattern": "lobby"})).await;
}
