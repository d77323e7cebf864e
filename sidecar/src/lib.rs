//! The sidecar: reads the database's log and delivers every event to the sockets that may see it.
//!
//! Imports go one way: `model ← protocol ← hub ← connection ← transport/http ← app`; `auth`, `postgres` and `reader`
//! see `model` and `hub` only.
//!
//! * [`model`] — the words of the domain; no protocol and no database has touched them.

#![forbid(unsafe_code)]

pub mod model;
