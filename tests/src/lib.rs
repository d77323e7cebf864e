//! The stack that the end-to-end tests start: a private Postgres with the extension, a real sidecar, real sockets.
//!
//! ```no_run
//! # async fn example() {
//! use realtime_tests::Stack;
//!
//! let stack = Stack::start().await;
//! stack.exec("create table t (id int primary key); select realtime.enable_realtime('t'); grant select on t to anon").await;
//! let mut client = stack.native().await;
//! client.subscribe("table:t").await;
//! stack.exec("insert into t values (1)").await;
//! assert_eq!(client.event().await["payload"]["record"]["id"], 1);
//! # }
//! ```
//!
//! * [`stack`]: [`Stack`] and its [`Builder`]: what most tests need.
//! * [`server`]: a Postgres server of this process; most tests share one and have a [`database`] each.
//! * [`sidecar`]: the sidecar's process: start, ask, stop, kill.
//! * [`client`]: a WebSocket client that checks every frame against the protocol's schemas and rules.
//! * [`packets`]: a client of Socket.IO.
//! * [`plain`]: one that checks nothing, for load and faults.
//! * [`polling`]: one of Socket.IO over HTTP requests.
//! * [`frame`], [`schema`]: what the client receives, and `docs/protocol/*.schema.json`.
//! * [`token`]: tokens, good and bad.
//! * [`proxy`]: a TCP proxy that cuts, freezes or slows connections.
//! * [`quota`]: a small disk.
//! * [`http`]: one HTTP request; [`catcher`]: a server that catches them.
//! * [`wait`]: waiting for a condition, never for a time.
//! * [`port`]: free ports.
//! * [`random`]: random numbers that a printed seed brings back.
//!
//! A step that fails panics: it is a failed test. Everything that was started ends when its value is dropped, and when
//! the test process ends in any other way.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![forbid(unsafe_code)]

pub mod catcher;
pub mod client;
pub mod database;
pub mod frame;
pub mod http;
pub mod packets;
pub mod plain;
pub mod polling;
pub mod port;
pub mod proxy;
pub mod quota;
pub mod random;
pub mod schema;
pub mod server;
pub mod sidecar;
pub mod stack;
pub mod token;
pub mod wait;

pub use catcher::{Catcher, Caught, Reply};
pub use client::{Client, Closed, Connect, Dialect, Refusal};
pub use database::Database;
pub use frame::Frame;
pub use packets::PacketClient;
pub use plain::PlainClient;
pub use polling::PollingClient;
pub use proxy::{Mode, Proxy};
pub use quota::SmallDisk;
pub use server::Server;
pub use sidecar::Sidecar;
pub use stack::{Builder, Stack};
pub use token::Signer;
pub use wait::{PATIENCE, eventually, within};
pub use xtask::cluster::Stop;
