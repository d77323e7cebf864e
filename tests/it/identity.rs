//! Who a client is, what that lets it do, and when that ends.

use std::time::{Duration, Instant};

use realtime_tests::{Closed, Refusal, Stack, eventually, token};
use serde_json::{Value, json};

use crate::fixtures::{ADA, GRACE, ROOMS, TABLE};

/// Refused before the upgrade, with a reason and without a hint at what would be right.
fn assert_unauthorized(name: &str, result: Result<realtime_tests::Client, Refusal>) {
    let Err(refusal) = result else { panic!("{name} was let in") };
    assert_eq!(refusal.status, 401, "{name}: {refusal:?}");
    let body: Value = serde_json::from_str(&refusal.body).unwrap();
    assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {body}");
}

#[tokio::test]
async fn good_tokens_are_let_in_with_their_role() {
    let stack = Stack::start().await;
    let exp = token::in_seconds(60);
    for (claims, role, user) in [
        (json!({"sub": "ada", "role": "authenticated", "exp": exp}), "authenticated", json!("ada")),
        (json!({"sub": "ada", "exp": exp}), "authenticated", json!("ada")),
        (json!({"user_id": "ada", "exp": exp}), "authenticated", json!("ada")),
        (json!({"role": "service_role", "exp": exp}), "service_role", Value::Null),
        (json!({"role": "anon", "exp": exp}), "anon", Value::Null),
        (
            json!({"sub": "ada", "exp": exp, "nbf": token::in_seconds(-5), "extra": [1, {"a": null}]}),
            "authenticated",
            json!("ada"),
        ),
        (json!({"sub": "ada", "exp": token::in_seconds(-3)}), "authenticated", json!("ada")),
    ] {
        let token = stack.signer.sign(&claims);
        let client = stack.connect().token(&token).open().await;
        assert_eq!((&client.hello()["role"], &client.hello()["user"]), (&json!(role), &user), "{claims}");
        let bearer = stack.connect().header("authorization", &format!("Bearer {token}")).open().await;
        assert_eq!(bearer.hello()["role"], role);
    }
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let stack = Stack::start().await;
    let good = json!({"sub": "ada", "role": "authenticated", "exp": token::in_seconds(60)});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        stack.signer.sign(&claims)
    };
    let secret = stack.signer.secret().as_bytes();
    let header = |header: Value| token::sign_hs256(secret, &header, &good);
    let mut endless = good.clone();
    endless.as_object_mut().unwrap().remove("exp");
    let (head, signature) =
        stack.signer.sign(&good).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let bad = [
        (
            "wrong secret",
            token::sign_hs256(b"another secret, as long as the one in use", &json!({"alg": "HS256"}), &good),
        ),
        ("expired", with("exp", json!(token::in_seconds(-3600)))),
        ("exp as a string", with("exp", json!(token::in_seconds(60).to_string()))),
        ("exp null", with("exp", Value::Null)),
        ("no exp", stack.signer.sign(&endless)),
        ("not yet", with("nbf", json!(token::in_seconds(3600)))),
        ("unknown role", with("role", json!("postgres"))),
        ("the sidecar's role", with("role", json!("realtime_sidecar"))),
        ("role as a list", with("role", json!(["authenticated"]))),
        ("role with a quote", with("role", json!("authenticated\"; reset role; --"))),
        ("alg none", format!("{}.", token::unsigned(&json!({"alg": "none"}), &good))),
        ("alg None, signed", header(json!({"alg": "None", "typ": "JWT"}))),
        ("alg HS512 named", header(json!({"alg": "HS512"}))),
        ("alg RS256 named", header(json!({"alg": "RS256"}))),
        ("no alg", header(json!({"typ": "JWT"}))),
        ("crit", header(json!({"alg": "HS256", "crit": ["exp"]}))),
        ("b64 false", header(json!({"alg": "HS256", "b64": false, "crit": ["b64"]}))),
        ("unsigned", head.clone()),
        ("empty signature", format!("{head}.")),
        ("half a signature", format!("{head}.{}", &signature[..20])),
        ("a part too many", format!("{head}.{signature}.{signature}")),
        ("padding", format!("{head}.{signature}=")),
        ("claims are a list", token::sign_hs256(secret, &json!({"alg": "HS256"}), &json!([1]))),
        ("empty", ".".to_owned()),
        ("very long", "a".repeat(7000)),
    ];
    for (name, bad) in bad {
        assert_unauthorized(name, stack.connect().token(&bad).try_open().await);
        let bearer = stack.connect().header("authorization", &format!("Bearer {bad}")).try_open().await;
        assert_unauthorized(name, bearer);
    }
}

#[tokio::test]
async fn issuer_and_audience_are_checked_when_set() {
    let stack = Stack::builder()
        .set("REALTIME_JWT_ISSUER", "https://id.example.com")
        .set("REALTIME_JWT_AUDIENCE", "realtime,other")
        .start()
        .await;
    let base = json!({"sub": "ada", "exp": token::in_seconds(60), "iss": "https://id.example.com", "aud": "realtime"});
    let with = |name: &str, value: Value| {
        let mut claims = base.clone();
        claims[name] = value;
        stack.signer.sign(&claims)
    };
    for good in [with("sub", json!("x")), with("aud", json!(["unknown", "other"]))] {
        stack.connect().token(&good).open().await;
    }
    for (name, bad) in [
        ("other issuer", with("iss", json!("https://evil.example.com"))),
        ("longer issuer", with("iss", json!("https://id.example.com.evil"))),
        ("no issuer", with("iss", Value::Null)),
        ("other audience", with("aud", json!("unknown"))),
        ("no audience", with("aud", Value::Null)),
        ("empty audience", with("aud", json!([]))),
    ] {
        assert_unauthorized(name, stack.connect().token(&bad).try_open().await);
    }
}

#[tokio::test]
async fn anonymous_clients_are_refused_where_that_is_set() {
    let file = std::env::temp_dir().join(format!("realtime-tests-{}-closed.toml", std::process::id()));
    std::fs::write(&file, "[auth]\nanonymous_role = \"\"\n").unwrap();
    let stack = Stack::builder().set("REALTIME_CONFIG", file.to_str().unwrap()).start().await;
    std::fs::remove_file(&file).unwrap();
    assert_unauthorized("nobody", stack.connect().try_open().await);
    assert_unauthorized("nobody (seed)", stack.connect().seed().try_open().await);
    stack.native_as("ada").await;
}

#[tokio::test]
async fn an_expired_token_ends_the_connection() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_AUTH_LEEWAY_S", "0").start().await;
    let token = stack.signer.sign(&json!({"sub": "ada", "exp": token::in_seconds(2)}));
    let mut native = stack.connect().token(&token).open().await;
    let mut seed = stack.connect().seed().token(&token).open().await;
    native.subscribe("table:t").await;
    seed.subscribe("table:t").await;
    let (frames, closed) = native.closed().await;
    assert!(token::in_seconds(0) >= stack_expiry(native.hello()), "not before its time");
    assert_eq!(closed.code, 4401, "{closed:?}");
    assert!(frames.iter().any(|frame| frame.code() == "TOKEN_EXPIRED" && frame["final"] == true), "{frames:?}");
    assert!(frames.iter().all(|frame| frame.kind() == "error"), "{frames:?}");
    assert_eq!(seed.closed().await.1.code, 4401);
}

/// `expires_at` of a hello, in seconds since 1970, read from its digits.
fn stack_expiry(hello: &realtime_tests::Frame) -> i64 {
    let text = hello["expires_at"].as_str().unwrap();
    let field = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (field(0, 4), field(5, 7), field(8, 10));
    // Days since 1970, after Howard Hinnant's days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let year_of_era = year - era * 400;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    days * 86_400 + field(11, 13) * 3600 + field(14, 16) * 60 + field(17, 19)
}

#[tokio::test]
async fn a_new_token_prolongs_the_connection_and_is_judged_anew() {
    let stack = Stack::builder().sql(TABLE).sql(ROOMS).set("REALTIME_AUTH_LEEWAY_S", "0").start().await;
    stack.exec("create table members (id int primary key); select realtime.enable_realtime('members'); grant select on members to authenticated").await;
    let short = stack.signer.sign(&json!({"sub": ADA, "exp": token::in_seconds(2)}));
    let mut client = stack.connect().token(&short).open().await;
    client.subscribe("table:members").await;
    client.subscribe("room:1").await;
    let ack = client.ask(json!({"type": "access_token", "token": stack.signer.user(ADA)})).await;
    assert_eq!((ack.kind(), &ack["role"], &ack["user"]), ("ack", &json!("authenticated"), &json!(ADA)));
    eventually("the first token's time is over", async || {
        (token::in_seconds(0) > stack_expiry(client.hello())).then_some(())
    })
    .await;
    stack.exec("insert into members values (1)").await;
    assert_eq!(client.event().await.record()["id"], 1);
    // A bad one changes nothing.
    let refused = client.ask(json!({"type": "access_token", "token": "nonsense"})).await;
    assert_eq!((refused.kind(), refused.code()), ("error", "UNAUTHORIZED"));
    stack.exec("insert into members values (2)").await;
    assert_eq!(client.event().await.record()["id"], 2);
    // A lesser one ends what it may not have, and only that.
    let anon = stack.signer.sign(&json!({"role": "anon", "exp": token::in_seconds(60)}));
    let ack = client.ask(json!({"type": "access_token", "token": anon})).await;
    assert_eq!(ack["role"], "anon");
    let ended = client.expect("error").await;
    assert_eq!(
        (ended.code(), &ended["channel"], &ended["final"]),
        ("UNAUTHORIZED", &json!("table:members"), &json!(true))
    );
    stack.exec("insert into members values (3); select realtime.publish('room:1', 'e', '{}')").await;
    assert_eq!(client.event().await["channel"], "room:1");
    assert_eq!(client.publish("room:1", "e", json!({})).await.code(), "UNAUTHORIZED");
}

#[tokio::test]
async fn a_revoked_grant_ends_the_subscription() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("table:t").await;
    stack.exec("revoke select on t from authenticated").await;
    let ended = client.expect("error").await;
    assert_eq!((ended.code(), &ended["final"], &ended["id"]), ("UNAUTHORIZED", &json!(true), &json!("table:t")));
    stack.exec("insert into t values (1)").await;
    let pong = client.ask(json!({"type": "ping"})).await;
    assert_eq!(pong.kind(), "pong");
}

#[tokio::test]
async fn a_revoked_grant_ends_the_subscription_of_a_renewed_token() {
    let stack = Stack::with(TABLE).await;
    let token = stack.signer.user(ADA);
    let (mut same, mut other) = (stack.connect().token(&token).open().await, stack.native_as(ADA).await);
    let later = stack.signer.sign(&json!({"sub": ADA, "role": "authenticated", "exp": token::in_seconds(7200)}));
    for (client, renewed) in [(&mut same, &token), (&mut other, &later)] {
        client.subscribe("table:t").await;
        for _ in 0..2 {
            assert_eq!(client.ask(json!({"type": "access_token", "token": renewed})).await.kind(), "ack");
        }
    }
    stack.exec("revoke select on t from authenticated").await;
    for client in [&mut same, &mut other] {
        let ended = client.expect("error").await;
        assert_eq!((ended.code(), &ended["final"]), ("UNAUTHORIZED", &json!(true)), "{ended}");
    }
}

#[tokio::test]
async fn row_level_security_that_comes_later_decides_from_then_on() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native_as(ADA).await;
    let mut service = stack
        .connect()
        .token(&stack.signer.sign(&json!({"role": "service_role", "exp": token::in_seconds(60)})))
        .open()
        .await;
    client.subscribe("table:t").await;
    service.subscribe("table:t").await;
    stack.exec("alter table t enable row level security; create policy even on t using (id % 2 = 0)").await;
    assert_eq!(client.expect("gap").await["reason"], "unjudged", "what it has was not judged");
    stack.exec("insert into t values (1), (2)").await;
    assert_eq!(service.event().await.record()["id"], 1, "who bypasses policies still sees all");
    assert_eq!(client.event().await.record()["id"], 2);
    stack.exec("alter table t disable row level security").await;
    assert_eq!(client.expect("gap").await["reason"], "unjudged");
    stack.exec("insert into t values (3)").await;
    assert_eq!(client.event().await.record()["id"], 3);
}

#[tokio::test]
async fn a_policy_that_changes_ends_the_subscription() {
    let stack = Stack::with(ROOMS).await;
    let (mut ada, mut grace) = (stack.native_as(ADA).await, stack.native_as(GRACE).await);
    ada.subscribe("room:1").await;
    grace.subscribe("room:1").await;
    stack.exec(&format!("alter policy enter on realtime.channels using (auth.uid() = '{GRACE}')")).await;
    let ended = ada.expect("error").await;
    assert_eq!((&ended["final"], &ended["channel"]), (&json!(true), &json!("room:1")), "{ended}");
    stack.exec("select realtime.publish('room:1', 'after', '{}')").await;
    assert_eq!(grace.event().await["payload"]["event"], "after");
    assert_eq!(ada.ask(json!({"type": "ping"})).await.kind(), "pong");
}

#[tokio::test]
async fn missing_and_forbidden_look_alike() {
    let stack = Stack::builder().sql(TABLE).set("REALTIME_TIMING_REFUSAL_MS", "150").start().await;
    stack
        .exec(
            "create table forbidden (id int); select realtime.enable_realtime('forbidden');
             create table disabled (id int); grant select on disabled to anon;
             create schema closed; create table closed.t (id int); select realtime.enable_realtime('closed.t'); grant select on closed.t to anon;
             insert into realtime.channels (pattern) values ('secret')",
        )
        .await;
    let mut client = stack.native().await;
    let mut answers = Vec::new();
    for channel in [
        "table:forbidden",
        "table:disabled",
        "table:missing",
        "table:closed.t",
        "table:nowhere.t",
        "table:pg_catalog.pg_authid",
        "secret",
        "nothing",
    ] {
        let asked = Instant::now();
        let answer = client.try_subscribe(json!({"channel": channel})).await;
        assert!(asked.elapsed() >= Duration::from_millis(150), "{channel} was refused in {:?}", asked.elapsed());
        let mut value = answer.value().clone();
        for name in ["ref", "id", "channel"] {
            value.as_object_mut().unwrap().remove(name);
        }
        answers.push((channel, value));
    }
    assert!(answers.iter().all(|(_, answer)| *answer == answers[0].1), "{answers:#?}");
}

#[tokio::test]
async fn all_verified_claims_reach_the_policies() {
    let stack = Stack::with(
        "insert into realtime.channels (pattern) values ('org:%');
         create policy p on realtime.channels for select to authenticated using (
           realtime.channel_name() = 'org:' || (auth.jwt() -> 'app' ->> 'org') and (auth.jwt() ->> 'big')::numeric = 9007199254740993);",
    )
    .await;
    let claims =
        json!({"sub": ADA, "exp": token::in_seconds(60), "app": {"org": "o'1"}, "big": 9_007_199_254_740_993_i64});
    let mut client = stack.connect().token(&stack.signer.sign(&claims)).open().await;
    client.subscribe("org:o'1").await;
    assert_eq!(client.try_subscribe(json!({"channel": "org:o2"})).await.code(), "UNAUTHORIZED");
}

#[tokio::test]
async fn a_policy_that_fails_denies_its_own_subscriber_alone() {
    let stack = Stack::with(
        "insert into realtime.channels (pattern) values ('n:%');
         create policy p on realtime.channels for select using (1 / (auth.jwt() ->> 'n')::int > 0);",
    )
    .await;
    let with = |n: i64| stack.signer.sign(&json!({"sub": ADA, "exp": token::in_seconds(60), "n": n}));
    let mut bad = stack.connect().token(&with(0)).open().await;
    let mut good = stack.connect().token(&with(1)).open().await;
    let answer = bad.try_subscribe(json!({"channel": "n:1"})).await;
    assert_eq!(answer.kind(), "error", "{answer}");
    assert!(!answer.text().contains("zero"), "the database's words are not for strangers: {answer}");
    good.subscribe("n:1").await;
    stack.exec("select realtime.publish('n:1', 'e', '{}')").await;
    good.event().await;
}

#[tokio::test]
async fn nothing_that_a_policy_does_stays_behind() {
    let stack = Stack::with(
        "create table seen (what text); grant insert on seen to authenticated;
         create function meddle() returns boolean language plpgsql volatile as $$
         begin
           perform set_config('request.jwt.claims', '{\"sub\": \"root\"}', false);
           insert into seen values (current_user);
           return true;
         end $$;
         insert into realtime.channels (pattern) values ('room:%');
         create policy p on realtime.channels for select using (meddle());
         create policy q on realtime.channels for select to anon using (false);",
    )
    .await;
    let mut ada = stack.native_as(ADA).await;
    ada.try_subscribe(json!({"channel": "room:1"})).await;
    assert_eq!(stack.text("select count(*) from seen").await, "0");
    for _ in 0..20 {
        let leaked = stack.native().await.try_subscribe(json!({"channel": "room:1"})).await;
        assert!(["ack", "error"].contains(&leaked.kind()));
    }
    let roles = "select count(*) from pg_stat_activity where application_name like 'realtime-sidecar-%'
                   and datname = current_database() and usename <> 'realtime_sidecar'";
    assert_eq!(stack.text(roles).await, "0");
}

#[tokio::test]
async fn tokens_claims_and_payloads_are_never_logged() {
    let stack = Stack::builder().sql(TABLE).sql(ROOMS).set("REALTIME_LOG", "trace").start().await;
    let token = stack.signer.sign(&json!({"sub": ADA, "exp": token::in_seconds(60), "note": "canary-claim"}));
    let mut client = stack.connect().token(&token).open().await;
    let mut bearer = stack.connect().seed().header("authorization", &format!("Bearer {token}")).open().await;
    client.subscribe("room:1").await;
    client.subscribe("table:t").await;
    bearer.subscribe("table:t").await;
    client.publish("room:1", "e", json!("canary-payload")).await;
    client.ask(json!({"type": "access_token", "token": token})).await;
    client.send_text(&format!(r#"{{"type":"access_token","token":"{token}", broken"#)).await;
    stack.exec("insert into t values (1, 'canary-row')").await;
    client.find("the row", |frame| frame["channel"] == "table:t" && frame.kind() == "broadcast").await;
    assert_unauthorized("changed", stack.connect().token(&format!("{token}x")).try_open().await);
    let log = stack.sidecar.log();
    assert!(log.contains("connection opened"), "it logs in detail: {log}");
    for (name, canary) in [
        ("the token", token.as_str()),
        ("its claims", token.split('.').nth(1).unwrap()),
        ("its signature", token.split('.').nth(2).unwrap()),
        ("a claim", "canary-claim"),
        ("a payload", "canary-payload"),
        ("a row", "canary-row"),
        ("the secret", stack.signer.secret()),
    ] {
        let line = log.lines().find(|line| line.contains(canary));
        assert!(line.is_none(), "{name} is in the log: {}", line.unwrap_or_default());
    }
}

#[tokio::test]
async fn a_token_does_not_outlive_its_user_s_limit() {
    // A connection that changes its user counts for the new one.
    let stack = Stack::builder().set("REALTIME_LIMITS_CONNECTIONS_PER_USER_MAX", "1").start().await;
    let _grace = stack.native_as(GRACE).await;
    let mut ada = stack.native_as(ADA).await;
    ada.send(json!({"type": "access_token", "token": stack.signer.user(GRACE)})).await;
    let (_, closed) = ada.closed().await;
    assert_eq!(closed.code, 4429, "{closed:?}");
    let _: Closed = closed;
}
