//! The plain HTTP side: life signs, statistics, metrics, public keys, and the API.
//!
//! Only the API asks the database: `/ping` answers whatever happens, the rest tells what is known.

mod admin;
mod api;
mod guard;
mod keys;
mod public;

#[cfg(test)]
mod tests;

pub use admin::admin_router;
pub use api::{Api, api_router};
pub use keys::keys_router;
pub use public::{HttpState, public_router};
