//! Tokens signed by keys of a JSON Web Key Set, from a file or from an address.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use realtime_tests::token::{claims, encode, sign_hs256, unsigned};
use realtime_tests::{Builder, Stack, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct RsaKey {
    pair: RsaKeyPair,
    id: &'static str,
}

impl RsaKey {
    fn new(id: &'static str) -> Self {
        Self { pair: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), id }
    }

    fn jwk(&self) -> Value {
        let public = self.pair.public_key();
        let (n, e) =
            (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": encode(n), "e": encode(e)})
    }

    fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", encode(&signature))
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": "RS256", "kid": self.id}), claims)
    }
}

/// An ES256 key: its JWK and a signer.
fn ecdsa(id: &str) -> (Value, impl Fn(&Value) -> String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": id, "x": encode(&point[1..33]), "y": encode(&point[33..])});
    let header = json!({"alg": "ES256", "kid": id});
    let sign = move |claims: &Value| {
        let signed = unsigned(&header, claims);
        format!("{signed}.{}", encode(pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref()))
    };
    (jwk, sign)
}

/// A file that goes with this value.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(keys: &[Value]) -> Self {
        let path = std::env::temp_dir().join(format!("realtime-tests-{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
        Self(path)
    }

    /// A stack that knows these keys and no secret.
    fn stack(&self) -> Builder {
        Stack::builder().set("REALTIME_JWKS_FILE", self.0.to_str().unwrap()).set("REALTIME_JWT_SECRET", "")
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn status(stack: &Stack, token: &str) -> u16 {
    stack.connect().token(token).try_open().await.map_or_else(|refusal| refusal.status, |_| 101)
}

/// X-04 too: whatever a token comes in, a CONNECT packet or an opening request, it is verified in one place.
#[tokio::test]
async fn keys_of_a_file_verify_rs256_and_es256() {
    let rsa = RsaKey::new("rsa-1");
    let (jwk, sign) = ecdsa("ec-1");
    let file = KeyFile::new(&[rsa.jwk(), jwk]);
    let stack = file.stack().start().await;
    for token in [rsa.sign(&claims("ada")), sign(&claims("ada"))] {
        let client = stack.connect().token(&token).open().await;
        assert_eq!(client.hello()["user"], "ada");
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let rsa = RsaKey::new("rsa-1");
    let other = RsaKey::new("rsa-1");
    let (jwk, sign) = ecdsa("ec-1");
    let (_, sign_other) = ecdsa("ec-1");
    let file = KeyFile::new(&[rsa.jwk(), jwk.clone()]);
    let stack = file.stack().start().await;
    let good = claims("ada");
    let public = rsa.pair.public_key();
    let der = public.as_der().unwrap().as_ref().to_vec();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", encode(&der));
    let n = rsa.jwk()["n"].as_str().unwrap().to_owned();
    for secret in [der.as_slice(), pem.as_bytes(), n.as_bytes(), public.as_ref(), rsa.jwk().to_string().as_bytes(), b""]
    {
        for id in ["rsa-1", "ec-1"] {
            let token = sign_hs256(secret, &json!({"alg": "HS256", "kid": id}), &good);
            assert_eq!(status(&stack, &token).await, 401, "HS256 signed with a public key");
        }
    }
    for (name, token) in [
        ("another key under the same id", other.sign(&good)),
        ("another curve point under the same id", sign_other(&good)),
        ("an unknown id", rsa.sign_with(&json!({"alg": "RS256", "kid": "rsa-2"}), &good)),
        ("the other key's id", rsa.sign_with(&json!({"alg": "RS256", "kid": "ec-1"}), &good)),
        ("another algorithm of the same key", rsa.sign_with(&json!({"alg": "RS512", "kid": "rsa-1"}), &good)),
        ("a key in the header", other.sign_with(&json!({"alg": "RS256", "jwk": other.jwk()}), &good)),
        ("none", format!("{}.", unsigned(&json!({"alg": "none", "kid": "rsa-1"}), &good))),
        ("the stack's unused secret", stack.signer.user("ada")),
    ] {
        assert_eq!(status(&stack, &token).await, 401, "{name}");
    }
    assert_eq!(status(&stack, &sign(&good)).await, 101);
}

/// An address that serves a key set which tests can change.
struct KeyServer {
    url: String,
    keys: Arc<Mutex<Option<Vec<Value>>>>,
    fetches: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind(realtime_tests::port::free()).await.unwrap();
        let url = format!("http://{}/keys.json", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(Some(keys.to_vec())));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (shown, count) = (Arc::clone(&keys), Arc::clone(&fetches));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 2048];
                let _ = stream.read(&mut request).await;
                count.fetch_add(1, Ordering::Relaxed);
                let body = shown.lock().unwrap().as_ref().map(|keys| json!({"keys": keys}).to_string());
                let answer = match body {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    ),
                    None => "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, keys, fetches }
    }

    fn stack(&self) -> Builder {
        Stack::builder()
            .set("REALTIME_JWKS_URL", &self.url)
            .set("REALTIME_JWT_SECRET", "")
            .set("REALTIME_AUTH_JWKS_COOLDOWN_S", "1")
    }

    fn set(&self, keys: Option<&[Value]>) {
        *self.keys.lock().unwrap() = keys.map(<[Value]>::to_vec);
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_goes() {
    let (old, new) = (RsaKey::new("old"), RsaKey::new("new"));
    let server = KeyServer::start(&[old.jwk()]).await;
    let stack = server.stack().start().await;
    eventually("the old key is good", async || (status(&stack, &old.sign(&claims("ada"))).await == 101).then_some(()))
        .await;
    server.set(Some(&[new.jwk()]));
    eventually("the new key is good", async || (status(&stack, &new.sign(&claims("ada"))).await == 101).then_some(()))
        .await;
    assert_eq!(status(&stack, &old.sign(&claims("ada"))).await, 401, "the old key is gone");
    // An address that fails takes nothing away.
    server.set(None);
    assert_eq!(status(&stack, &new.sign(&claims("ada"))).await, 101);
}

#[tokio::test]
async fn unknown_keys_make_no_storm_of_fetches() {
    let key = RsaKey::new("one");
    let server = KeyServer::start(&[key.jwk()]).await;
    let stack = server.stack().set("REALTIME_AUTH_JWKS_COOLDOWN_S", "3600").start().await;
    eventually("the key is good", async || (status(&stack, &key.sign(&claims("ada"))).await == 101).then_some(()))
        .await;
    for round in 0..50 {
        let token = key.sign_with(&json!({"alg": "RS256", "kid": format!("unknown-{round}")}), &claims("ada"));
        assert_eq!(status(&stack, &token).await, 401);
    }
    let fetches = server.fetches.load(Ordering::Relaxed);
    assert!(fetches <= 3, "{fetches} fetches for 50 unknown keys");
}

#[tokio::test]
async fn a_token_s_own_address_of_keys_is_never_asked() {
    let (trusted, attacker) = (RsaKey::new("one"), RsaKey::new("evil"));
    let evil = KeyServer::start(&[attacker.jwk()]).await;
    let file = KeyFile::new(&[trusted.jwk()]);
    let stack = file.stack().start().await;
    let mut forged = claims("ada");
    forged["iss"] = json!(evil.url);
    for header in ["jku", "x5u", "iss"] {
        let token = attacker.sign_with(&json!({"alg": "RS256", "kid": "evil", header: evil.url}), &forged);
        assert_eq!(status(&stack, &token).await, 401, "{header}");
    }
    assert_eq!(evil.fetches.load(Ordering::Relaxed), 0);
}
