//! The ledger: what was written is counted against what was delivered.
//!
//! Writers make transactions of every shape and keep a book of them; readers read and resume as they like; processes
//! are killed. In the end every write that committed must have reached every reader exactly once, at one offset, in an
//! order that happened, and nothing else may have reached anybody.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod action;
mod book;
mod client;
mod count;
mod database;
mod deeds;
mod event;
mod fault;
mod memory;
mod plan;
mod reader;
mod recompute;
mod run;
mod sabotage;
mod seed;
mod stream;
mod trouble;
mod verdict;
mod writer;

use plan::{Campaign, Plan};
use realtime_tests::random;

#[test]
fn under_faults_every_event_arrives_exactly_once() {
    assert!(run::run(Plan::under_faults()).is_clean(), "not every count is zero");
}

#[test]
fn while_retention_moves_what_is_missing_is_said() {
    assert!(run::run(Plan::under_retention()).is_clean(), "not every count is zero");
}

#[test]
fn at_the_cap_what_is_not_written_is_said() {
    assert!(run::run(Plan::at_the_cap()).is_clean(), "not every count is zero");
}

/// The long form, for `make chaos`.
#[test]
#[ignore = "takes half an hour; `make chaos` runs it"]
fn a_hundred_faults_of_each_kind_cost_no_event() {
    let campaign = Campaign::whole();
    let (deeds, verdict) = run::campaign(&campaign);
    assert!(verdict.is_clean(), "not every count is zero");
    assert_eq!(deeds.missing(&campaign), [""; 0], "less was done than the figures are for");
    assert!(deeds.get("segments_given_back") > 0, "retention did nothing");
}

#[test]
fn a_log_in_the_wrong_order_is_found_out() {
    let verdict = run::run(Plan::sabotaged(sabotage::ORDER_BY_XID));
    assert!(verdict.causal.number > 0 && verdict.reordered.number > 0 && verdict.wrong_order.number > 0);
    assert_eq!(verdict.lost.number, 0);
}

#[test]
fn a_log_that_forgets_is_found_out() {
    let verdict = run::run(Plan::sabotaged(sabotage::FORGET_LATE_COMMITS));
    assert!(verdict.lost.number > 0 && verdict.silent_gap.number > 0);
    assert_eq!(verdict.invented.number, 0);
}
