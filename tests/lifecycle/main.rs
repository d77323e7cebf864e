//! What happens to a database over the years: dumps, restores, upgrades, failovers, and a schema that never rests.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod catalog;
mod contract;
mod ddl;
mod dump;
mod major;
mod people;
mod standby;
mod switches;
mod symbols;
mod upgrade;
mod waiting;
