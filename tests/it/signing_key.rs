//! Our own key for tokens: what is published of it, what it signs, and what a public key cannot do.

use std::path::PathBuf;
use std::process::Command;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use realtime_tests::token::{claims, sign_hs256};
use realtime_tests::{PacketClient, Stack, http};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

/// Kind, what openssl is told to make it, the algorithm, and the members of its public half.
const KINDS: [(&str, &str, &str, &[&str]); 3] = [
    ("RSA", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "RS256", &["alg", "e", "kid", "kty", "n", "use"]),
    ("EC", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "ES256", &["alg", "crv", "kid", "kty", "use", "x", "y"]),
    ("OKP", "-algorithm ED25519", "EdDSA", &["alg", "crv", "kid", "kty", "use", "x"]),
];

/// A file that goes with this value.
struct PemFile(PathBuf);

impl PemFile {
    fn new(words: &str) -> Self {
        let file = Self::holding("");
        openssl(&format!("genpkey {words} -out {}", file.path()));
        file
    }

    fn holding(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("realtime-tests-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    async fn stack(&self) -> Stack {
        Stack::builder().set("REALTIME_JWT_SIGNING_KEY_FILE", self.path()).start().await
    }
}

impl Drop for PemFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn openssl(words: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn decode(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

/// The only key of the published set.
async fn published(stack: &Stack) -> Value {
    let answers = ["/.well-known/jwks.json", "/api/.well-known/jwks.json"].map(|path| async move {
        http::request(stack.sidecar.address(), "GET", path, &[("Origin", "https://a.example")]).await
    });
    let [first, second] = answers;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.status, &first.body), (200, &second.body));
    for answer in [&first, &second] {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
    let set = first.json();
    assert_eq!(set.as_object().unwrap().len(), 1);
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    set["keys"][0].clone()
}

/// The token that the command makes.
async fn minted(stack: &Stack, words: &'static [&'static str]) -> String {
    let mut command = stack.sidecar.command(&[&["token", "--sub", "ada"], words].concat());
    let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Whether a token's signature is that of a published key.
fn verifies(jwk: &Value, token: &str) -> bool {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    match jwk["kty"].as_str().unwrap() {
        "RSA" => PublicKeyComponents { n: decode(&jwk["n"]), e: decode(&jwk["e"]) }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature)
            .is_ok(),
        "EC" => {
            let point = [&[4][..], &decode(&jwk["x"]), &decode(&jwk["y"])].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature).is_ok()
        }
        _ => UnparsedPublicKey::new(&ED25519, decode(&jwk["x"])).verify(message.as_bytes(), &signature).is_ok(),
    }
}

/// the set at both of InsForge's addresses has what verifies, and nothing that signs.
#[tokio::test]
async fn the_public_half_is_published_and_verifies_what_token_mints() {
    for (kind, words, algorithm, members) in KINDS {
        let file = PemFile::new(words);
        let stack = file.stack().await;
        let jwk = published(&stack).await;
        assert_eq!(jwk.as_object().unwrap().keys().collect::<Vec<_>>(), members, "{kind}");
        assert_eq!((&jwk["kty"], &jwk["alg"], &jwk["use"]), (&json!(kind), &json!(algorithm), &json!("sig")));
        let token = minted(&stack, &[]).await;
        let header: Value = serde_json::from_slice(&decode(&json!(token.split('.').next().unwrap()))).unwrap();
        assert_eq!(header, json!({ "alg": algorithm, "kid": jwk["kid"], "typ": "JWT" }));
        assert!(verifies(&jwk, &token), "{kind}");
        let client = stack.connect().token(&token).open().await;
        assert_eq!((&client.hello()["user"], &client.hello()["role"]), (&json!("ada"), &json!("authenticated")));
        let mut packets = PacketClient::connect(stack.sidecar.address(), &json!({ "token": token })).await;
        assert_eq!(packets.subscribe("room:1").await["ok"], false, "somebody is asked for policies");
        let expired = minted(&stack, &["--ttl", "0", "--claim", "exp=1"]).await;
        assert_eq!(stack.connect().token(&expired).try_open().await.err().map(|it| it.status), Some(401));
        assert!(!stack.sidecar.log().contains(token.as_str()), "tokens are not logged");
    }
}

#[tokio::test]
async fn a_published_key_is_no_secret() {
    for (kind, words, _, members) in KINDS {
        let file = PemFile::new(words);
        let stack = file.stack().await;
        let jwk = published(&stack).await;
        let in_form = |form: &str| openssl(&format!("pkey -in {} -pubout -outform {form}", file.path()));
        let (pem, der) = (in_form("PEM"), in_form("DER"));
        let mut secrets = vec![pem.clone(), pem.trim_ascii_end().to_vec(), der, jwk.to_string().into_bytes()];
        let numbers = members.iter().filter(|name| ["n", "x", "y"].contains(name));
        secrets.extend(numbers.flat_map(|name| [decode(&jwk[*name]), jwk[*name].as_str().unwrap().into()]));
        for secret in secrets {
            for header in [json!({ "alg": "HS256", "kid": jwk["kid"] }), json!({ "alg": "HS256" }), jwk.clone()] {
                let token = sign_hs256(&secret, &header, &claims("ada"));
                let refused = stack.connect().token(&token).try_open().await.err();
                assert_eq!(refused.map(|it| it.status), Some(401), "{kind}: signed with what everybody knows");
            }
        }
        // The shared secret beside it is good for what it was.
        assert!(stack.connect().token(&stack.signer.user("ada")).try_open().await.is_ok());
    }
}

#[tokio::test]
async fn without_a_key_the_set_is_empty_and_nobody_keeps_it() {
    let stack = Stack::start().await;
    for path in ["/.well-known/jwks.json", "/api/.well-known/jwks.json"] {
        let answer = http::get(stack.sidecar.address(), path).await.unwrap();
        assert_eq!((answer.status, answer.json()), (200, json!({ "keys": [] })));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let posted = http::request(stack.sidecar.address(), "POST", path, &[("Content-Length", "0")]).await.unwrap();
        assert_eq!(posted.status, 405);
    }
}

#[tokio::test]
async fn the_name_of_the_key_and_the_rules_for_claims_are_those_of_the_settings() {
    let file = PemFile::new(KINDS[1].1);
    let stack = Stack::builder()
        .set("REALTIME_JWT_SIGNING_KEY_FILE", file.path())
        .set("REALTIME_JWT_SIGNING_KEY_ID", "2026-11")
        .set("REALTIME_JWT_ISSUER", "https://id.example")
        .set("REALTIME_JWT_AUDIENCE", "realtime")
        .set("REALTIME_JWT_SECRET", "")
        .start()
        .await;
    assert_eq!(published(&stack).await["kid"], "2026-11");
    assert!(stack.connect().token(&minted(&stack, &[]).await).try_open().await.is_ok());
    for words in [&["--claim", "iss=https://other.example"], &["--claim", "aud=other"]] {
        let refused = stack.connect().token(&minted(&stack, words).await).try_open().await.err();
        assert_eq!(refused.map(|it| it.status), Some(401), "{words:?}");
    }
}

#[tokio::test]
async fn a_file_that_holds_no_such_key_is_a_fault_beside_all_others() {
    let mut stack = Stack::start().await;
    stack.sidecar.stop().await;
    let file = PemFile::holding("-----BEGIN RSA PRIVATE KEY-----\nhidden\n-----END RSA PRIVATE KEY-----\n");
    stack.sidecar.set("REALTIME_JWT_SIGNING_KEY_FILE", file.path());
    stack.sidecar.set("REALTIME_LISTEN", "nowhere");
    for words in [&["check"], &["serve"]] {
        let mut command = stack.sidecar.command(words);
        let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains("auth.signing_key_file (environment REALTIME_JWT_SIGNING_KEY_FILE)"), "{told}");
        assert!(told.contains("openssl pkcs8") && told.contains("nowhere") && !told.contains("hidden"), "{told}");
    }
}
