//! Engine.IO packets over a WebSocket. Messages pass as whole packets; what is said about the link stays here.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{Incoming, Socket};
use crate::{
    error::CloseReason,
    protocol::engine::{self, Packet},
};

/// One Engine.IO session.
pub struct Engine {
    socket: Socket,
}

impl Engine {
    /// Begins a session over a WebSocket; `open` is the first packet.
    #[must_use]
    pub fn new(mut socket: Socket, open: String) -> Self {
        socket.send(open);
        Self { socket }
    }

    /// Adds a packet.
    pub(super) fn send(&mut self, packet: String) {
        self.socket.send(packet);
    }

    pub(super) fn ping(&mut self) {
        self.send(engine::PING.to_owned());
    }

    /// Ends the transport. The layer above is not told to end: a client that is does not come back by itself.
    pub(super) fn close(&mut self, reason: Option<CloseReason>) {
        self.socket.close(reason);
    }

    pub(super) async fn next(&mut self, want_read: bool) -> Incoming {
        poll_fn(|context| self.poll_next(context, want_read)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>, want_read: bool) -> Poll<Incoming> {
        let incoming = ready!(self.socket.poll_next(context, want_read));
        Poll::Ready(match incoming {
            Incoming::Text(text) => unwrapped(text),
            other => other,
        })
    }

    pub(super) fn has_room(&self) -> bool {
        self.socket.has_room()
    }

    pub(super) fn is_sending(&self) -> bool {
        self.socket.is_sending()
    }

    pub(super) fn stalled_for(&mut self, now: Instant) -> Duration {
        self.socket.stalled_for(now)
    }

    pub(super) fn limit_frames(&mut self, frame_bytes_max: usize) {
        self.socket.limit_frames(frame_bytes_max);
    }

    pub(super) async fn finish(self) {
        self.socket.finish().await;
    }
}

/// What a packet is to a connection.
fn unwrapped(packet: String) -> Incoming {
    match Packet::parse(&packet) {
        Some(Packet::Message) => Incoming::Text(packet),
        Some(Packet::Binary) => Incoming::Binary,
        Some(Packet::Open | Packet::Close | Packet::Pong | Packet::Upgrade | Packet::Noop) => Incoming::Alive,
        // Clients do not ask for signs of life in this revision; one that does speaks another.
        Some(Packet::Ping | Packet::Probe) | None => Incoming::End(Some(CloseReason::BadPacket)),
    }
}
