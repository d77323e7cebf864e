//! Who is asking, and what they may do.

mod api_keys;
mod authorizer;
mod error;
mod jwks;
mod keys;
mod lane;
mod members;
mod mint;
mod own_key;
mod token;

#[cfg(test)]
mod tests;

pub use authorizer::{Authorizer, GrantError, Watch};
pub use error::{AuthError, Reason, SetupError};
pub use jwks::Jwks;
pub use mint::{MintError, MintRequest, mint};
pub use own_key::published;
pub use token::{Authenticator, claims_in_force};
