//! Tokens for development: what the secret's owner could sign anywhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

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
    /// Only the shared secret can sign.
    #[error("there is no secret to sign with; set auth.jwt_secret or REALTIME_JWT_SECRET")]
    NoSecret,
    /// The sidecar would refuse it.
    #[error("role {0} is not in auth.roles; the sidecar would refuse the token")]
    Role(String),
    /// Signing failed.
    #[error("the token cannot be signed")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// Signs a token with the shared secret so that this sidecar's settings accept it.
///
/// # Errors
///
/// No secret, or a role that would be refused.
pub fn mint(settings: &AuthSettings, request: MintRequest, now: SystemTime) -> Result<String, MintError> {
    let secret = settings.jwt_secret.as_ref().ok_or(MintError::NoSecret)?;
    if !settings.roles.contains(&request.role) {
        return Err(MintError::Role(request.role));
    }
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(settings, request, now), &key)?)
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
