//! Tokens for development: what the owner of the key could sign anywhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::own_key;
use crate::config::AuthSettings;

/// What the token is to say.
#[derive(Clone, Debug)]
pub struct MintRequest {
    /// Who; `None` leaves `sub` out.
    pub sub: Option<String>,
    /// Which role.
    pub role: String,
    /// For how long.
    pub ttl: Duration,
    /// Further claims, last word.
    pub claims: Vec<(String, Value)>,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// Public keys cannot sign.
    #[error(
        "there is no key to sign with; set auth.signing_key_file (REALTIME_JWT_SIGNING_KEY_FILE) or \
         auth.jwt_secret (REALTIME_JWT_SECRET)"
    )]
    NoKey,
    /// The sidecar would refuse it.
    #[error("role {0} is not in auth.roles; the sidecar would refuse the token")]
    Role(String),
    /// Signing failed.
    #[error("the token cannot be signed")]
    Signing,
}

/// Signs a token so that this sidecar's settings accept it: with the signing key, without one with the shared secret.
///
/// # Errors
///
/// No key, or a role that would be refused.
pub fn mint(settings: &AuthSettings, request: MintRequest, now: SystemTime) -> Result<String, MintError> {
    if !settings.roles.contains(&request.role) {
        return Err(MintError::Role(request.role));
    }
    let claims = claims(settings, request, now);
    if let Some(key) = &settings.signing_key {
        return own_key::sign(key, &claims).map_err(|_| MintError::Signing);
    }
    let secret = settings.jwt_secret.as_ref().ok_or(MintError::NoKey)?;
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|_| MintError::Signing)
}

fn claims(settings: &AuthSettings, request: MintRequest, now: SystemTime) -> Map<String, Value> {
    let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut claims = Map::new();
    claims.extend(request.sub.map(|sub| ("sub".to_owned(), sub.into())));
    claims.insert(settings.role_claim.clone(), request.role.into());
    claims.insert("iat".to_owned(), now_s.into());
    claims.insert("exp".to_owned(), now_s.saturating_add(request.ttl.as_secs()).into());
    if !settings.issuer.is_empty() {
        claims.insert("iss".to_owned(), settings.issuer.clone().into());
    }
    if let Some(audience) = settings.audience.first() {
        claims.insert("aud".to_owned(), audience.clone().into());
    }
    claims.extend(request.claims);
    claims
}
