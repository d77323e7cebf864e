//! The database: how it is reached, and one file per SQL call.

mod connect;
mod error;
mod tls;

pub use connect::{Client, Connection, Database, PooledClient};
pub use error::{Error, RoleFault};
pub use tls::TlsError;
