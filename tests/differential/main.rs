//! Verdicts compared with Postgres' own: random tables, types, policies, roles, claims and rows.
//!
//! The verdict of `realtime.judge()` on a row image must be what `select … where id = …` gives as that identity while the
//! row is as the image says. A statement that fails shows no row, so a failure counts as invisible on both sides.
//! An image may lack a column that came after it; when the rows were written anew since, only they know what they have in
//! it. There the judge may refuse, and only with the code that says so. It may never guess.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod answer;
mod case;
mod count;
mod expression;
mod identity;
mod judge;
mod oracle;
mod plan;
mod rights;
mod run;
mod table;
mod types;
mod world;

use plan::{Plan, Sabotage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_are_those_of_postgres() {
    let plan = Plan::of_environment();
    let one_case = plan.case.is_some();
    let count = run::run(plan).await;
    assert_eq!(count.wrong, 0, "verdicts differ from Postgres' own");
    assert_eq!(count.seats_wrong, 0, "who is seated is judged otherwise than who is named");
    if one_case {
        return;
    }
    assert!(count.visible * 10 > count.cells && count.visible * 10 < count.cells * 9, "the cases say little");
    assert!(count.undefined * 200 < count.cells, "too much is left undefined");
    assert!(count.unknown * 200 < count.cells, "too much is left unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_s_verdicts_are_found_out() {
    assert!(run::run(Plan::sabotaged(Sabotage::OtherIdentity)).await.wrong > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_on_the_wrong_image_are_found_out() {
    assert!(run::run(Plan::sabotaged(Sabotage::SwapImages)).await.wrong > 0);
}
