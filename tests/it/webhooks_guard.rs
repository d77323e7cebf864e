//! Where webhooks may not lead, whatever their urls say.

use realtime_tests::{Catcher, Reply, Stack};
use serde_json::Value;

use crate::fixtures::ROOMS;
use crate::webhooks::{hooked, outcome};

/// Ways to write addresses that only this machine or this network can reach.
const INSIDE: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "①②⑦.0.0.1",
    "user:password@127.0.0.1",
    "localhost",
    "LocalHost",
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "2852039166",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[2001:db8::1]",
];

#[tokio::test]
async fn no_way_to_write_an_inner_address_leads_there() {
    let catcher = Catcher::start().await;
    let urls: Vec<String> = INSIDE.iter().map(|host| format!("http://{host}:{}/", catcher.port())).collect();
    let urls = urls.iter().map(|url| format!("'{url}'")).collect::<Vec<_>>().join(", ");
    let stack = Stack::with(&format!("{ROOMS} update realtime.channels set webhook_urls = array[{urls}]")).await;
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    outcome(&stack).await;
    let rows = stack.rows("select url, state, attempts, last_error from realtime.webhook_deliveries").await;
    assert_eq!(rows.len(), INSIDE.len());
    for row in &rows {
        let error = row[3].clone().unwrap_or_default();
        assert!(error.contains("not a public address") && error.contains("webhooks.allow"), "{row:?}");
        assert_eq!((row[1].as_deref(), row[2].as_deref()), (Some("failed"), Some("1")), "tried once: {row:?}");
    }
    assert!(catcher.all().is_empty());
    assert!(!stack.sidecar.log().contains("password"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (catcher, inner) = (Catcher::start().await, Catcher::start().await);
    for status in [301, 302, 307, 308] {
        catcher.reply(&format!("/{status}"), &[Reply::Redirect(status, inner.url("/"))]);
    }
    let stack = hooked(&[301, 302, 307, 308].map(|status| catcher.url(&format!("/{status}")))).start().await;
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    let states = outcome(&stack).await;
    assert!(states.iter().all(|state| state.starts_with("failed 1 30")), "{states:?}");
    assert!(inner.all().is_empty());
}

#[tokio::test]
async fn a_proxy_of_the_environment_sees_nothing() {
    let (catcher, proxy) = (Catcher::start().await, Catcher::start().await);
    let stack = hooked(&[catcher.url("/")])
        .set("http_proxy", &proxy.url(""))
        .set("HTTP_PROXY", &proxy.url(""))
        .set("ALL_PROXY", &proxy.url(""))
        .start()
        .await;
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    assert_eq!(outcome(&stack).await, ["delivered 1 200"]);
    assert!(proxy.all().is_empty());
}

#[tokio::test]
async fn what_is_allowed_is_asked_and_passwords_go_to_the_receiver_alone() {
    let catcher = Catcher::start().await;
    let url = format!("http://ada:hunter2@localhost:{}/", catcher.port());
    let stack = hooked(&[url]).set("REALTIME_LOG", "debug").set("REALTIME_WEBHOOKS_RETRIES_MAX", "0").start().await;
    stack.exec(r#"select realtime.publish('room:1', 'e', '{"canary": "payload"}')"#).await;
    assert_eq!(outcome(&stack).await, ["delivered 1 200"]);
    let caught = catcher.all().remove(0);
    assert_eq!(caught.headers["authorization"], "Basic YWRhOmh1bnRlcjI=");
    assert_eq!(serde_json::from_str::<Value>(&caught.body).unwrap()["canary"], "payload");
    let nobody = format!("http://ada:hunter2@localhost:{}/", realtime_tests::port::free().port());
    stack.exec(&format!("update realtime.channels set webhook_urls = array['{nobody}']")).await;
    stack.exec("delete from realtime.webhook_deliveries; select realtime.publish('room:1', 'e', '{}')").await;
    let failed = outcome(&stack).await.remove(0);
    assert!(failed.starts_with("failed 1 ") && !failed.contains("hunter2"), "{failed}");
    let log = stack.sidecar.log();
    assert!(!log.contains("hunter2") && !log.contains("canary"), "{log}");
}
