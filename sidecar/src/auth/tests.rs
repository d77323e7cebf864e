//! Attacks on tokens, and what good ones become. The time is fixed, the keys are real.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

use super::{AuthError, Authenticator, MintRequest, Reason, mint, published};
use crate::config::{AuthSettings, Config, Sources};

const SECRET: &str = "a secret for tests that is longer than 32 bytes";
const NOW_S: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW_S)
}

fn settings(flags: &[(&str, &str)]) -> AuthSettings {
    let secret = [("auth.jwt_secret", SECRET)];
    let flags = secret.iter().chain(flags).map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    Config::load_auth(&Sources { flags, ..Sources::default() }).unwrap()
}

fn authenticator(flags: &[(&str, &str)]) -> Authenticator {
    Authenticator::new(&settings(flags)).unwrap()
}

fn part(text: &str) -> String {
    BASE64.encode(text)
}

fn hs256(key: &[u8], header: &str, payload: &str) -> String {
    let message = format!("{}.{}", part(header), part(payload));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes());
    format!("{message}.{}", BASE64.encode(signature))
}

fn good_claims() -> Value {
    json!({ "sub": "alice", "role": "authenticated", "exp": NOW_S + 60 })
}

fn signed(claims: &Value) -> String {
    hs256(SECRET.as_bytes(), r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

/// The good claims with one member set, or taken out by `null`.
fn with(name: &str, value: Value) -> String {
    let mut claims = good_claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    signed(&claims)
}

/// An RSA and a P-256 key, with the set that publishes them.
struct Keys {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

impl Keys {
    fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        Self { rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), ec }
    }

    fn set(&self) -> Value {
        let public = self.rsa.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        // Uncompressed point: a tag, x, y.
        let point = self.ec.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256",
              "n": BASE64.encode(n.big_endian_without_leading_zero()),
              "e": BASE64.encode(e.big_endian_without_leading_zero()) },
            { "kty": "EC", "kid": "e", "crv": "P-256",
              "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..]) },
            { "kty": "oct", "kid": "o", "k": BASE64.encode(SECRET) },
            { "kty": "RSA", "kid": "other-use", "use": "enc", "n": "AQAB", "e": "AQAB" },
            { "kty": "weird" },
        ]})
    }

    fn rs256(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", part(header), part(payload));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", BASE64.encode(signature))
    }

    fn es256(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", part(header), part(payload));
        let signature = self.ec.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64.encode(signature))
    }
}

/// A file that is gone when the test ends.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("realtime-test-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_good_token_becomes_role_claims_and_user() {
    let payload =
        format!(r#"{{"sub":"alice","role":"authenticated","exp":{},"org":12345678901234567890}}"#, NOW_S + 60);
    let token = hs256(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, &payload);
    let identity = authenticator(&[]).identify(Some(&token), now()).unwrap();
    assert_eq!(&*identity.role, "authenticated");
    assert_eq!(identity.user.as_deref(), Some("alice"));
    assert_eq!(identity.expires_at, Some(now() + Duration::from_secs(60)));
    assert!(identity.claims.contains(r#""org":12345678901234567890"#), "{}", identity.claims);
}

#[test]
fn no_token_is_the_anonymous_role_or_refused() {
    let anonymous = authenticator(&[]);
    for token in [None, Some("")] {
        let identity = anonymous.identify(token, now()).unwrap();
        assert_eq!((&*identity.role, &*identity.claims), ("anon", r#"{"role":"anon"}"#));
        assert_eq!((identity.user, identity.expires_at), (None, None));
    }
    assert_eq!(authenticator(&[("auth.anonymous_role", "")]).identify(None, now()), Err(AuthError::Missing));
}

#[test]
fn the_role_comes_from_its_claim_through_the_list() {
    let role = |flags: &[(&str, &str)], token: &str| {
        authenticator(flags).identify(Some(token), now()).map(|identity| (identity.role.to_string(), identity.claims))
    };
    let (name, claims) = role(&[], &with("role", Value::Null)).unwrap();
    assert_eq!(name, "authenticated");
    assert!(claims.ends_with(r#""role":"authenticated"}"#), "{claims}");
    assert_eq!(role(&[], &with("role", json!("postgres"))), Err(AuthError::UnknownRole));
    assert_eq!(role(&[], &with("role", json!(""))), Err(AuthError::UnknownRole));
    assert_eq!(role(&[], &with("role", json!(["anon"]))), Err(AuthError::Invalid(Reason::NoRole)));
    let no_default = [("auth.default_role", "")];
    assert_eq!(role(&no_default, &with("role", Value::Null)), Err(AuthError::Invalid(Reason::NoRole)));
    // With another claim in force, what stands in `role` must not reach the policies.
    let own_claim = [("auth.role_claim", "app_role")];
    let (name, claims) = role(&own_claim, &with("app_role", json!("service_role"))).unwrap();
    assert_eq!(name, "service_role");
    assert!(claims.contains(r#""role":"service_role""#) && !claims.contains(r#""role":"authenticated""#), "{claims}");
}

#[test]
fn users_are_found_under_the_names_that_issuers_use() {
    let user = |claims: Value| {
        let token = signed(&claims);
        authenticator(&[]).identify(Some(&token), now()).unwrap().user.map(|user| user.to_string())
    };
    let exp = NOW_S + 60;
    assert_eq!(user(json!({ "exp": exp, "user_id": "u1", "uid": "u2" })), Some("u1".to_owned()));
    assert_eq!(user(json!({ "exp": exp, "uid": 42 })), Some("42".to_owned()));
    assert_eq!(user(json!({ "exp": exp, "sub": "" })), None);
    assert_eq!(user(json!({ "exp": exp, "sub": {} })), None);
}

#[test]
fn times_are_judged_with_leeway() {
    let authenticator = authenticator(&[("auth.leeway_s", "10")]);
    let at = |name: &str, seconds: i64| {
        let time = i64::try_from(NOW_S).unwrap() + seconds;
        authenticator.identify(Some(&with(name, json!(time))), now()).map(drop)
    };
    assert_eq!(at("exp", -9), Ok(()));
    assert_eq!(at("exp", -10), Err(AuthError::Expired));
    assert_eq!(at("nbf", 10), Ok(()));
    assert_eq!(at("nbf", 11), Err(AuthError::Invalid(Reason::NotYet)));
    for far in [json!(1e300), json!(9_007_199_254_740_993_u64), json!(u64::MAX)] {
        assert!(authenticator.identify(Some(&with("exp", far)), now()).is_ok());
    }
}

#[test]
fn issuer_and_audience_are_judged_when_they_are_set() {
    let authenticator = authenticator(&[("auth.issuer", "https://id"), ("auth.audience", "rt,other")]);
    let judge = |iss: Value, aud: Value| {
        let mut claims = good_claims();
        claims["iss"] = iss;
        claims["aud"] = aud;
        authenticator.identify(Some(&signed(&claims)), now()).map(drop)
    };
    assert_eq!(judge(json!("https://id"), json!("rt")), Ok(()));
    assert_eq!(judge(json!("https://id"), json!(["x", "other"])), Ok(()));
    for iss in [json!("https://id/"), json!(["https://id"]), json!(null), json!("")] {
        assert_eq!(judge(iss, json!("rt")), Err(AuthError::Invalid(Reason::Issuer)));
    }
    for aud in [json!("rt2"), json!([]), json!(null), json!(["x"]), json!([["rt"]]), json!({ "rt": 1 })] {
        assert_eq!(judge(json!("https://id"), aud), Err(AuthError::Invalid(Reason::Audience)));
    }
}

/// Tokens that a server with the secret alone must refuse.
fn forged_without_keys() -> Vec<(&'static str, String)> {
    let good = signed(&good_claims());
    let payload = good_claims().to_string();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let header = |header: &str| hs256(SECRET.as_bytes(), header, &payload);
    let unsigned = |header: &str| format!("{}.{}.", part(header), part(&payload));
    let sign = |payload: &str| hs256(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, payload);
    let mut forged = vec![
        ("empty signature", format!("{message}.")),
        ("no signature", message.to_owned()),
        ("two parts more", format!("{good}.{signature}.x")),
        ("cut signature", good[..good.len() - 2].to_owned()),
        ("padded signature", format!("{good}=")),
        ("another secret", hs256(b"another secret of forty bytes or thereabouts", r#"{"alg":"HS256"}"#, &payload)),
        ("empty secret", hs256(b"", r#"{"alg":"HS256"}"#, &payload)),
        (
            "payload swapped",
            format!("{}.{}.{signature}", message.split('.').next().unwrap(), part("{\"role\":\"anon\"}")),
        ),
        ("no alg", header("{}")),
        ("alg is a number", header(r#"{"alg":256}"#)),
        ("alg is a list", header(r#"{"alg":["HS256"]}"#)),
        ("alg twice", header(r#"{"alg":"none","alg":"HS256"}"#)),
        ("alg in lower case", header(r#"{"alg":"hs256"}"#)),
        ("HS384 named", header(r#"{"alg":"HS384"}"#)),
        ("HS512 named", header(r#"{"alg":"HS512"}"#)),
        ("RS256 without keys", header(r#"{"alg":"RS256"}"#)),
        ("ES256 without keys", header(r#"{"alg":"ES256"}"#)),
        ("crit", header(r#"{"alg":"HS256","crit":["exp"]}"#)),
        ("empty crit", header(r#"{"alg":"HS256","crit":[]}"#)),
        ("crit null", header(r#"{"alg":"HS256","crit":null}"#)),
        ("b64 false", header(r#"{"alg":"HS256","b64":false}"#)),
        ("b64 and crit", header(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#)),
        ("kid is a number", header(r#"{"alg":"HS256","kid":1}"#)),
        ("nested token", sign(&good)),
        ("nested in quotes", sign(&format!("\"{good}\""))),
        ("payload is a list", sign("[]")),
        ("payload is null", sign("null")),
        ("payload is empty", sign("")),
        ("claims twice", sign(&format!(r#"{{"exp":{0},"role":"anon","role":"service_role"}}"#, NOW_S + 60))),
        ("huge", sign(&json!({ "exp": NOW_S + 60, "x": "y".repeat(20_000) }).to_string())),
        ("not base64", "a+b.c/d.e=f".to_owned()),
        ("only points", "..".to_owned()),
        ("garbage", "garbage".to_owned()),
        ("JSON serialization", json!({ "payload": part(&payload), "signature": signature }).to_string()),
        ("with a space", format!(" {good}")),
    ];
    for none in ["none", "None", "NONE", "nOnE", ""] {
        forged.push(("alg none", unsigned(&format!(r#"{{"alg":"{none}"}}"#))));
        forged.push(("alg none, signed", header(&format!(r#"{{"alg":"{none}"}}"#))));
    }
    for exp in [json!("1900000000"), json!(true), json!([NOW_S + 60]), json!({}), Value::Null] {
        forged.push(("exp of another type", with("exp", exp)));
    }
    forged.push(("exp null", sign(r#"{"role":"anon","exp":null}"#)));
    for exp in [json!(0), json!(-1), json!(NOW_S - 3600), json!(-1e300)] {
        forged.push(("exp in the past", with("exp", exp)));
    }
    for nbf in [json!(NOW_S + 3600), json!("0"), json!(false), json!([])] {
        forged.push(("nbf", with("nbf", nbf)));
    }
    for role in ["postgres", "Anon", "anon ", "none", "authenticated\0", "supabase_admin"] {
        forged.push(("unknown role", with("role", json!(role))));
    }
    forged
}

/// Tokens that a server with public keys and a secret must refuse as well.
fn forged_with_keys(keys: &Keys) -> Vec<(&'static str, String)> {
    let payload = good_claims().to_string();
    let public = keys.rsa.public_key();
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(public).unwrap();
    let body = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let jwk = keys.set()["keys"][0].to_string();
    let stranger = Keys::new();
    let embedded = json!({ "alg": "RS256", "jwk": stranger.set()["keys"][0] }).to_string();
    let jku = r#"{"alg":"RS256","kid":"x","jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/"}"#;
    vec![
        ("HS256 with the public key", hs256(public.as_ref(), r#"{"alg":"HS256","kid":"r"}"#, &payload)),
        ("HS256 with its DER", hs256(der.as_ref(), r#"{"alg":"HS256","kid":"r"}"#, &payload)),
        ("HS256 with its PEM", hs256(pem.as_bytes(), r#"{"alg":"HS256","kid":"r"}"#, &payload)),
        ("HS256 with the cut PEM", hs256(pem.trim_end().as_bytes(), r#"{"alg":"HS256"}"#, &payload)),
        ("HS256 with its JWK", hs256(jwk.as_bytes(), r#"{"alg":"HS256"}"#, &payload)),
        ("RS256 signed by the secret", hs256(SECRET.as_bytes(), r#"{"alg":"RS256","kid":"r"}"#, &payload)),
        ("RS256 with the oct key", hs256(SECRET.as_bytes(), r#"{"alg":"RS256","kid":"o"}"#, &payload)),
        ("unknown kid", keys.rs256(r#"{"alg":"RS256","kid":"s"}"#, &payload)),
        ("kid of the other type", keys.rs256(r#"{"alg":"RS256","kid":"e"}"#, &payload)),
        ("ES256 named on RS256", keys.rs256(r#"{"alg":"ES256","kid":"e"}"#, &payload)),
        ("ES256 named on RS256's kid", keys.es256(r#"{"alg":"ES256","kid":"r"}"#, &payload)),
        ("RS512 named", keys.rs256(r#"{"alg":"RS512","kid":"r"}"#, &payload)),
        ("PS256 named", keys.rs256(r#"{"alg":"PS256","kid":"r"}"#, &payload)),
        ("stranger's key", stranger.rs256(r#"{"alg":"RS256","kid":"r"}"#, &payload)),
        ("stranger's curve key", stranger.es256(r#"{"alg":"ES256","kid":"e"}"#, &payload)),
        ("key in the header", stranger.rs256(&embedded, &payload)),
        ("key's address in the header", stranger.rs256(jku, &payload)),
        ("kid as a path", stranger.rs256(r#"{"alg":"RS256","kid":"../../dev/null"}"#, &payload)),
        (
            "zero signature",
            format!("{}.{}.{}", part(r#"{"alg":"ES256","kid":"e"}"#), part(&payload), BASE64.encode([0; 64])),
        ),
        ("crit", keys.rs256(r#"{"alg":"RS256","kid":"r","crit":["x"]}"#, &payload)),
        ("exp as text", keys.rs256(r#"{"alg":"RS256","kid":"r"}"#, &json!({ "exp": "1900000000" }).to_string())),
    ]
}

#[test]
fn no_forged_token_is_accepted() {
    let keys = Keys::new();
    let file = TempFile::new(&keys.set().to_string());
    let (plain, full) = (authenticator(&[]), authenticator(&[("auth.jwks_file", file.path())]));
    let (few, many) = (forged_without_keys(), forged_with_keys(&keys));
    let accepted = |authenticator: &Authenticator, forged: &[(&'static str, String)]| -> BTreeSet<&'static str> {
        forged
            .iter()
            .filter(|(_, token)| authenticator.identify(Some(token), now()).is_ok())
            .map(|(name, _)| *name)
            .collect()
    };
    let none = BTreeSet::new();
    assert_eq!(accepted(&plain, &few), none);
    assert_eq!(accepted(&plain, &many), none);
    assert_eq!(accepted(&full, &few), none);
    assert_eq!(accepted(&full, &many), none);
    assert!(few.len() + many.len() >= 60, "the corpus shrank");
}

#[test]
fn public_keys_verify_what_they_signed() {
    let keys = Keys::new();
    let file = TempFile::new(&keys.set().to_string());
    let authenticator = authenticator(&[("auth.jwks_file", file.path())]);
    let payload = good_claims().to_string();
    for token in [
        keys.rs256(r#"{"alg":"RS256","kid":"r"}"#, &payload),
        keys.rs256(r#"{"alg":"RS256"}"#, &payload),
        keys.es256(r#"{"alg":"ES256","kid":"e"}"#, &payload),
        signed(&good_claims()),
    ] {
        assert!(authenticator.identify(Some(&token), now()).is_ok());
    }
}

#[test]
fn key_files_that_hold_nothing_usable_are_refused_at_start() {
    let weak = json!({ "keys": [{ "kty": "RSA", "n": BASE64.encode([255; 128]), "e": "AQAB" }] }).to_string();
    let wrong_alg = json!({ "keys": [{ "kty": "RSA", "alg": "RS512", "n": BASE64.encode([255; 256]), "e": "AQAB" }] });
    for content in [
        "",
        "{}",
        "[]",
        "{\"keys\":[]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}",
        &weak,
        &wrong_alg.to_string(),
    ] {
        let file = TempFile::new(content);
        assert!(Authenticator::new(&settings(&[("auth.jwks_file", file.path())])).is_err(), "{content}");
    }
    assert!(Authenticator::new(&settings(&[("auth.jwks_file", "/nowhere/keys.json")])).is_err());
}

#[test]
fn a_minted_token_is_accepted_here() {
    let settings = settings(&[("auth.issuer", "https://id"), ("auth.audience", "rt")]);
    let request = MintRequest {
        sub: Some("bob".to_owned()),
        role: "authenticated".to_owned(),
        ttl: Duration::from_secs(60),
        claims: vec![("org".to_owned(), json!(7))],
    };
    let token = mint(&settings, request.clone(), now()).unwrap();
    let identity = Authenticator::new(&settings).unwrap().identify(Some(&token), now()).unwrap();
    assert_eq!(identity.user.as_deref(), Some("bob"));
    assert!(identity.claims.contains(r#""org":7"#), "{}", identity.claims);
    assert!(mint(&settings, MintRequest { role: "postgres".to_owned(), ..request }, now()).is_err());
}

fn minted(settings: &AuthSettings) -> String {
    let ttl = Duration::from_secs(60);
    let request = MintRequest { sub: None, role: "authenticated".to_owned(), ttl, claims: Vec::new() };
    mint(settings, request, now()).unwrap()
}

/// Settings with a signing key of each kind, named `e`.
fn with_own_key(flags: &[(&str, &str)]) -> Vec<AuthSettings> {
    let pem = |der: &[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    };
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa).unwrap();
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let keys = [pem(rsa.as_ref()), pem(ec.as_ref()), pem(ed.as_ref())];
    let own = |key: &String| settings(&[&[("auth.signing_key", &**key), ("auth.signing_key_id", "e")], flags].concat());
    keys.iter().map(own).collect()
}

#[test]
fn our_own_key_is_taken_by_its_name_beside_the_keys_of_others() {
    let others = Keys::new();
    let file = TempFile::new(&others.set().to_string());
    let payload = good_claims().to_string();
    for settings in with_own_key(&[("auth.jwks_file", file.path())]) {
        let authenticator = Authenticator::new(&settings).unwrap();
        let accepts = |token: &str| authenticator.identify(Some(token), now()).is_ok();
        let own = minted(&settings);
        assert!(accepts(&own));
        // Another's key of the same name is not ours, and still good.
        assert!(accepts(&others.es256(r#"{"alg":"ES256","kid":"e"}"#, &payload)));
        assert!(accepts(&others.rs256(r#"{"alg":"RS256"}"#, &payload)));
        assert!(accepts(&signed(&good_claims())), "the secret's tokens");
        let (message, signature) = own.rsplit_once('.').unwrap();
        let (_, claims) = message.split_once('.').unwrap();
        for header in [r#"{"alg":"RS256"}"#, r#"{"alg":"ES256","kid":"x"}"#, r#"{"alg":"EdDSA"}"#, r#"{"alg":"HS256"}"#]
        {
            assert!(!accepts(&format!("{}.{claims}.{signature}", part(header))), "{header}");
        }
        for stranger in with_own_key(&[]) {
            assert!(!accepts(&minted(&stranger)), "signed by another key of the same name");
        }
    }
}

/// RFC 8037: a set may have keys on Edwards' curve too.
#[test]
fn keys_of_every_kind_are_read_from_a_set() {
    for own in with_own_key(&[]) {
        let file = TempFile::new(&published(&own));
        let reader = authenticator(&[("auth.jwks_file", file.path())]);
        assert!(reader.identify(Some(&minted(&own)), now()).is_ok());
    }
    for x in ["", "AAAA", "A+"] {
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }).to_string();
        let file = TempFile::new(&set);
        assert!(Authenticator::new(&settings(&[("auth.jwks_file", file.path())])).is_err(), "{set}");
    }
}

#[test]
fn texts_never_quote_the_token() {
    let authenticator = authenticator(&[]);
    for (name, token) in forged_without_keys() {
        let text = authenticator.identify(Some(&token), now()).unwrap_err().to_string();
        let quoted = token.split('.').any(|part| part.len() > 8 && text.contains(part));
        assert!(!quoted, "{name}: {text}");
    }
}
