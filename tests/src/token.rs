//! Tokens, good and bad.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Signs tokens with a secret (HS256).
#[derive(Clone, Debug)]
pub struct Signer {
    secret: String,
}

impl Signer {
    /// A signer with a random secret.
    pub fn random() -> Self {
        Self { secret: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()) }
    }

    /// The secret, as the sidecar is told it.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// A token for a user with the role `authenticated`, good for an hour.
    pub fn user(&self, sub: &str) -> String {
        self.sign(&claims(sub))
    }

    /// A token with these claims, whatever they are.
    pub fn sign(&self, claims: &Value) -> String {
        sign_hs256(self.secret.as_bytes(), &json!({"alg": "HS256", "typ": "JWT"}), claims)
    }
}

/// Claims of a user with the role `authenticated`, good for an hour.
pub fn claims(sub: &str) -> Value {
    json!({"sub": sub, "role": "authenticated", "exp": in_seconds(3600)})
}

/// The time some seconds from now, in seconds since 1970, as tokens have it.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// A token with any header, signed with any bytes.
pub fn sign_hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let signed = unsigned(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", encode(tag.as_ref()))
}

/// Header and claims of a token, without the last dot and the signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

/// base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
