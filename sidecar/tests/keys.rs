//! Public keys fetched from an address: rotation, floods, outages and answers that are not keys.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops here")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use parking_lot::Mutex;
use realtime_sidecar::{
    auth::{AuthError, Authenticator, Reason},
    config::{Config, Sources},
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes, shorter than patience.
const DEADLINE: Duration = Duration::from_secs(20);

struct Signer {
    name: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        Self { name, pair: EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap() }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.name, "x": x, "y": y })
    }

    fn token(&self) -> String {
        let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
        let header = BASE64.encode(json!({ "alg": "ES256", "kid": self.name }).to_string());
        let message = format!("{header}.{}", BASE64.encode(json!({ "sub": "a", "exp": exp }).to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64.encode(signature))
    }
}

/// What the key server answers with.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Failure,
    Redirect,
    Large,
    Never,
}

/// A key server that counts.
struct Server {
    url: String,
    answer: Mutex<Answer>,
    requests: AtomicUsize,
}

impl Server {
    async fn start(answer: Answer) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let server = Arc::new(Self { url, answer: Mutex::new(answer), requests: AtomicUsize::new(0) });
        let elsewhere = get(async |State(server): State<Arc<Self>>| {
            server.requests.fetch_add(1000, Ordering::SeqCst);
            "{}"
        });
        let router = Router::new().route("/keys", get(keys)).route("/elsewhere", elsewhere);
        tokio::spawn(axum::serve(listener, router.with_state(Arc::clone(&server))).into_future());
        server
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn keys(State(server): State<Arc<Server>>) -> Response {
    server.requests.fetch_add(1, Ordering::SeqCst);
    let answer = server.answer.lock().clone();
    match answer {
        Answer::Keys(set) => axum::Json(set).into_response(),
        Answer::Failure => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Answer::Redirect => Redirect::temporary("/elsewhere").into_response(),
        Answer::Large => "x".repeat(10_000).into_response(),
        Answer::Never => std::future::pending().await,
    }
}

fn keys_of(signers: &[&Signer]) -> Answer {
    Answer::Keys(json!({ "keys": signers.iter().map(|signer| signer.public()).collect::<Vec<_>>() }))
}

/// An authenticator whose cache runs until the guard is dropped.
fn start(server: &Server, flags: &[(&str, &str)]) -> (Arc<Authenticator>, DropGuard) {
    let fixed =
        [("auth.jwks_url", server.url.as_str()), ("auth.jwks_bytes_max", "4096"), ("auth.jwks_timeout_ms", "500")];
    let flags = fixed.iter().chain(flags).map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let settings = Config::load_auth(&Sources { flags, ..Sources::default() }).unwrap();
    let authenticator = Arc::new(Authenticator::new(&settings).unwrap());
    let (jwks, stop) = (authenticator.jwks(), CancellationToken::new());
    let stopping = stop.clone();
    tokio::spawn(async move { jwks.run(stopping).await });
    (authenticator, stop.drop_guard())
}

async fn judge(authenticator: &Authenticator, signer: &Signer) -> Result<(), AuthError> {
    authenticator.authenticate(Some(&signer.token()), SystemTime::now()).await.map(drop)
}

/// Asks again until the answer is the wanted one.
async fn eventually(authenticator: &Authenticator, signer: &Signer, wanted: Result<(), AuthError>) {
    let begun = Instant::now();
    while judge(authenticator, signer).await != wanted {
        assert!(begun.elapsed() < DEADLINE, "it never was {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const UNKNOWN: Result<(), AuthError> = Err(AuthError::Invalid(Reason::UnknownKey));

#[tokio::test]
async fn the_first_caller_waits_for_the_first_fetch() {
    let signer = Signer::new("one");
    let server = Server::start(keys_of(&[&signer])).await;
    let (authenticator, _running) = start(&server, &[]);
    assert_eq!(judge(&authenticator, &signer).await, Ok(()));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_one_fetch() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("stranger"));
    let server = Server::start(keys_of(&[&signer])).await;
    let (authenticator, _running) = start(&server, &[("auth.jwks_cooldown_s", "3600")]);
    assert_eq!(judge(&authenticator, &signer).await, Ok(()));
    for _ in 0..500 {
        assert_eq!(judge(&authenticator, &stranger).await, UNKNOWN);
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_when_it_is_used_and_an_old_one_forgotten() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = Server::start(keys_of(&[&old])).await;
    let (authenticator, _running) = start(&server, &[("auth.jwks_cooldown_s", "1"), ("auth.jwks_refresh_s", "3600")]);
    assert_eq!(judge(&authenticator, &old).await, Ok(()));
    server.set(keys_of(&[&new]));
    eventually(&authenticator, &new, Ok(())).await;
    assert_eq!(judge(&authenticator, &old).await, UNKNOWN);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn known_keys_outlive_an_outage_of_their_server() {
    let signer = Signer::new("one");
    let server = Server::start(keys_of(&[&signer])).await;
    let (authenticator, _running) = start(&server, &[("auth.jwks_cooldown_s", "1"), ("auth.jwks_refresh_s", "1")]);
    assert_eq!(judge(&authenticator, &signer).await, Ok(()));
    server.set(Answer::Failure);
    let begun = Instant::now();
    while server.requests() < 3 {
        assert_eq!(judge(&authenticator, &signer).await, Ok(()));
        assert!(begun.elapsed() < DEADLINE, "the server is not asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(judge(&authenticator, &signer).await, Ok(()));
}

#[tokio::test]
async fn stale_keys_are_given_up_in_the_end() {
    let signer = Signer::new("one");
    let server = Server::start(keys_of(&[&signer])).await;
    let flags = [("auth.jwks_cooldown_s", "1"), ("auth.jwks_refresh_s", "1"), ("auth.jwks_stale_max_s", "0")];
    let (authenticator, _running) = start(&server, &flags);
    assert_eq!(judge(&authenticator, &signer).await, Ok(()));
    server.set(Answer::Failure);
    eventually(&authenticator, &signer, UNKNOWN).await;
    server.set(keys_of(&[&signer]));
    eventually(&authenticator, &signer, Ok(())).await;
}

#[tokio::test]
async fn answers_that_are_no_keys_are_refused_and_redirects_not_followed() {
    let signer = Signer::new("one");
    for answer in [Answer::Failure, Answer::Redirect, Answer::Large, Answer::Never, Answer::Keys(json!({ "keys": [] }))]
    {
        let server = Server::start(answer).await;
        let (authenticator, _running) = start(&server, &[("auth.jwks_cooldown_s", "3600")]);
        assert_eq!(judge(&authenticator, &signer).await, UNKNOWN);
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn two_sources_do_not_vouch_for_each_others_names() {
    let (of_url, of_file) = (Signer::new("same"), Signer::new("same"));
    let server = Server::start(keys_of(&[&of_url])).await;
    let path = std::env::temp_dir().join(format!("realtime-keys-{}.json", uuid::Uuid::new_v4()));
    std::fs::write(&path, json!({ "keys": [of_file.public()] }).to_string()).unwrap();
    let (authenticator, _running) = start(&server, &[("auth.jwks_file", path.to_str().unwrap())]);
    // Each is accepted by its own key; neither has replaced the other in the cache.
    eventually(&authenticator, &of_url, Ok(())).await;
    assert_eq!(judge(&authenticator, &of_file).await, Ok(()));
    let stranger = Signer::new("same");
    assert_eq!(judge(&authenticator, &stranger).await, Err(AuthError::Invalid(Reason::Signature)));
    std::fs::remove_file(path).unwrap();
}
