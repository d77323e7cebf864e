//! Sessions of Engine.IO, the layer under Socket.IO: opening requests and their refusals.

mod refusal;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method,
        header::{HOST, ORIGIN},
        request::Parts,
    },
    response::{IntoResponse, Response},
    routing::any,
};
use hyper::upgrade::OnUpgrade;
use tracing::{debug, info};
use uuid::Uuid;

use self::refusal::Refusal;
use super::{OpeningState, opening::Peer, origin, upgrade};
use crate::{
    config::{Limits, Timing},
    connection::{Connection, Engine, Link, Opening, frame_bytes_max},
    protocol::{DialectId, engine},
};

/// The routes of Engine.IO, with and without the slash that clients put at the end.
pub fn engine_router(state: OpeningState) -> Router {
    Router::new().route("/socket.io", any(answer)).route("/socket.io/", any(answer)).with_state(state)
}

async fn answer(State(state): State<OpeningState>, Extension(peer): Extension<Peer>, mut request: Request) -> Response {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (request, _) = request.into_parts();
    match open(&state, peer, &request, on_upgrade).await {
        Ok(response) => response,
        Err(refusal) => {
            state.services.metrics.handshakes_refused.inc(refusal.label());
            info!(peer = %peer.0, reason = refusal.label(), "opening request refused");
            refusal.into_response()
        }
    }
}

async fn open(state: &OpeningState, peer: Peer, request: &Parts, on_upgrade: OnUpgrade) -> Result<Response, Refusal> {
    let query = Query::parse(request.uri.query().unwrap_or_default());
    let key = check(&query, request)?;
    check_origin(&request.headers, state)?;
    if state.connections.stopping().is_cancelled() {
        return Err(Refusal::Stopping);
    }
    let seat = state.admission.admit(peer.0.ip(), None).map_err(Refusal::Full)?;
    let identified = state.services.authenticator.authenticate(None, SystemTime::now()).await;
    let identity = identified.map_err(|_| Refusal::Request)?;
    let opening = Opening { identity, dialect: DialectId::NATIVE, numbers_as_text: false, seat: Box::new(seat) };
    debug!(peer = %peer.0, "session opened");
    serve(state, opening, on_upgrade);
    Ok(upgrade::switching(&key, None))
}

/// The key of a well-formed opening request. The order of the looks decides which fault is told.
fn check(query: &Query<'_>, request: &Parts) -> Result<HeaderValue, Refusal> {
    if query.transport != Some("websocket") {
        return Err(Refusal::Transport);
    }
    if query.session.is_some_and(|session| !session.is_empty()) {
        return Err(Refusal::Session);
    }
    if request.method != Method::GET {
        return Err(Refusal::Method);
    }
    let key = upgrade::key(&request.headers).ok_or(Refusal::Request)?;
    if query.revision == Some(engine::REVISION) { Ok(key) } else { Err(Refusal::Revision) }
}

fn check_origin(headers: &HeaderMap, state: &OpeningState) -> Result<(), Refusal> {
    let (origin, host) = (upgrade::header(headers, &ORIGIN), upgrade::header(headers, &HOST));
    if origin::is_allowed(origin, host, &state.origins) { Ok(()) } else { Err(Refusal::Origin) }
}

fn serve(state: &OpeningState, opening: Opening, on_upgrade: OnUpgrade) {
    let services = Arc::clone(&state.services);
    let stop = state.connections.stopping();
    state.connections.spawn(async move {
        let Some(socket) = upgrade::socket(on_upgrade, frame_bytes_max(&services.limits, &opening.identity)).await
        else {
            return;
        };
        let open = open_packet(&session_name(), &[], &services.limits, &services.timing);
        let link = Link::Engine(Engine::new(socket, open));
        Connection::new(services, opening, link, Instant::now()).run(stop).await;
    });
}

fn open_packet(session: &str, upgrades: &[&str], limits: &Limits, timing: &Timing) -> String {
    engine::open(session, upgrades, timing.engine_ping_ms, timing.engine_pong_ms, limits.frame_bytes_max)
}

/// Whoever knows a session's name can speak for it: it has more than 128 random bits.
fn session_name() -> String {
    format!("{}{}", Uuid::new_v4().simple(), &Uuid::new_v4().simple().to_string()[..8])
}

/// What the address of a request says.
struct Query<'a> {
    revision: Option<&'a str>,
    transport: Option<&'a str>,
    session: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Unknown parameters are ignored: clients add the time, and what an application asks them to add.
    fn parse(text: &'a str) -> Self {
        let mut query = Self { revision: None, transport: None, session: None };
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "EIO" => query.revision = Some(value),
                "transport" => query.transport = Some(value),
                "sid" => query.session = Some(value),
                _ => (),
            }
        }
        query
    }
}
