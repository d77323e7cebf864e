//! Sessions of Engine.IO, the layer under Socket.IO: opened over a WebSocket, or over HTTP requests from which they may
//! move to one.

mod probe;
mod query;
mod refusal;
mod requests;
mod sessions;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
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

use self::{
    query::{Query, Transport},
    refusal::Refusal,
    sessions::Sessions,
};
use super::{OpeningState, admission::Place, opening::Peer, origin, turn::Turn, upgrade};
use crate::{
    connection::{Engine, Link, Mailbox, Services, Visitor, lobby_frame_bytes_max, receive},
    protocol::engine,
};

/// What requests to sessions need.
#[derive(Clone)]
struct EngineState {
    opening: OpeningState,
    sessions: Arc<Sessions>,
}

/// One request, taken apart.
struct Asked {
    head: Parts,
    body: Body,
    key: Option<HeaderValue>,
    on_upgrade: OnUpgrade,
    peer: Peer,
    turn: Turn,
}

/// The routes of Engine.IO, with and without the slash that clients put at the end.
pub fn engine_router(opening: OpeningState) -> Router {
    let sessions = Arc::new(Sessions::new(Arc::clone(&opening.services.metrics)));
    let state = EngineState { opening, sessions };
    Router::new().route("/socket.io", any(answer)).route("/socket.io/", any(answer)).with_state(state)
}

async fn answer(
    State(state): State<EngineState>,
    Extension(peer): Extension<Peer>,
    Extension(turn): Extension<Turn>,
    mut request: Request,
) -> Response {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let key = upgrade::key(&head.headers);
    let answer = state.answer(Asked { head, body, key, on_upgrade, peer, turn }).await;
    answer.unwrap_or_else(|refusal| {
        state.opening.services.metrics.handshakes_refused.inc(refusal.label());
        info!(peer = %peer.0, reason = refusal.label(), "request to a session refused");
        refusal.into_response()
    })
}

impl EngineState {
    /// The order of the looks decides which fault is told: it is the reference server's.
    async fn answer(&self, asked: Asked) -> Result<Response, Refusal> {
        let text = asked.head.uri.query().unwrap_or_default().to_owned();
        let query = Query::parse(&text);
        let transport = query.transport()?;
        self.check_origin(&asked.head.headers)?;
        match query.session() {
            Some(session) => self.go_on(session, transport, &query, asked).await,
            None => self.begin(transport, &query, asked).await,
        }
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let (origin, host) = (upgrade::header(headers, &ORIGIN), upgrade::header(headers, &HOST));
        if origin::is_allowed(origin, host, &self.opening.origins) { Ok(()) } else { Err(Refusal::Origin) }
    }

    /// A request of a session that there is.
    async fn go_on(
        &self,
        session: &str,
        transport: Transport,
        query: &Query<'_>,
        asked: Asked,
    ) -> Result<Response, Refusal> {
        let mailbox = self.sessions.find(session)?;
        if !query.is_of_our_revision() {
            return Err(Refusal::Request);
        }
        match (transport, asked.key) {
            (Transport::WebSocket, Some(key)) => self.probe(&mailbox, &key, asked.on_upgrade),
            (Transport::WebSocket, None) | (Transport::Polling, Some(_)) => Err(Refusal::Request),
            (Transport::Polling, None) => match asked.head.method {
                Method::GET => self.fetch(&mailbox, &asked.turn).await,
                Method::POST => {
                    let patience = Duration::from_millis(self.opening.services.timing.engine_post_ms);
                    requests::bring(&mailbox, &asked.head.headers, asked.body, patience).await
                }
                _ => Err(Refusal::Request),
            },
        }
    }

    async fn fetch(&self, mailbox: &Arc<Mailbox>, turn: &Turn) -> Result<Response, Refusal> {
        requests::fetch(mailbox, turn, &self.opening.services.metrics.engine_polls).await
    }

    fn probe(&self, mailbox: &Arc<Mailbox>, key: &HeaderValue, on_upgrade: OnUpgrade) -> Result<Response, Refusal> {
        let probing = mailbox.probe().ok_or(Refusal::Request)?;
        let patience = Duration::from_millis(self.opening.services.timing.engine_upgrade_ms);
        let frame_bytes_max = mailbox.payload_bytes_max();
        self.opening.connections.spawn(async move {
            if let Some(socket) = upgrade::socket(on_upgrade, frame_bytes_max).await {
                probe::run(probing, socket, patience).await;
            }
        });
        Ok(upgrade::switching(key, None))
    }

    /// The first request of a session.
    async fn begin(&self, transport: Transport, query: &Query<'_>, asked: Asked) -> Result<Response, Refusal> {
        if asked.head.method != Method::GET {
            return Err(Refusal::Method);
        }
        if (transport == Transport::WebSocket) != asked.key.is_some() || query.wants_script() {
            return Err(Refusal::Request);
        }
        if !query.is_of_our_revision() {
            return Err(Refusal::Revision);
        }
        if self.opening.connections.stopping().is_cancelled() {
            return Err(Refusal::Stopping);
        }
        // Who it is comes with the first packet.
        let seat = self.opening.admission.admit(asked.peer.0.ip(), None).map_err(Refusal::Full)?;
        debug!(peer = %asked.peer.0, over_http = asked.key.is_none(), "session opened");
        match asked.key {
            Some(key) => {
                self.serve_socket(seat, asked.on_upgrade);
                Ok(upgrade::switching(&key, None))
            }
            None => self.fetch(&self.serve_http(seat), &asked.turn).await,
        }
    }

    fn serve_socket(&self, seat: Place, on_upgrade: OnUpgrade) {
        let services = Arc::clone(&self.opening.services);
        let (stop, dialect) = (self.opening.connections.stopping(), self.opening.engine_dialect);
        let name = sessions::new_name();
        let open = open_packet(&name, &[], &services);
        let entry = self.sessions.enter(name, None);
        self.opening.connections.spawn(async move {
            let frame_bytes_max = lobby_frame_bytes_max(&services.limits);
            if let Some(socket) = upgrade::socket(on_upgrade, frame_bytes_max).await {
                let link = Link::Engine(Engine::over_socket(socket, open, frame_bytes_max));
                receive(services, Visitor { dialect, seat: Box::new(seat), link }, stop).await;
            }
            drop(entry);
        });
    }

    fn serve_http(&self, seat: Place) -> Arc<Mailbox> {
        let services = Arc::clone(&self.opening.services);
        let (stop, dialect) = (self.opening.connections.stopping(), self.opening.engine_dialect);
        let name = sessions::new_name();
        let open = open_packet(&name, &["websocket"], &services);
        let mailbox = Mailbox::new(open, lobby_frame_bytes_max(&services.limits));
        let entry = self.sessions.enter(name, Some(Arc::clone(&mailbox)));
        let link = Link::Engine(Engine::over_http(Arc::clone(&mailbox)));
        self.opening.connections.spawn(async move {
            receive(services, Visitor { dialect, seat: Box::new(seat), link }, stop).await;
            drop(entry);
        });
        mailbox
    }
}

fn open_packet(session: &str, upgrades: &[&str], services: &Services) -> String {
    let timing = &services.timing;
    engine::open(session, upgrades, timing.engine_ping_ms, timing.engine_pong_ms, services.limits.frame_bytes_max)
}
