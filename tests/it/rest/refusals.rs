//! Who may ask, how often, and what is said when nobody can answer.

use realtime_tests::token::in_seconds;
use realtime_tests::{Mode, PATIENCE, Stack, http, within};
use serde_json::{Value, json};

use super::{Caller, KEY, assert_refused, builder};
use crate::fixtures::{ADA, ROOMS};

const ROUTES: [(&str, &str); 11] = [
    ("GET", "/channels"),
    ("POST", "/channels"),
    ("GET", "/channels/a0a0a0a0-0000-4000-8000-0000000000ad"),
    ("PUT", "/channels/a0a0a0a0-0000-4000-8000-0000000000ad"),
    ("DELETE", "/channels/a0a0a0a0-0000-4000-8000-0000000000ad"),
    ("GET", "/messages"),
    ("DELETE", "/messages"),
    ("GET", "/messages/stats"),
    ("GET", "/permissions"),
    ("GET", "/config"),
    ("PATCH", "/config"),
];

#[tokio::test]
async fn x_08_every_route_is_for_administrators() {
    let stack = builder().sql(ROOMS).start().await;
    let user = Caller::bearer(&stack, &stack.signer.user(ADA));
    let late = json!({"role": "project_admin", "exp": in_seconds(-60)});
    let late = Caller::bearer(&stack, &stack.signer.sign(&late));
    let forged = json!({"role": "project_admin", "exp": in_seconds(60)});
    let forged = Caller::bearer(&stack, &realtime_tests::Signer::random().sign(&forged));
    let key = |header, value: String| Caller::with(&stack, header, value);
    for (method, path) in ROUTES {
        assert_refused(&Caller::nobody(&stack).ask(method, path).await, 401, "AUTH_UNAUTHORIZED");
        assert_refused(&key("Authorization", "Basic eDp5".into()).ask(method, path).await, 401, "AUTH_UNAUTHORIZED");
        assert_refused(&key("Authorization", "Bearer ".into()).ask(method, path).await, 401, "AUTH_UNAUTHORIZED");
        assert_refused(&late.ask(method, path).await, 401, "AUTH_TOKEN_EXPIRED");
        assert_refused(&forged.ask(method, path).await, 401, "AUTH_INVALID_CREDENTIALS");
        for wrong in [format!("{KEY}x"), "ik_".to_owned(), stack.signer.user(ADA), String::new()] {
            let answer = key("X-API-Key", wrong).ask(method, path).await;
            assert_refused(&answer, 401, "AUTH_INVALID_API_KEY");
        }
        assert_refused(&user.ask(method, path).await, 403, "FORBIDDEN");
    }
    assert_eq!(stack.text("select count(*) from realtime.channels").await, "1");
}

#[tokio::test]
async fn a_key_is_as_good_as_a_token_of_its_role() {
    let anonymous = "anon_00112233445566778899aabbccddeeff";
    let keys = format!("project_admin={KEY},anon={anonymous},authenticated=ik_ffeeddccbbaa99887766554433221100");
    let stack = builder().set("REALTIME_AUTH_KEYS", &keys).start().await;
    for caller in [
        Caller::with(&stack, "X-API-Key", KEY.to_owned()),
        Caller::bearer(&stack, KEY),
        Caller::with(&stack, "authorization", format!("bearer {KEY}")),
    ] {
        assert_eq!(caller.get("/channels").await, json!([]));
    }
    assert_refused(&Caller::bearer(&stack, anonymous).ask("GET", "/channels").await, 403, "FORBIDDEN");
    let other = Caller::with(&stack, "X-API-Key", "ik_ffeeddccbbaa99887766554433221100".to_owned());
    assert_refused(&other.ask("GET", "/channels").await, 403, "FORBIDDEN");
    assert!(!stack.sidecar.log().contains(KEY));
}

#[tokio::test]
async fn the_role_of_administrators_is_a_setting() {
    let stack = Stack::builder().set("REALTIME_AUTH_ADMIN_ROLE", "boss").start().await;
    let token = |stack: &Stack, role: &str| stack.signer.sign(&json!({"role": role, "exp": in_seconds(60)}));
    assert_eq!(Caller::bearer(&stack, &token(&stack, "boss")).get("/channels").await, json!([]));
    let other = Caller::bearer(&stack, &token(&stack, "project_admin"));
    assert_refused(&other.ask("GET", "/channels").await, 401, "AUTH_INVALID_CREDENTIALS");
    let none = Stack::builder().set("REALTIME_AUTH_ADMIN_ROLE", "none").start().await;
    for role in ["none", "project_admin", ""] {
        let answer = Caller::bearer(&none, &token(&none, role)).ask("GET", "/channels").await;
        assert_refused(&answer, 401, "AUTH_INVALID_CREDENTIALS");
    }
    assert_refused(&Caller::bearer(&none, &token(&none, "anon")).ask("GET", "/channels").await, 403, "FORBIDDEN");
}

#[tokio::test]
async fn paths_methods_and_bodies_are_told_in_one_form() {
    let stack = builder().start().await;
    let admin = Caller::admin(&stack);
    for path in ["/", "/nope", "/channels/x/y", "/messages/", "/publish/"] {
        assert_refused(&admin.ask("GET", path).await, 404, "NOT_FOUND");
    }
    for (method, path) in [("PATCH", "/channels"), ("POST", "/messages"), ("GET", "/publish"), ("PUT", "/config")] {
        let answer = admin.ask(method, path).await;
        assert_refused(&answer, 405, "METHOD_NOT_ALLOWED");
        assert!(answer.header("allow").is_some(), "{}", answer.head);
    }
    let token = stack.signer.sign(&json!({"role": "project_admin", "exp": in_seconds(60)}));
    let post = async |kind: &str, body: &str| {
        let head = format!("Host: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{kind}");
        let text =
            format!("POST /api/realtime/channels HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
        http::raw(stack.sidecar.address(), &text).await.unwrap()
    };
    assert_refused(&post("", r#"{"pattern": "a"}"#).await, 415, "UNSUPPORTED_MEDIA_TYPE");
    assert_refused(&post("Content-Type: text/plain\r\n", "{}").await, 415, "UNSUPPORTED_MEDIA_TYPE");
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    for body in ["", "{", "nonsense", r#"{"pattern": "a"} x"#, "\u{feff}{}", &"[".repeat(5000)] {
        assert_refused(&post(json, body).await, 400, "REALTIME_INVALID_CHANNEL_REQUEST");
    }
    assert_eq!(post(json, r#"{"pattern": "a"}"#).await.status, 201);
}

#[tokio::test]
async fn bodies_have_a_size_and_a_deadline() {
    let stack = builder().set("REALTIME_TIMING_HANDSHAKE_MS", "300").start().await;
    let admin = Caller::admin(&stack);
    let large = json!({"pattern": "large", "description": "x".repeat(1_100_000)});
    assert_refused(&admin.send("POST", "/channels", large).await, 413, "PAYLOAD_TOO_LARGE");
    let head = format!("POST /api/realtime/channels HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {KEY}\r\n");
    let slow = format!("{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{");
    assert_refused(&http::raw(stack.sidecar.address(), &slow).await.unwrap(), 408, "REQUEST_TIMEOUT");
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let settings = |builder: realtime_tests::Builder| {
        builder.set("REALTIME_LIMITS_MESSAGES_PER_SECOND_MAX", "1").set("REALTIME_LIMITS_MESSAGES_BURST_MAX", "3")
    };
    let stack = settings(builder()).start().await;
    let admin = Caller::admin(&stack);
    for _ in 0..3 {
        admin.get("/config").await;
    }
    let answer = admin.ask("GET", "/config").await;
    assert_refused(&answer, 429, "RATE_LIMITED");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(stack.sidecar.metric("realtime_limits_reached_total").await > 0.0);
    // Another user has a bucket of their own.
    assert_refused(&Caller::bearer(&stack, &stack.signer.user(ADA)).ask("GET", "/config").await, 403, "FORBIDDEN");
}

/// Without the database there is an answer all the same, and it comes soon.
#[tokio::test]
async fn while_the_database_is_away_every_route_says_so() {
    let stack = builder().sql(ROOMS).proxy().start().await;
    let admin = Caller::admin(&stack);
    stack.proxy().set(Mode::Cut);
    for (method, path) in ROUTES.into_iter().filter(|(method, _)| matches!(*method, "GET" | "DELETE")) {
        let answer = admin.ask(method, path).await;
        assert_refused(&answer, 503, "UNAVAILABLE");
        assert!(answer.header("retry-after").is_some());
    }
    for (method, path, body) in bodies() {
        assert_refused(&admin.send(method, path, body).await, 503, "UNAVAILABLE");
    }
    stack.proxy().set(Mode::HalfOpen);
    let answer = within(PATIENCE, "an answer comes though the database does not", admin.ask("GET", "/channels")).await;
    assert_refused(&answer, 503, "UNAVAILABLE");
    stack.proxy().set(Mode::Pass);
    stack.sidecar.ready().await;
    assert_eq!(admin.get("/channels").await.as_array().unwrap().len(), 1);
}

fn bodies() -> [(&'static str, &'static str, Value); 5] {
    let message = json!({"channel": "room:1", "event": "said", "payload": {}});
    [
        ("POST", "/channels", json!({"pattern": "a"})),
        ("PUT", "/channels/a0a0a0a0-0000-4000-8000-0000000000ad", json!({})),
        ("PATCH", "/config", json!({"retentionDays": null})),
        ("POST", "/publish", message),
        ("POST", "/broadcast", json!({"topic": "room:1", "event": "said", "payload": {}})),
    ]
}

/// A sidecar whose role was prepared by an older extension has no right to these functions.
#[tokio::test]
async fn a_role_without_the_right_is_no_error_of_the_server() {
    let stack: Stack = builder().start().await;
    stack.exec("revoke execute on function realtime.admin_channels(uuid, int) from public, realtime_sidecar").await;
    assert_refused(&Caller::admin(&stack).ask("GET", "/channels").await, 503, "UNAVAILABLE");
}
