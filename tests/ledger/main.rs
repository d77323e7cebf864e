//! The ledger: what was written is counted against what was delivered.
//!
//! Writers make transactions of every shape and keep a book of them; readers read and resume as they like; processes
//! are killed. In the end every write that committed must have reached every reader exactly once, at one offset, in an
//! order that happened, and nothing else may have reached anybody.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod action;
mod book;
mod database;
mod event;
mod fault;
mod memory;
mod plan;
mod random;
mod reader;
mod recompute;
mod run;
mod stream;
mod trouble;
mod verdict;
mod writer;

use plan::Plan;

#[test]
fn under_faults_every_event_arrives_exactly_once() {
    run::run(Plan::under_faults());
}

#[test]
fn while_retention_moves_what_is_missing_is_said() {
    run::run(Plan::under_retention());
}
