//! Who sends webhooks: one sidecar at a time, and the next one when it is gone.

use realtime_tests::{Catcher, Reply, Sidecar, Stack, Stop, eventually};
use rustix::process::Signal;

use crate::webhooks::{deliveries, hooked, outcome};

async fn second(stack: &Stack) -> Sidecar {
    let sidecar = Sidecar::start(&[
        ("REALTIME_DATABASE_URL".to_owned(), stack.sidecar_url(stack.server().port())),
        ("REALTIME_JWT_SECRET".to_owned(), stack.signer.secret().to_owned()),
        ("REALTIME_WEBHOOKS_ALLOW".to_owned(), "127.0.0.0/8".to_owned()),
    ]);
    sidecar.ready().await;
    sidecar
}

async fn is_sender(sidecar: &Sidecar) -> bool {
    sidecar.metric("realtime_webhook_sender").await == 1.0
}

async fn becomes_sender(sidecar: &Sidecar) {
    eventually("it is elected", async || is_sender(sidecar).await.then_some(())).await;
}

#[tokio::test]
async fn of_two_sidecars_one_sends() {
    let catcher = Catcher::start().await;
    let stack = hooked(&[catcher.url("/")]).start().await;
    becomes_sender(&stack.sidecar).await;
    let other = second(&stack).await;
    stack.exec("select realtime.publish('room:1', 'e', '{}') from generate_series(1, 50)").await;
    assert_eq!(outcome(&stack).await, vec!["delivered 1 200"; 50]);
    assert_eq!(catcher.all().len(), 50, "each once");
    assert!(is_sender(&stack.sidecar).await && !is_sender(&other).await);
}

#[tokio::test]
async fn when_the_sender_is_killed_the_other_goes_on_with_what_was_in_hand() {
    let catcher = Catcher::start().await;
    catcher.reply("/", &[Reply::Hang, Reply::Status(200)]);
    let mut stack = hooked(&[catcher.url("/")]).start().await;
    becomes_sender(&stack.sidecar).await;
    let other = second(&stack).await;
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    catcher.wait("/", 1).await;
    stack.sidecar.kill();
    catcher.wait("/", 2).await;
    assert!(is_sender(&other).await);
    assert_eq!(outcome(&stack).await, ["delivered 1 200"], "what had no answer was no attempt");
}

#[tokio::test]
async fn a_sender_that_stands_still_is_replaced() {
    let catcher = Catcher::start().await;
    let stack = hooked(&[catcher.url("/")]).set("REALTIME_WEBHOOKS_SILENCE_MS", "3000").start().await;
    becomes_sender(&stack.sidecar).await;
    let other = second(&stack).await;
    stack.sidecar.signal(Signal::STOP);
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    becomes_sender(&other).await;
    assert_eq!(outcome(&stack).await, ["delivered 1 200"]);
    stack.sidecar.signal(Signal::CONT);
    eventually("the first one sends no more", async || (!is_sender(&stack.sidecar).await).then_some(())).await;
    assert!(is_sender(&other).await);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_retries_forgets_nothing() {
    let catcher = Catcher::start().await;
    catcher.reply("/", &[Reply::Status(503), Reply::Status(503), Reply::Status(200)]);
    let mut stack = hooked(&[catcher.url("/")]).start().await;
    stack.exec("select realtime.publish('room:1', 'e', '{}')").await;
    for attempts in 1..=2 {
        let state = format!("pending {attempts} 503 the receiver answered 503");
        eventually(&state, async || (deliveries(&stack).await == [state.clone()]).then_some(())).await;
        if attempts == 1 {
            stack.sidecar.kill();
        } else {
            stack.sidecar.stop().await;
        }
        stack.sidecar.start_again();
    }
    assert_eq!(outcome(&stack).await, ["delivered 3 200"]);
    assert_eq!(catcher.all().len(), 3);
}

#[tokio::test]
async fn what_was_published_while_nobody_ran_is_sent() {
    let catcher = Catcher::start().await;
    let mut stack = hooked(&[catcher.url("/")]).start().await;
    assert!(stack.sidecar.stop().await.success());
    stack.exec("select realtime.publish('room:1', 'e', '{}') from generate_series(1, 100)").await;
    stack.sidecar.start_again();
    assert_eq!(outcome(&stack).await, vec!["delivered 1 200"; 100]);
}

#[tokio::test]
async fn a_database_that_restarts_loses_no_delivery() {
    let catcher = Catcher::start().await;
    let stack = hooked(&[catcher.url("/")]).own_server().start().await;
    for round in 0..3 {
        // A session of its own: the last one went with the server.
        let publish = "select realtime.publish('room:1', 'e', '{}') from generate_series(1, 20)";
        stack.session().await.batch_execute(publish).await.unwrap();
        stack.server().restart(if round == 1 { Stop::Immediate } else { Stop::Fast });
    }
    eventually("all are delivered", async || {
        let count = "select count(*) from realtime.webhook_deliveries where state = 'delivered'";
        (stack.try_exec("select 1").await.is_ok() && stack.text(count).await == "60").then_some(())
    })
    .await;
    let ids: std::collections::HashSet<_> =
        catcher.all().into_iter().map(|it| it.headers["x-insforge-message-id"].clone()).collect();
    assert_eq!(ids.len(), 60);
}
