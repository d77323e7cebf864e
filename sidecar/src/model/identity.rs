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
    /// The `sub` claim: who this is for limits and statistics. `None` for those who showed no token.
    pub user: Option<Arc<str>>,
    /// When the token ends, without leeway. `None` for those who showed none.
    pub expires_at: Option<SystemTime>,
    /// What was shown.
    pub credential: Credential,
}

/// What somebody showed to be who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Nothing.
    Nothing,
    /// A key that every browser may have: it tells nobody from anybody.
    AnonymousKey,
    /// The key of a server.
    ApiKey,
    /// A token.
    Token,
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

    /// Whether this could be anybody, any number of times.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.credential, Credential::Nothing | Credential::AnonymousKey)
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Party").field(&self.role).finish()
    }
}
