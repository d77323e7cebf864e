//! Before a connection is one: its client has a link, and is still to say who it is.
//!
//! Nothing of the log is within reach here. Whoever is refused may try again until the deadline, as often as
//! frames may be wrong. While the database is away nobody is let in: clients subscribe at once and, when they are told that
//! it cannot be had now, never again.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{
    Connection, Incoming, Link, Opening, Seat, Services, bucket::BadFrames, frame_bytes_max, refusals::auth_error,
};
use crate::{
    auth::AuthError,
    config::Limits,
    error::{CloseReason, Code, CommandError},
    hub::Hub,
    model::{Credential, Identity},
    protocol::{Codec, Command, Credentials, DialectId, Notice},
};

/// Somebody who has not said yet who it is.
pub struct Visitor {
    /// What it speaks.
    pub dialect: DialectId,
    /// Counts it against its address.
    pub seat: Box<dyn Seat>,
    /// The way to it.
    pub link: Link,
}

/// Bytes of a frame of somebody who has not said yet who it is.
#[must_use]
pub fn lobby_frame_bytes_max(limits: &Limits) -> usize {
    limits.anonymous_frame_bytes_max.min(limits.frame_bytes_max)
}

/// Hears who the visitor is, then serves it as a connection until it goes, breaks a rule, or `stop` fires.
pub async fn receive(services: Arc<Services>, visitor: Visitor, stop: CancellationToken) {
    let lobby = Lobby::new(services, visitor);
    // Boxed, because its space would otherwise be kept for as long as the connection lives.
    let Some(connection) = Box::pin(lobby.run(&stop)).await else {
        return;
    };
    connection.run(stop).await;
}

struct Lobby {
    services: Arc<Services>,
    codec: Box<dyn Codec>,
    visitor: Visitor,
    failures: BadFrames,
}

/// What a frame led to.
enum Heard {
    Nothing,
    Identity(Box<Identity>),
    End(CloseReason),
}

impl Lobby {
    fn new(services: Arc<Services>, visitor: Visitor) -> Self {
        let failures = BadFrames::new(services.limits.bad_frames_max);
        Self { codec: visitor.dialect.dialect().codec(), services, visitor, failures }
    }

    async fn run(mut self, stop: &CancellationToken) -> Option<Connection> {
        let deadline = tokio::time::sleep(Duration::from_millis(self.services.timing.connect_ms));
        let mut deadline = std::pin::pin!(deadline);
        let mut pings = self.pings();
        let services = Arc::clone(&self.services);
        let mut identity = None;
        let end = loop {
            let incoming = tokio::select! {
                () = database(&services.hub), if identity.is_some() => return identity.map(|known| self.admit(known)),
                incoming = self.visitor.link.next(true) => incoming,
                _ = pings.tick() => {
                    self.visitor.link.ping();
                    continue;
                }
                () = deadline.as_mut() => break CloseReason::NoGreeting,
                () = stop.cancelled() => break CloseReason::Restart,
            };
            match incoming {
                Incoming::Alive | Incoming::Flushed(_) => (),
                Incoming::Text(text) => match self.hear(&text).await {
                    Heard::Nothing => (),
                    Heard::Identity(known) => identity = Some(*known),
                    Heard::End(reason) => break reason,
                },
                Incoming::Binary => break CloseReason::BadPacket,
                Incoming::End(reason) => break reason?,
            }
        };
        self.dismiss(end).await;
        None
    }

    fn pings(&self) -> Interval {
        let every = self.visitor.link.pulse(&self.services.timing).ping;
        let mut pings = interval_at(tokio::time::Instant::now() + every, every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings
    }

    async fn hear(&mut self, text: &str) -> Heard {
        match self.codec.decode(text) {
            Ok(Command::Connect { credentials }) => self.identify(credentials).await,
            Ok(Command::Reply { frame }) => {
                self.visitor.link.send(frame);
                self.count_failure()
            }
            _ => {
                self.services.metrics.bad_frames.inc();
                Heard::End(CloseReason::BadPacket)
            }
        }
    }

    async fn identify(&mut self, credentials: Credentials) -> Heard {
        let authenticator = &self.services.authenticator;
        let (credential, identified) = match credentials {
            Credentials::Nothing => (Credential::Nothing, Err(AuthError::Missing)),
            Credentials::ApiKey(key) => (Credential::ApiKey, authenticator.identify_api_key(&key.0)),
            Credentials::Token(token) => {
                (Credential::Token, authenticator.authenticate(Some(&token.0), SystemTime::now()).await)
            }
        };
        let refused = match identified {
            Ok(identity) if self.visitor.seat.change_user(identity.user.as_ref()) => {
                return Heard::Identity(Box::new(identity));
            }
            Ok(_) => {
                self.services.metrics.limits_reached.inc("connections_per_user");
                CommandError::new(Code::RateLimited, "you have as many connections as you may: close one")
            }
            Err(error) => return self.refuse(shown(credential, &error), &auth_error(&self.services, &error)),
        };
        self.refuse(credential, &refused)
    }

    fn refuse(&mut self, credential: Credential, error: &CommandError) -> Heard {
        if let Some(frame) = self.codec.encode(&Notice::Refused { credential, error }) {
            self.visitor.link.send(frame);
        }
        self.count_failure()
    }

    fn count_failure(&mut self) -> Heard {
        if self.failures.count(Instant::now()) { Heard::End(CloseReason::Abuse) } else { Heard::Nothing }
    }

    fn admit(self, identity: Identity) -> Connection {
        let Visitor { dialect, seat, mut link } = self.visitor;
        link.limit_frames(frame_bytes_max(&self.services.limits, &identity));
        let opening = Opening { identity, dialect, numbers_as_text: false, seat };
        Connection::new(self.services, opening, link, Instant::now())
    }

    async fn dismiss(mut self, reason: CloseReason) {
        const FAREWELL: Duration = Duration::from_secs(2);
        self.services.metrics.handshakes_refused.inc(reason.label());
        self.visitor.link.close(Some(reason));
        // A client that does not listen is not waited for.
        let _ = tokio::time::timeout(FAREWELL, self.visitor.link.finish()).await;
    }
}

/// Waits until the database is there.
async fn database(hub: &Hub) {
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    while !hub.is_database_up() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What was shown where a token stood.
fn shown(credential: Credential, error: &AuthError) -> Credential {
    match error {
        AuthError::UnknownAnonymousKey => Credential::AnonymousKey,
        AuthError::UnknownApiKey => Credential::ApiKey,
        _ => credential,
    }
}
