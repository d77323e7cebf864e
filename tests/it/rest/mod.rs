//! The API below `/api/realtime` from outside: what administrators do, and publishing without a socket.

mod channels;
mod document;
mod messages;
mod publish;
mod refusals;

use std::net::SocketAddr;

use realtime_tests::http::{self, Answer};
use realtime_tests::token::in_seconds;
use realtime_tests::{Builder, Stack};
use serde_json::{Value, json};

/// The key of a server that administrates.
pub(crate) const KEY: &str = "ik_00112233445566778899aabbccddeeff";

/// A sidecar that knows the key.
pub(crate) fn builder() -> Builder {
    Stack::builder().set("REALTIME_AUTH_KEYS", &format!("project_admin={KEY}"))
}

/// Somebody who asks.
pub(crate) struct Caller {
    address: SocketAddr,
    headers: Vec<(&'static str, String)>,
}

impl Caller {
    /// An administrator with a token.
    pub(crate) fn admin(stack: &Stack) -> Self {
        let claims = json!({"sub": "root", "role": "project_admin", "exp": in_seconds(600)});
        Self::bearer(stack, &stack.signer.sign(&claims))
    }

    /// Whoever has this token.
    pub(crate) fn bearer(stack: &Stack, token: &str) -> Self {
        Self::with(stack, "Authorization", format!("Bearer {token}"))
    }

    /// Whoever sends this header.
    pub(crate) fn with(stack: &Stack, header: &'static str, value: String) -> Self {
        Self { address: stack.sidecar.address(), headers: vec![(header, value)] }
    }

    /// Somebody who shows nothing.
    pub(crate) fn nobody(stack: &Stack) -> Self {
        Self { address: stack.sidecar.address(), headers: Vec::new() }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Asks without a body.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Answer {
        http::request(self.address, method, &format!("/api/realtime{path}"), &self.headers()).await.unwrap()
    }

    /// Asks with a body.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        http::send(self.address, method, &format!("/api/realtime{path}"), &self.headers(), &body).await.unwrap()
    }

    /// What a GET gives.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Makes a channel and gives its id.
    pub(crate) async fn create(&self, channel: Value) -> String {
        let answer = self.send("POST", "/channels", channel).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }
}

/// Checks that an answer is this error, in the form that all have.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, status: u16, code: &str) {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    assert_eq!((answer.status, body["error"].as_str()), (status, Some(code)), "{}", answer.body);
    assert_eq!(body["statusCode"], status, "{body}");
    assert!(body["message"].as_str().is_some_and(|text| text.len() > 20), "{body}");
}
