//! Webhooks: what receivers get, how often they are asked, and what is written down about it.

use std::time::{Duration, Instant};

use realtime_tests::{Builder, Catcher, Reply, Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::{ADA, ROOMS};

/// Rooms whose messages go to these addresses, and a sidecar that may ask this machine.
pub(crate) fn hooked(urls: &[String]) -> Builder {
    let urls = urls.iter().map(|url| format!("'{url}'")).collect::<Vec<_>>().join(", ");
    let sql = format!("{ROOMS} update realtime.channels set webhook_urls = array[{urls}]::text[]");
    Stack::builder().sql(&sql).set("REALTIME_WEBHOOKS_ALLOW", "127.0.0.0/8")
}

/// The deliveries, each as `state attempts last_status last_error`, by url.
pub(crate) async fn deliveries(stack: &Stack) -> Vec<String> {
    let rows = stack
        .rows("select concat_ws(' ', state, attempts, last_status, last_error) from realtime.webhook_deliveries order by created_at, url")
        .await;
    rows.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect()
}

/// The deliveries once they are all over.
pub(crate) async fn outcome(stack: &Stack) -> Vec<String> {
    let is_over = "select count(*) > 0 and bool_and(next_attempt_at is null) from realtime.webhook_deliveries";
    eventually("all deliveries are over", async || (stack.text(is_over).await == "t").then_some(())).await;
    deliveries(stack).await
}

async fn publish(stack: &Stack, channel: &str, event: &str, payload: &Value) -> String {
    stack.text(&format!("select realtime.publish('{channel}', '{event}', '{payload}')")).await
}

#[tokio::test]
async fn if_31_a_webhook_gets_the_bare_payload_and_three_headers() {
    let catcher = Catcher::start().await;
    let stack = hooked(&[catcher.url("/hook?key=1")]).start().await;
    let payload = json!({"id": 1, "text": "für alle", "n": 1.5});
    let id = publish(&stack, "room:1", "said", &payload).await;
    let caught = catcher.wait("/hook?key=1", 1).await.remove(0);
    assert_eq!(serde_json::from_str::<Value>(&caught.body).unwrap(), payload);
    let header = |name: &str| caught.headers.get(name).cloned().unwrap_or_default();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-insforge-event"), "said");
    assert_eq!(header("x-insforge-channel"), "room:1");
    assert_eq!(header("x-insforge-message-id"), id);
    assert!(!caught.headers.contains_key("webhook-signature"), "without a secret nothing is signed");
    assert_eq!(outcome(&stack).await, ["delivered 1 200"]);
    assert_eq!(catcher.all().len(), 1);
}

#[tokio::test]
async fn what_clients_publish_goes_to_webhooks_too_and_names_are_data() {
    let catcher = Catcher::start().await;
    let stack = hooked(&[catcher.url("/")]).set("REALTIME_WEBHOOKS_HEADER_PREFIX", "X-Own").start().await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe("room:ä").await;
    let ack = ada.publish("room:ä", "50%\r\nX-Evil: 1", json!({})).await;
    assert_eq!(ack.kind(), "ack", "{ack}");
    let caught = catcher.wait("/", 1).await.remove(0);
    assert_eq!(caught.headers.get("x-own-event").map(String::as_str), Some("50%25%0D%0AX-Evil: 1"));
    assert_eq!(caught.headers.get("x-own-channel").map(String::as_str), Some("room:%C3%A4"));
    assert!(!caught.headers.contains_key("x-evil"));
}

#[tokio::test]
async fn if_32_trouble_is_tried_again_after_one_and_two_seconds() {
    let catcher = Catcher::start().await;
    catcher.reply("/once", &[Reply::Close, Reply::Status(503), Reply::Status(200)]);
    catcher.reply("/never", &[Reply::Status(500)]);
    catcher.reply("/busy", &[Reply::Status(429), Reply::Status(204)]);
    let paths = ["/busy", "/never", "/once"];
    let stack = hooked(&paths.map(|path| catcher.url(path))).start().await;
    publish(&stack, "room:1", "e", &json!({})).await;
    let expected = ["delivered 2 204", "failed 3 500 the receiver answered 500", "delivered 3 200"];
    assert_eq!(outcome(&stack).await, expected);
    for path in ["/once", "/never"] {
        let caught = catcher.caught(path);
        assert_eq!(caught.len(), 3);
        let waits: Vec<_> = caught.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        // Not sooner; and not much later, but machines are slow.
        for (wait, due_s) in waits.iter().zip([1.0, 2.0]) {
            assert!((due_s..due_s + 5.0).contains(&wait.as_secs_f64()), "{path}: {waits:?}");
        }
        let ids: std::collections::HashSet<_> = caught.iter().map(|it| &it.headers["x-insforge-message-id"]).collect();
        assert_eq!(ids.len(), 1, "a repetition is known by its id");
    }
}

#[tokio::test]
async fn answers_that_are_final_are_not_asked_for_again() {
    let catcher = Catcher::start().await;
    catcher.reply("/gone", &[Reply::Status(410)]);
    catcher.reply("/odd", &[Reply::Status(304)]);
    let stack = hooked(&[catcher.url("/gone"), catcher.url("/odd")]).start().await;
    publish(&stack, "room:1", "e", &json!({})).await;
    assert_eq!(
        outcome(&stack).await,
        ["failed 1 410 the receiver answered 410", "failed 1 304 the receiver answered 304"]
    );
}

#[tokio::test]
async fn a_setting_narrows_what_is_tried_again_to_the_network() {
    let catcher = Catcher::start().await;
    catcher.reply("/closed", &[Reply::Close, Reply::Status(200)]);
    catcher.reply("/error", &[Reply::Status(503), Reply::Status(200)]);
    let stack = hooked(&[catcher.url("/closed"), catcher.url("/error")])
        .set("REALTIME_WEBHOOKS_RETRY", "network")
        .set("REALTIME_WEBHOOKS_RETRY_MS", "10")
        .start()
        .await;
    publish(&stack, "room:1", "e", &json!({})).await;
    assert_eq!(outcome(&stack).await, ["delivered 2 200", "failed 1 503 the receiver answered 503"]);
}

#[tokio::test]
async fn if_33_a_request_has_ten_seconds() {
    let catcher = Catcher::start().await;
    catcher.reply("/", &[Reply::Hang]);
    let stack = hooked(&[catcher.url("/")]).set("REALTIME_WEBHOOKS_RETRIES_MAX", "0").start().await;
    let began = Instant::now();
    publish(&stack, "room:1", "e", &json!({})).await;
    assert_eq!(outcome(&stack).await, ["failed 1 no answer within 10000 ms"]);
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn if_34_a_hanging_webhook_delays_neither_sockets_nor_the_other_webhooks() {
    let catcher = Catcher::start().await;
    let hanging = Catcher::start().await;
    hanging.reply("/", &[Reply::Hang]);
    let stack = hooked(&[hanging.url("/"), catcher.url("/")]).start().await;
    let mut client = stack.native_as(ADA).await;
    client.subscribe("room:1").await;
    // More than places for one host: what is due for it must not stand in the others' way.
    for number in 0..40 {
        let began = Instant::now();
        publish(&stack, "room:1", "e", &json!({"n": number})).await;
        assert_eq!(client.event().await["payload"]["payload"]["n"], number);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    catcher.wait("/", 40).await;
    assert!(hanging.all().len() <= 8, "one host has its places and no more: {}", hanging.all().len());
    let running = async || (stack.sidecar.metric("realtime_webhooks_running").await == 8.0).then_some(());
    eventually("those that hang are counted", running).await;
    let pending = "select count(*) from realtime.webhook_deliveries where delivered_at is null";
    eventually("the others are recorded", async || (stack.text(pending).await == "40").then_some(())).await;
}

#[tokio::test]
async fn an_answer_without_end_is_an_answer() {
    let catcher = Catcher::start().await;
    catcher.reply("/", &[Reply::Endless]);
    let stack = hooked(&[catcher.url("/")]).start().await;
    publish(&stack, "room:1", "e", &json!({})).await;
    assert_eq!(outcome(&stack).await, ["delivered 1 200"]);
}

#[tokio::test]
async fn if_30_webhooks_are_counted() {
    let catcher = Catcher::start().await;
    let nobody = realtime_tests::port::free();
    let stack = hooked(&[catcher.url("/"), format!("http://127.0.0.1:{}/", nobody.port())])
        .set("REALTIME_WEBHOOKS_RETRY_MS", "10")
        .start()
        .await;
    publish(&stack, "room:1", "e", &json!({})).await;
    let counts = "select wh_audience_count || '/' || wh_delivered_count from realtime.messages";
    let states = outcome(&stack).await;
    assert!(states.iter().any(|it| it == "delivered 1 200"), "{states:?}");
    assert!(states.iter().any(|it| it.starts_with("failed 3") && it.contains("refused")), "{states:?}");
    eventually("two webhooks, one delivered", async || (stack.text(counts).await == "2/1").then_some(())).await;
    assert_eq!(stack.sidecar.metric("realtime_webhooks_total").await, 4.0);
}

#[tokio::test]
async fn each_request_is_signed_as_standard_webhooks_says_with_the_old_key_and_the_new() {
    let keys =
        ["whsec_bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleSE=", "whsec_b2xkLWtleS1vbGQta2V5LW9sZC1rZXktb2xkLWtleSE="];
    let catcher = Catcher::start().await;
    let stack = hooked(&[catcher.url("/")])
        .set("REALTIME_WEBHOOKS_SECRET", keys[0])
        .set("REALTIME_WEBHOOKS_PREVIOUS_SECRET", keys[1])
        .start()
        .await;
    let id = publish(&stack, "room:1", "e", &json!({"text": "für alle", "n": 1})).await;
    let caught = catcher.wait("/", 1).await.remove(0);
    assert_eq!(caught.headers["webhook-id"], id);
    let headers = standard_headers(&caught);
    for key in keys {
        let verifier = standardwebhooks::Webhook::new(key).unwrap();
        assert!(verifier.verify(caught.body.as_bytes(), &headers).is_ok(), "{headers:?}");
        assert!(verifier.verify(b"{}", &headers).is_err(), "another body");
    }
    let other = standardwebhooks::Webhook::new("whsec_bm9ib2R5cy1rZXktbm9ib2R5cy1rZXktbm9ib2R5cyE=").unwrap();
    assert!(other.verify(caught.body.as_bytes(), &headers).is_err(), "another key");
    assert!(!stack.sidecar.log().contains("bmV3LWtleS1"), "keys are not logged");
}

fn standard_headers(caught: &realtime_tests::Caught) -> http::HeaderMap {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    names.into_iter().map(|name| (http::HeaderName::from_static(name), caught.headers[name].parse().unwrap())).collect()
}

#[tokio::test]
async fn a_url_that_cannot_be_asked_costs_no_write_and_is_recorded() {
    let catcher = Catcher::start().await;
    let urls =
        ["ftp://example.com/".to_owned(), String::new(), "http://".to_owned(), catcher.url("/"), "nonsense".to_owned()];
    let stack = hooked(&urls).start().await;
    publish(&stack, "room:1", "e", &json!({})).await;
    let states = outcome(&stack).await;
    let failed = states.iter().filter(|it| *it == "failed 0 the url is no http or https address").count();
    assert_eq!((failed, states.len()), (4, 5), "{states:?}");
    assert!(states.contains(&"delivered 1 200".to_owned()), "{states:?}");
}

#[tokio::test]
async fn what_is_rolled_back_or_deleted_is_not_sent() {
    let catcher = Catcher::start().await;
    let stack = hooked(&[catcher.url("/")]).set("REALTIME_WEBHOOKS_ENABLED", "false").start().await;
    stack.exec("begin; select realtime.publish('room:1', 'lost', '{}'); rollback").await;
    publish(&stack, "room:1", "deleted", &json!({})).await;
    stack.exec("delete from realtime.messages").await;
    publish(&stack, "room:1", "kept", &json!({})).await;
    let Stack { mut sidecar, database, signer, proxy } = stack;
    sidecar.kill();
    sidecar.set("REALTIME_WEBHOOKS_ENABLED", "true");
    sidecar.start_again();
    let stack = Stack { sidecar, database, signer, proxy };
    let expected = ["failed 1 the message was deleted before it could be sent", "delivered 1 200"];
    assert_eq!(outcome(&stack).await, expected);
    assert_eq!(catcher.all().len(), 1);
}
