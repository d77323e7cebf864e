//! Our own key for tokens: what it signs, and the public half that everybody may fetch.

use aws_lc_rs::{
    digest::{SHA256, digest},
    error::Unspecified,
    rand::SystemRandom,
    signature::{KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::keys::{self, Key};
use crate::config::{AuthSettings, TokenKey, TokenKeyPair};

/// The set of public keys that our tokens can be verified with (RFC 7517), as JSON. Empty without a signing key.
#[must_use]
pub fn published(settings: &AuthSettings) -> String {
    let keys: Vec<Value> = settings.signing_key.iter().map(public_jwk).collect();
    json!({ "keys": keys }).to_string()
}

/// The key that verifies what the signing key has signed. Made of what is published, so that nobody trusts more or less.
pub(super) fn verifying(settings: &AuthSettings) -> Option<Key> {
    keys::parse_set(published(settings).as_bytes())?.into_iter().next()
}

/// Signs claims; the header names the key.
pub(super) fn sign(key: &TokenKey, claims: &Map<String, Value>) -> Result<String, Unspecified> {
    let header = json!({ "alg": algorithm(&key.pair), "kid": id(key), "typ": "JWT" });
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let claims = Value::Object(claims.clone()).to_string();
    let message = format!("{}.{}", part(header.to_string()), part(claims));
    let signature = signature(&key.pair, message.as_bytes())?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn signature(pair: &TokenKeyPair, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let random = SystemRandom::new();
    match pair {
        TokenKeyPair::Rsa(pair) => {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
        }
        TokenKeyPair::P256(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
        TokenKeyPair::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
    }
}

fn algorithm(pair: &TokenKeyPair) -> &'static str {
    match pair {
        TokenKeyPair::Rsa(_) => "RS256",
        TokenKeyPair::P256(_) => "ES256",
        TokenKeyPair::Ed25519(_) => "EdDSA",
    }
}

/// What RFC 7638 hashes: the members that make the key, without the private ones.
fn members(pair: &TokenKeyPair) -> Value {
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match pair {
        TokenKeyPair::Rsa(pair) => {
            let public = pair.public_key();
            let (n, e) = (public.modulus(), public.exponent());
            json!({ "e": number(e.big_endian_without_leading_zero()), "kty": "RSA",
                    "n": number(n.big_endian_without_leading_zero()) })
        }
        TokenKeyPair::P256(pair) => {
            // An uncompressed point: a tag, then two halves.
            let (x, y) = pair.public_key().as_ref()[1..].split_at(P256_BYTES);
            json!({ "crv": "P-256", "kty": "EC", "x": number(x), "y": number(y) })
        }
        TokenKeyPair::Ed25519(pair) => {
            json!({ "crv": "Ed25519", "kty": "OKP", "x": number(pair.public_key().as_ref()) })
        }
    }
}

/// Bytes of a coordinate on P-256.
const P256_BYTES: usize = 32;

fn id(key: &TokenKey) -> String {
    key.id.clone().unwrap_or_else(|| thumbprint(&members(&key.pair)))
}

/// RFC 7638: the hash of the members in the order of their names, without spaces.
fn thumbprint(members: &Value) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, members.to_string().as_bytes()))
}

fn public_jwk(key: &TokenKey) -> Value {
    let mut jwk = members(&key.pair);
    jwk["kid"] = id(key).into();
    jwk["alg"] = algorithm(&key.pair).into();
    jwk["use"] = "sig".into();
    jwk
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638, section 3.1.
    #[test]
    fn a_thumbprint_is_that_of_the_standard() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok\
                 njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6\
                 qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awa\
                 pJzKnqDKgw";
        let members = json!({ "e": "AQAB", "kty": "RSA", "n": n });
        assert_eq!(thumbprint(&members), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
