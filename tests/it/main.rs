//! The product from outside, one module per behaviour.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod abuse;
mod abuse_of_server;
mod abuse_of_server_disk;
mod clock;
mod columns;
mod commands;
mod connecting;
mod docs;
mod filter_oracle;
mod filters;
mod fixtures;
mod fold;
mod gaps;
mod identity;
mod insforge;
mod judge_attacks;
mod keys;
mod large;
mod limits;
mod log_rules;
mod messages;
mod outage;
mod policies;
mod publications;
mod readers;
mod resume;
mod row_level_security;
mod row_level_security_changes;
mod rows;
mod schema_changes;
mod seed;
mod snapshot;
mod tidy;
mod unseen;
mod values;
