//! Who is at the other end of a connection.

use std::{sync::Arc, time::SystemTime};

/// A verified identity: the role that the database assumes for it, and the claims that policies read.
///
/// Holding one is proof that a token was verified, or that anonymous callers are allowed. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The database role, from the allow-list.
    pub role: Arc<str>,
    /// All verified claims as JSON text, as `request.jwt.claims` gets them.
    pub claims: Arc<str>,
    /// The `sub` claim: who this is for limits and statistics. `None` for anonymous callers.
    pub user: Option<Arc<str>>,
    /// When the token ends, without leeway. `None` for anonymous callers.
    pub expires_at: Option<SystemTime>,
}
