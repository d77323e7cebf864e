//! What a connection runs over. All links look alike to it; only the name differs of who is on the other side.

mod desk;
mod engine;
mod mailbox;

#[cfg(test)]
mod desk_model;

use std::time::{Duration, Instant};

pub use desk::Refused;
pub use engine::Engine;
pub use mailbox::{Bringing, Fetching, Mailbox, Probing};

use super::{Incoming, Socket};
use crate::{config::Timing, error::CloseReason};

/// A way to one client.
pub enum Link {
    /// A WebSocket whose frames are the protocol's.
    WebSocket(Box<Socket>),
    /// Engine.IO packets.
    Engine(Engine),
}

/// How often a link is asked for a sign of life, and how long it may give none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    pub(super) ping: Duration,
    pub(super) dead: Duration,
}

impl Link {
    /// Adds a frame. Nothing is sent before [`Link::next`].
    pub(super) fn send(&mut self, frame: String) {
        match self {
            Self::WebSocket(socket) => socket.send(frame),
            Self::Engine(engine) => engine.send(frame),
        }
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self) {
        match self {
            Self::WebSocket(socket) => socket.ping(),
            Self::Engine(engine) => engine.ping(),
        }
    }

    /// Says goodbye; nothing can be sent after it.
    pub(super) fn close(&mut self, reason: Option<CloseReason>) {
        match self {
            Self::WebSocket(socket) => socket.close(reason),
            Self::Engine(engine) => engine.close(reason),
        }
    }

    /// Sends what waits, and with `want_read` receives. Cancelling it loses nothing.
    pub(super) async fn next(&mut self, want_read: bool) -> Incoming {
        match self {
            Self::WebSocket(socket) => socket.next(want_read).await,
            Self::Engine(engine) => engine.next(want_read).await,
        }
    }

    /// Whether frames should be added, or the client be waited for.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::WebSocket(socket) => socket.has_room(),
            Self::Engine(engine) => engine.has_room(),
        }
    }

    /// Whether something is on its way, slowly perhaps.
    pub(super) fn is_sending(&self) -> bool {
        match self {
            Self::WebSocket(socket) => socket.is_sending(),
            Self::Engine(engine) => engine.is_sending(),
        }
    }

    /// How long nothing was taken although something waits.
    pub(super) fn stalled_for(&mut self, now: Instant) -> Duration {
        match self {
            Self::WebSocket(socket) => socket.stalled_for(now),
            Self::Engine(engine) => engine.stalled_for(now),
        }
    }

    /// Changes how large a frame from the client may be.
    pub(super) fn limit_frames(&mut self, frame_bytes_max: usize) {
        match self {
            Self::WebSocket(socket) => socket.limit_frames(frame_bytes_max),
            Self::Engine(engine) => engine.limit_frames(frame_bytes_max),
        }
    }

    /// Sends what waits, then lets the client read it.
    pub(super) async fn finish(mut self) {
        match &mut self {
            Self::WebSocket(socket) => socket.finish().await,
            Self::Engine(engine) => engine.finish().await,
        }
    }

    pub(super) fn pulse(&self, timing: &Timing) -> Pulse {
        let (ping_ms, dead_ms) = match self {
            Self::WebSocket(_) => (timing.ping_ms, timing.dead_ms),
            // A client is told both, and counts on neither coming sooner.
            Self::Engine(_) => (timing.engine_ping_ms, timing.engine_ping_ms + timing.engine_pong_ms),
        };
        Pulse { ping: Duration::from_millis(ping_ms), dead: Duration::from_millis(dead_ms) }
    }
}
