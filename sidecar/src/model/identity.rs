//! Who is at the other end of a connection.

use std::{fmt, sync::Arc, time::SystemTime};

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

/// An identity as policies see it: those who are alike to them are one party, and are judged once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Party {
    /// The role to assume.
    pub role: Arc<str>,
    /// The claims that policies read. Never logged.
    pub claims: Arc<str>,
}

impl Identity {
    /// Who this is to policies.
    #[must_use]
    pub fn party(&self) -> Party {
        Party { role: Arc::clone(&self.role), claims: Arc::clone(&self.claims) }
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Party").field(&self.role).finish()
    }
}
