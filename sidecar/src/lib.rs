//! The sidecar: reads the database's log and delivers every event to the sockets that may see it.
//!
//! Imports go one way: `model ← protocol ← hub ← connection ← transport/http ← app`; `auth`, `postgres` and `reader`
//! see `model` and `hub` only.
//!
//! * [`model`] — the words of the domain; no protocol and no database has touched them.
//! * [`config`] — every setting, checked; all faults at once.
//! * [`auth`] — who is asking.
//! * [`postgres`] — the way to the database, one file per SQL call.
//! * [`metrics`], [`telemetry`] — what is counted and what is logged.
//! * [`http`] — life signs, statistics and the admin address.
//! * [`error`] — why a command is refused and why a connection ends.
//! * [`protocol`] — frames to commands, events to frames; pure code, one folder per protocol.
//! * [`hub`] — who gets what: topics, the newest events, a bounded queue for each connection.
//! * [`transport`] — sockets: accepting, the opening request, frames.

#![forbid(unsafe_code)]

pub mod auth;
pub mod config;
pub mod error;
pub mod hub;
pub mod http;
pub mod metrics;
pub mod model;
pub mod postgres;
pub mod telemetry;
pub mod protocol;
pub mod transport;
