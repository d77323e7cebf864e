//! The database: how it is reached, and one file per SQL call.

pub mod admin;
pub mod authorize;
mod backoff;
mod call;
mod connect;
pub mod count;
mod error;
pub mod explain;
pub mod judge;
pub mod listen;
pub mod log;
pub mod publish;
mod row;
pub mod snapshot;
mod tls;
pub mod webhook;

pub use backoff::{Backoff, random_fraction};
pub use call::Session;
pub use connect::{Client, Connection, Database, PooledClient};
pub use error::{Error, RoleFault};
pub use tls::TlsError;
