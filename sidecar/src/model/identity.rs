//! Who is at the other end of a connection.

use std::{fmt, sync::Arc, time::SystemTime};

use serde_json::Value;

/// Claims that name the user, the first that is there.
pub const USER_CLAIMS: [&str; 3] = ["sub", "user_id", "uid"];

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

impl Party {
    /// Who this is for people, as [`Identity::user`]. It reads all of the claims: not for every event.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        let claims: serde_json::Map<String, Value> = serde_json::from_str(&self.claims).ok()?;
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            value => value.as_i64().map(|number| number.to_string()),
        };
        let mut named = USER_CLAIMS.iter().filter_map(|name| text(claims.get(*name)?));
        named.find(|text| !text.is_empty())
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Party").field(&self.role).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_is_called_by_the_first_claim_that_names_somebody() {
        let subject = |claims: &str| Party { role: "r".into(), claims: claims.into() }.subject();
        assert_eq!(subject(r#"{"sub": "ada", "uid": "x"}"#).as_deref(), Some("ada"));
        assert_eq!(subject(r#"{"sub": "", "user_id": 7}"#).as_deref(), Some("7"));
        assert_eq!(subject(r#"{"sub": {}, "role": "r"}"#), None);
        assert_eq!(subject("{}"), None);
    }
}
