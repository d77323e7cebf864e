//! Many clients, large transactions and long times. `make test` runs each in a short form, `make soak` in its long one.
//!
//! Every test prints its figures, one a line; the long forms are those that have `long_form` in their names.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod copy;
mod figures;
mod line;
mod room;
mod slow;
mod steady;
mod storm;

use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_come_back_at_once() {
    storm::run(1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs 20,000 file descriptors; `make soak` runs it"]
async fn ten_thousand_clients_come_back_at_once_long_form() {
    storm::run(10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_that_stops_reading_costs_the_others_nothing() {
    // Few events make a rough figure, on a machine that does other things too: the bar is that of the long form.
    slow::run(slow::Size { others: 50, rounds: 3, events: 60 }).await.judge(3.0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; `make soak` runs it"]
async fn one_client_of_a_thousand_that_stops_reading_costs_the_others_nothing_long_form() {
    slow::run(slow::Size { others: 1_000, rounds: 5, events: 200 }).await.judge(1.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_hears_over_each_protocol() {
    room::run(room::Size { clients: 300, rounds: 1, messages: 20 }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs 20,000 file descriptors and minutes; `make soak` runs it"]
async fn a_room_of_five_thousand_hears_over_each_protocol_long_form() {
    room::run(room::Size { clients: 5_000, rounds: 3, messages: 100 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_reaches_healthy_subscribers_and_closes_none() {
    copy::run(20_000, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour; `make soak` runs it"]
async fn a_copy_of_a_million_rows_reaches_a_hundred_subscribers_long_form() {
    copy::run(1_000_000, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_steady_load_nothing_grows() {
    steady::run(Duration::from_secs(24)).await;
}

/// An hour, or what `SOAK_SECONDS` says.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes an hour; `make soak` runs it"]
async fn under_an_hour_of_steady_load_nothing_grows_long_form() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(3_600, |text| text.parse().unwrap());
    steady::run(Duration::from_secs(seconds)).await;
}
