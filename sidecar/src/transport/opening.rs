//! The opening request of a WebSocket: judged before anything is upgraded.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, HOST, ORIGIN, SEC_WEBSOCKET_VERSION, UPGRADE},
        request::Parts,
    },
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use tracing::{debug, info};

use super::{Admission, origin, upgrade};
use crate::{
    auth::AuthError,
    connection::{Connection, Link, Opening, Services, frame_bytes_max},
    model::Identity,
    protocol::DialectId,
    tasks::Tasks,
};

/// The subprotocol of the native protocol.
const NATIVE: &str = "realtime.v1";

/// What the opening request needs.
#[derive(Clone)]
pub struct OpeningState {
    /// For the connections that come of it.
    pub services: Arc<Services>,
    /// How many there may be.
    pub admission: Arc<Admission>,
    /// Which pages may connect.
    pub origins: Arc<[String]>,
    /// What those speak whose opening request is of Engine.IO.
    pub engine_dialect: DialectId,
    /// Where connections run.
    pub connections: Tasks,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The route of the WebSocket.
pub fn realtime_router(state: OpeningState) -> Router {
    Router::new().route("/realtime", get(open)).with_state(state)
}

/// Why an opening request was refused.
struct Refused {
    status: StatusCode,
    error: String,
    code: &'static str,
    label: &'static str,
}

async fn open(State(state): State<OpeningState>, Extension(peer): Extension<Peer>, mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let (request, _) = request.into_parts();
    match opening(&state, peer, &request).await {
        Ok((opening, response)) => {
            let native = opening.dialect == DialectId::NATIVE;
            debug!(peer = %peer.0, role = %opening.identity.role, native, "connection opened");
            serve(&state, opening, upgrade);
            response
        }
        Err(refused) => {
            state.services.metrics.handshakes_refused.inc(refused.label);
            info!(peer = %peer.0, reason = refused.label, "opening request refused");
            refused.into_response()
        }
    }
}

fn serve(state: &OpeningState, opening: Opening, upgrade: OnUpgrade) {
    let services = Arc::clone(&state.services);
    let stop = state.connections.stopping();
    state.connections.spawn(async move {
        let frame_bytes_max = frame_bytes_max(&services.limits, &opening.identity);
        // Whoever goes before the answer is written needs no connection.
        let Some(socket) = upgrade::socket(upgrade, frame_bytes_max).await else {
            return;
        };
        Connection::new(services, opening, Link::WebSocket(Box::new(socket)), Instant::now()).run(stop).await;
    });
}

async fn opening(state: &OpeningState, peer: Peer, request: &Parts) -> Result<(Opening, Response), Refused> {
    let headers = &request.headers;
    let key = upgrade::key(headers).ok_or_else(Refused::no_upgrade)?;
    if !origin::is_allowed(upgrade::header(headers, &ORIGIN), upgrade::header(headers, &HOST), &state.origins) {
        return Err(Refused::origin());
    }
    if state.connections.stopping().is_cancelled() {
        return Err(Refused::stopping());
    }
    let query = Query::parse(request.uri.query().unwrap_or_default());
    let identity = identify(state, headers, &query).await?;
    let place = state.admission.admit(peer.0.ip(), identity.user.as_ref());
    let place = place.map_err(|full| Refused::full(full.to_string(), full.label()))?;
    let protocol = upgrade::offers(headers, NATIVE).then_some(NATIVE);
    let native = protocol.is_some() || query.native;
    let opening = Opening {
        identity,
        dialect: if native { DialectId::NATIVE } else { DialectId::SEED },
        numbers_as_text: native && query.numbers_as_text,
        seat: Box::new(place),
    };
    Ok((opening, upgrade::switching(&key, protocol)))
}

async fn identify(state: &OpeningState, headers: &HeaderMap, query: &Query) -> Result<Identity, Refused> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let token = bearer.or(query.token.as_deref());
    let identified = state.services.authenticator.authenticate(token, SystemTime::now()).await;
    identified.map_err(|error| {
        state.services.metrics.auth_failures.inc(error.label());
        Refused::unauthorized(&error)
    })
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What the address of the opening request may say.
#[derive(Default)]
struct Query {
    token: Option<String>,
    native: bool,
    numbers_as_text: bool,
}

impl Query {
    /// Unknown parameters are ignored: proxies and tools add their own.
    fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "token" => query.token = Some(percent_decoded(value)),
                "v" => query.native = value == "1",
                "numbers" => query.numbers_as_text = value == "string",
                _ => (),
            }
        }
        query
    }
}

/// Undoes percent escapes; what is no escape stays as it is. Tokens have none, but some clients escape every dot.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2).and_then(hex)).flatten();
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

impl Refused {
    fn no_upgrade() -> Self {
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            error: "this address speaks WebSocket version 13: open it with a WebSocket client".to_owned(),
            code: "UPGRADE_REQUIRED",
            label: "no_upgrade",
        }
    }

    fn origin() -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            error: "pages of this origin may not connect: add it to the setting origins".to_owned(),
            code: "ORIGIN",
            label: "origin",
        }
    }

    fn stopping() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: "the server is stopping: connect again".to_owned(),
            code: "UNAVAILABLE",
            label: "stopping",
        }
    }

    fn unauthorized(error: &AuthError) -> Self {
        let code = if *error == AuthError::Expired { "TOKEN_EXPIRED" } else { "UNAUTHORIZED" };
        Self { status: StatusCode::UNAUTHORIZED, error: error.to_string(), code, label: error.label() }
    }

    fn full(error: String, label: &'static str) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, error, code: "TOO_MANY_CONNECTIONS", label }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error, "code": self.code }))).into_response();
        if self.status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_says_token_version_and_numbers() {
        let query = Query::parse("token=a%2Eb%2ec&v=1&numbers=string&utm=x");
        assert_eq!(query.token.as_deref(), Some("a.b.c"));
        assert!(query.native && query.numbers_as_text);
        let query = Query::parse("");
        assert!(query.token.is_none() && !query.native && !query.numbers_as_text);
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
        assert_eq!(percent_decoded("%25"), "%");
    }

    #[test]
    fn a_bearer_is_found_whatever_its_case() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer"), None);
    }
}
