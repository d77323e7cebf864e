//! Keys that sign tokens. Each has exactly one algorithm, fixed when it is read, never by a token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// Smallest RSA modulus that is accepted, in bytes.
const RSA_BYTES_MIN: usize = 256;
/// Size of a public key of Ed25519, in bytes.
const ED25519_BYTES: usize = 32;

/// A key, its algorithm and its name.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    decoding: DecodingKey,
}

impl Key {
    /// A shared secret.
    pub(super) fn hs256(secret: &[u8]) -> Self {
        Self { id: None, algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret) }
    }

    /// Whether `signature` (base64url) is this key's for `message`.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.decoding, self.algorithm).unwrap_or(false)
    }

    /// Whether a token names this very key, and its algorithm.
    pub(super) fn is_named(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        id.is_some() && self.answers(algorithm, id)
    }

    /// Whether a token that names this algorithm and key may be checked with it.
    fn answers(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.algorithm == algorithm && (id.is_none() || self.id.as_deref() == id)
    }
}

/// The algorithms that are spoken; anything else is refused before any key is looked at.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::HS256),
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

/// The key that a token means. Without a name the algorithm must leave no choice.
pub(super) fn choose<'a>(
    keys: impl Iterator<Item = &'a Key>,
    algorithm: Algorithm,
    id: Option<&str>,
) -> Option<&'a Key> {
    let mut candidates = keys.filter(|key| key.answers(algorithm, id));
    let first = candidates.next()?;
    let unique = id.is_some() || candidates.next().is_none();
    unique.then_some(first)
}

/// Reads a JSON Web Key Set and leaves out what cannot be used. `None`: it is not a key set.
pub(super) fn parse_set(bytes: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).ok()?;
    Some(set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).filter_map(WireKey::usable).collect())
}

/// A key as RFC 7517 writes it; what we do not need is not read.
#[derive(Deserialize)]
struct WireKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl WireKey {
    fn usable(self) -> Option<Key> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let (algorithm, decoding) = match self.kty.as_str() {
            "RSA" => (Algorithm::RS256, self.rsa()?),
            "EC" => (Algorithm::ES256, self.p256()?),
            "OKP" => (Algorithm::EdDSA, self.ed25519()?),
            // Shared secrets in a public set would let everybody sign.
            _ => return None,
        };
        let named = self.alg.as_deref().map(self::algorithm);
        let agrees = named.is_none_or(|named| named == Some(algorithm));
        agrees.then_some(Key { id: self.kid, algorithm, decoding })
    }

    fn rsa(&self) -> Option<DecodingKey> {
        let (modulus, exponent) = (self.n.as_deref()?, self.e.as_deref()?);
        let bytes = URL_SAFE_NO_PAD.decode(modulus).ok()?;
        let strong = bytes.iter().skip_while(|byte| **byte == 0).count() >= RSA_BYTES_MIN;
        strong.then(|| DecodingKey::from_rsa_components(modulus, exponent).ok()).flatten()
    }

    fn p256(&self) -> Option<DecodingKey> {
        if self.crv.as_deref() != Some("P-256") {
            return None;
        }
        DecodingKey::from_ec_components(self.x.as_deref()?, self.y.as_deref()?).ok()
    }

    fn ed25519(&self) -> Option<DecodingKey> {
        let x = self.x.as_deref().filter(|_| self.crv.as_deref() == Some("Ed25519"))?;
        let is_whole = URL_SAFE_NO_PAD.decode(x).is_ok_and(|bytes| bytes.len() == ED25519_BYTES);
        is_whole.then(|| DecodingKey::from_ed_components(x).ok()).flatten()
    }
}
