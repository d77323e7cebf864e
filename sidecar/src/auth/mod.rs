//! Who is asking, and what they may do.

mod error;
mod jwks;
mod keys;
mod members;
mod mint;
mod token;

#[cfg(test)]
mod tests;

pub use error::{AuthError, Reason, SetupError};
pub use jwks::Jwks;
pub use mint::{MintError, MintRequest, mint};
pub use token::Authenticator;
