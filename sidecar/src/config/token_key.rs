//! The private key that signs tokens: read from PEM, and useless for anything else.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use secrecy::ExposeSecret;

use super::values::Values;

/// The setting; the one of its file is called so too, and `_file`.
const KEY: &str = "auth.signing_key";
/// A longer name of a key is a mistake, and every token carries it.
const ID_BYTES_MAX: usize = 255;
/// How a key is made that is accepted.
const REMEDY: &str = "make a new one: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 (or -algorithm EC \
                      -pkeyopt ec_paramgen_curve:P-256, or -algorithm ED25519)";
/// How a key in one of the older forms, or one with a password, becomes one.
const REMEDY_FORM: &str = "convert it: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW";

/// A private key that signs tokens. Never shown.
#[derive(Clone)]
pub struct TokenKey {
    /// The name that its tokens carry; `None`: its thumbprint.
    pub id: Option<String>,
    /// The key itself, which is shared by its copies.
    pub pair: Arc<TokenKeyPair>,
}

/// The kinds of keys, each with the one algorithm that it is used for.
pub enum TokenKeyPair {
    /// RS256.
    Rsa(rsa::KeyPair),
    /// ES256.
    P256(EcdsaKeyPair),
    /// `EdDSA`.
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The key of the settings, when there is one.
pub(super) fn token_key(values: &mut Values) -> Option<TokenKey> {
    let id = key_id(values);
    let Some(pem) = values.secret(KEY) else {
        if id.is_some() && !values.is_given(&values.secret_setting(KEY)) {
            values.fault("auth.signing_key_id", "there is no key of this name", format!("set {KEY}_file, or unset it"));
        }
        return None;
    };
    match pair(pem.expose_secret()) {
        Ok(pair) => Some(TokenKey { id, pair: Arc::new(pair) }),
        Err((what, remedy)) => {
            let setting = values.secret_setting(KEY);
            values.fault(&setting, what, remedy);
            None
        }
    }
}

fn key_id(values: &mut Values) -> Option<String> {
    let id = Some(values.text("auth.signing_key_id")).filter(|id| !id.is_empty())?;
    if id.len() > ID_BYTES_MAX || id.contains(char::is_control) {
        let what = format!("it has more than {ID_BYTES_MAX} bytes or control characters");
        values.fault("auth.signing_key_id", what, "give a short name, or none: then it is the key's thumbprint");
    }
    Some(id)
}

/// Reads a key, or says what is wrong and what to do. Nothing of it is quoted.
fn pair(pem: &str) -> Result<TokenKeyPair, (&'static str, &'static str)> {
    const NO_KEY: &str = "it holds no private key in PEM (PKCS#8, `BEGIN PRIVATE KEY`)";
    if ["RSA PRIVATE", "EC PRIVATE", "ENCRYPTED PRIVATE"].iter().any(|kind| pem.contains(&format!("BEGIN {kind} KEY")))
    {
        return Err(("it is a private key, but not PKCS#8 without a password (`BEGIN PRIVATE KEY`)", REMEDY_FORM));
    }
    let mut keys = PrivatePkcs8KeyDer::pem_slice_iter(pem.as_bytes());
    let Some(Ok(der)) = keys.next() else {
        return Err((NO_KEY, REMEDY));
    };
    if keys.next().is_some() {
        return Err(("it holds more than one private key", "keep the one that signs; list others in auth.jwks_file"));
    }
    let der = der.secret_pkcs8_der();
    let rsa = || rsa::KeyPair::from_pkcs8(der).map(TokenKeyPair::Rsa);
    let p256 = || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(TokenKeyPair::P256);
    let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(TokenKeyPair::Ed25519);
    let known = rsa().or_else(|_| p256()).or_else(|_| ed25519());
    known.map_err(|_| ("it is neither RSA of 2048 to 8192 bits, nor on the curve P-256, nor Ed25519", REMEDY))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer, Pkcs8V1Der},
        rand::SystemRandom,
        signature::ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;
    use crate::config::{Config, Sources};

    fn pem(kind: &str, der: &[u8]) -> String {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", BASE64_STANDARD.encode(der))
    }

    fn rsa() -> String {
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        pem("PRIVATE KEY", AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref())
    }

    fn faults(flags: &[(&str, &str)]) -> Vec<String> {
        let flags = flags.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let loaded = Config::load_auth(&Sources { flags, ..Sources::default() });
        loaded.map_or_else(|faults| faults.0.iter().map(ToString::to_string).collect(), |_| Vec::new())
    }

    #[test]
    fn each_kind_is_read_and_never_shown() {
        let random = SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let (v1, v2) = (Ed25519KeyPair::generate_pkcs8v1(&random), Ed25519KeyPair::generate_pkcs8(&random));
        for der in [p256.as_ref(), v1.unwrap().as_ref(), v2.unwrap().as_ref()] {
            assert!(pair(&pem("PRIVATE KEY", der)).is_ok());
        }
        let text = rsa();
        let key = TokenKey { id: Some("one".to_owned()), pair: Arc::new(pair(&text).ok().unwrap()) };
        assert!(matches!(*key.pair, TokenKeyPair::Rsa(_)));
        assert_eq!(format!("{key:?}"), r#"TokenKey { id: Some("one"), .. }"#);
    }

    #[test]
    fn what_is_no_such_key_is_a_fault_with_a_remedy() {
        let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let good = rsa();
        for (text, told) in [
            ("hidden", "openssl genpkey"),
            (&*pem("PRIVATE KEY", b"hidden"), "neither RSA"),
            (&pem("PRIVATE KEY", p384.as_ref()), "neither RSA"),
            (&pem("PUBLIC KEY", b"hidden"), "openssl genpkey"),
            (&pem("RSA PRIVATE KEY", b"hidden"), "openssl pkcs8"),
            (&pem("EC PRIVATE KEY", b"hidden"), "openssl pkcs8"),
            (&pem("ENCRYPTED PRIVATE KEY", b"hidden"), "openssl pkcs8"),
            (&good[..good.len() - 30], "no private key in PEM"),
            (&good.repeat(2), "more than one"),
        ] {
            let faults = faults(&[("auth.signing_key", text)]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with("auth.signing_key (") && faults[0].contains(told), "{told}: {faults:?}");
            assert!(!faults[0].contains("hidden"), "{faults:?}");
        }
    }

    #[test]
    fn the_file_is_named_and_so_is_a_name_without_a_key() {
        let faults = faults(&[("auth.signing_key_file", "/nowhere/key.pem"), ("auth.signing_key_id", "one")]);
        assert!(faults.len() == 1 && faults[0].starts_with("auth.signing_key_file"), "{faults:?}");
        let alone = self::faults(&[("auth.signing_key_id", "one")]);
        assert!(alone.len() == 1 && alone[0].contains("no key of this name"), "{alone:?}");
        let long = self::faults(&[("auth.signing_key", &rsa()), ("auth.signing_key_id", &"x".repeat(256))]);
        assert!(long.len() == 1 && long[0].starts_with("auth.signing_key_id"), "{long:?}");
    }
}
