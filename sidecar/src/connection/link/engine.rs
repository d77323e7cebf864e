//! Engine.IO packets, over a WebSocket or fetched and brought by HTTP requests, and from one to the other. Messages pass
//! as whole packets; what is said about the link stays here.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{Incoming, Mailbox, Socket, desk::Step};
use crate::{
    error::CloseReason,
    protocol::engine::{self, Packet},
};

/// One Engine.IO session.
pub struct Engine {
    carrier: Carrier,
    /// What a request has brought and the connection has not taken.
    brought: Option<Brought>,
    /// For the WebSocket to which it may move.
    frame_bytes_max: usize,
}

enum Carrier {
    Socket(Box<Socket>),
    Http(Arc<Mailbox>),
}

/// A payload, packet by packet.
struct Brought {
    payload: String,
    /// Bytes that were taken; more than there are when all were.
    taken: usize,
}

impl Engine {
    /// Begins a session over a WebSocket; `open` is the first packet.
    #[must_use]
    pub fn over_socket(mut socket: Socket, open: String, frame_bytes_max: usize) -> Self {
        socket.send(open);
        Self { carrier: Carrier::Socket(Box::new(socket)), brought: None, frame_bytes_max }
    }

    /// Begins a session over HTTP; the mailbox has the first packet.
    #[must_use]
    pub fn over_http(mailbox: Arc<Mailbox>) -> Self {
        let frame_bytes_max = mailbox.payload_bytes_max();
        Self { carrier: Carrier::Http(mailbox), brought: None, frame_bytes_max }
    }

    /// Adds a packet.
    pub(super) fn send(&mut self, packet: String) {
        match &mut self.carrier {
            Carrier::Socket(socket) => socket.send(packet),
            Carrier::Http(mailbox) => mailbox.send(packet),
        }
    }

    pub(super) fn ping(&mut self) {
        self.send(engine::PING.to_owned());
    }

    /// Ends the transport. The layer above is not told to end: a client that is does not come back by itself.
    pub(super) fn close(&mut self, reason: Option<CloseReason>) {
        match &mut self.carrier {
            Carrier::Socket(socket) => socket.close(reason),
            Carrier::Http(mailbox) => mailbox.send(engine::CLOSE.to_owned()),
        }
    }

    pub(super) async fn next(&mut self, want_read: bool) -> Incoming {
        poll_fn(|context| self.poll_next(context, want_read)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>, want_read: bool) -> Poll<Incoming> {
        loop {
            if want_read && let Some(incoming) = self.take_brought() {
                return Poll::Ready(incoming);
            }
            match &mut self.carrier {
                Carrier::Socket(socket) => {
                    let incoming = ready!(socket.poll_next(context, want_read));
                    return Poll::Ready(match incoming {
                        Incoming::Text(text) => of_socket(text),
                        other => other,
                    });
                }
                Carrier::Http(mailbox) => match ready!(mailbox.poll_step(context, want_read)) {
                    Step::Moved { socket, out, brought } => self.move_to(socket, out, brought),
                    Step::Brought(payload) => self.brought = Some(Brought { payload, taken: 0 }),
                    Step::Fetched => return Poll::Ready(Incoming::Flushed(false)),
                    Step::End(reason) => return Poll::Ready(Incoming::End(reason)),
                },
            }
        }
    }

    fn move_to(&mut self, mut socket: Box<Socket>, out: Vec<String>, brought: Option<String>) {
        socket.limit_frames(self.frame_bytes_max);
        for packet in out {
            socket.send(packet);
        }
        if let Some(payload) = brought {
            self.brought = Some(Brought { payload, taken: 0 });
        }
        self.carrier = Carrier::Socket(socket);
    }

    /// What the payload in hand says next. Mere signs of life are put together: there may be very many.
    fn take_brought(&mut self) -> Option<Incoming> {
        let brought = self.brought.as_mut()?;
        while let Some(packet) = brought.next() {
            match of_request(packet) {
                Incoming::Alive => (),
                said => return Some(said),
            }
        }
        self.brought = None;
        if let Carrier::Http(mailbox) = &self.carrier {
            mailbox.done();
        }
        Some(Incoming::Alive)
    }

    pub(super) fn has_room(&self) -> bool {
        match &self.carrier {
            Carrier::Socket(socket) => socket.has_room(),
            Carrier::Http(mailbox) => mailbox.has_room(),
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        match &self.carrier {
            Carrier::Socket(socket) => socket.is_sending(),
            // Whoever fetches slowly still has to answer pings in time.
            Carrier::Http(_) => false,
        }
    }

    pub(super) fn stalled_for(&mut self, now: Instant) -> Duration {
        match &mut self.carrier {
            Carrier::Socket(socket) => socket.stalled_for(now),
            Carrier::Http(_) => Duration::ZERO,
        }
    }

    pub(super) fn limit_frames(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
        match &mut self.carrier {
            Carrier::Socket(socket) => socket.limit_frames(frame_bytes_max),
            Carrier::Http(mailbox) => mailbox.limit_payloads(frame_bytes_max),
        }
    }

    pub(super) async fn finish(&mut self) {
        match &mut self.carrier {
            Carrier::Http(mailbox) => mailbox.emptied().await,
            Carrier::Socket(socket) => socket.finish().await,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Carrier::Http(mailbox) = &self.carrier {
            mailbox.leave();
        }
    }
}

impl Brought {
    fn next(&mut self) -> Option<&str> {
        let rest = self.payload.get(self.taken..)?;
        let packet = engine::packets(rest).next()?;
        self.taken += packet.len() + 1;
        Some(packet)
    }
}

/// What a frame is to a connection.
fn of_socket(packet: String) -> Incoming {
    match Packet::parse(&packet) {
        Some(Packet::Message) => Incoming::Text(packet),
        Some(Packet::Close) => Incoming::Alive,
        other => apart_from_messages(other),
    }
}

/// What a packet of a request is to a connection.
fn of_request(packet: &str) -> Incoming {
    match Packet::parse(packet) {
        Some(Packet::Message) => Incoming::Text(packet.to_owned()),
        Some(Packet::Close) => Incoming::End(None),
        other => apart_from_messages(other),
    }
}

fn apart_from_messages(packet: Option<Packet>) -> Incoming {
    match packet {
        Some(Packet::Binary) => Incoming::Binary,
        // Clients do not ask for signs of life in this revision; one that does speaks another.
        Some(Packet::Ping | Packet::Probe) | None => Incoming::End(Some(CloseReason::BadPacket)),
        Some(_) => Incoming::Alive,
    }
}
