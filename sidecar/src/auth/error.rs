//! Why a token was refused. Every text may be shown to the client: none quotes the token.

use std::path::PathBuf;

/// Why a caller has no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No token, and connections without one are not accepted.
    #[error("a token is required; give it as ?token= or in the Authorization header")]
    Missing,
    /// Nothing that this server could trust.
    #[error("the token is not valid: {0}")]
    Invalid(Reason),
    /// It was good once.
    #[error("the token has expired; get a new one")]
    Expired,
    /// No key of a server is called so.
    #[error("the API key is not known; compare it with the setting auth.keys")]
    UnknownApiKey,
    /// No key that browsers may have is called so.
    #[error("the anon key is not known; compare it with the setting auth.keys")]
    UnknownAnonymousKey,
    /// The role is not one that callers may have.
    #[error("the token names a role that is not accepted here")]
    UnknownRole,
}

/// What is wrong with an invalid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Not three parts of base64url, not JSON objects, or a name twice.
    #[error("it is not a signed JSON Web Token")]
    Malformed,
    /// The header asks for something that must be understood, and is not.
    #[error("its header asks for an extension")]
    Extension,
    /// No key of ours has this algorithm.
    #[error("its algorithm is not accepted")]
    Algorithm,
    /// The algorithm is right but no key has this name.
    #[error("its key is not known")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("its signature does not match")]
    Signature,
    /// `exp` is missing or not a number.
    #[error("it has no numeric exp")]
    NoExpiry,
    /// `nbf` is not a number or in the future.
    #[error("it is not valid yet")]
    NotYet,
    /// `iss` is not ours.
    #[error("its issuer is not accepted")]
    Issuer,
    /// `aud` does not name us.
    #[error("it is meant for another audience")]
    Audience,
    /// The role is no text, or there is none and no default.
    #[error("it has no role")]
    NoRole,
}

impl AuthError {
    /// One word for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid(_) => "invalid",
            Self::Expired => "expired",
            Self::UnknownApiKey => "api_key",
            Self::UnknownAnonymousKey => "anon_key",
            Self::UnknownRole => "unknown_role",
        }
    }
}

/// Why no authenticator could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The key set file cannot be read.
    #[error("{path} cannot be read; name a key set that this user may read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key set file holds no key that can be used.
    #[error("{path} is not a set of RS256, ES256 or EdDSA keys; write {{\"keys\": [...]}} as RFC 7517 has it")]
    NoKeys {
        /// The file.
        path: PathBuf,
    },
    /// What our own key signs could not be verified.
    #[error("auth.signing_key cannot be used to verify tokens; make a new one with openssl genpkey")]
    SigningKey,
    /// The HTTP client cannot be made.
    #[error("no HTTP client could be made to fetch keys")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_what_to_do() {
        assert_eq!(AuthError::Expired.to_string(), "the token has expired; get a new one");
        let error = AuthError::Invalid(Reason::Signature);
        assert_eq!(error.to_string(), "the token is not valid: its signature does not match");
    }
}
