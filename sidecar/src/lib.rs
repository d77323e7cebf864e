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
//! * [`check`] — database, rights and versions, before anything depends on them.
//! * [`error`] — why a command is refused and why a connection ends.
//! * [`protocol`] — frames to commands, events to frames; pure code, one folder per protocol.
//! * [`filter`] — which rows a subscription is about, answered as Postgres would; pure code.
//! * [`hub`] — who gets what: topics, the newest events, a bounded queue for each connection.
//! * [`court`] — tables whose policies decide: each event judged before anybody gets it.
//! * [`reader`], [`replay`] — the log into the hub; pages of it for those who come back.
//! * [`ticker`] — the worker's work where there is no worker.
//! * [`webhook`] — messages to the receivers that their channels name; [`counters`] — how many got which.
//! * [`connection`] — one task per socket: commands in, events out.
//! * [`demo`] — a page that shows it all, when asked for.
//! * [`transport`] — accepting connections, and the opening request.
//! * [`app`], [`tasks`] — builds everything once, in order; owns every task; stops in reverse order.

#![forbid(unsafe_code)]

pub mod app;
pub mod auth;
pub mod check;
pub mod config;
pub mod connection;
pub mod counters;
pub mod court;
pub mod demo;
pub mod denials;
pub mod error;
pub mod filter;
pub mod http;
pub mod hub;
pub mod metrics;
pub mod model;
pub mod postgres;
pub mod protocol;
mod quarantine;
pub mod reader;
pub mod replay;
pub mod tail;
pub mod tasks;
pub mod telemetry;
pub mod ticker;
pub mod transport;
pub mod webhook;
