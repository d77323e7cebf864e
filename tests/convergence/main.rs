//! Everybody's picture of a table, folded from a snapshot and events, is what their own SELECT shows, at every quiet
//! point: whatever several writers and their triggers do, whoever looks, and however often they leave and come back.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod run;
mod state;
mod subscriber;
mod world;
mod writer;

use run::Plan;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_picture_is_what_a_select_shows() {
    assert_eq!(run::run(Plan::of_environment()).await, 0, "pictures differ from what SELECT shows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_picture_is_found_out() {
    let plan = Plan { rounds: 2, is_sabotaged: true, ..Plan::of_environment() };
    assert!(run::run(plan).await > 0);
}
