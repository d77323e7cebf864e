//! What a session over HTTP has in between: packets to be fetched, a payload that was brought, and the WebSocket to which
//! it moves. Pure, so that a model test reaches every order of requests.
//!
//! At most one request fetches and one brings at a time. Whatever was given to one request is given to no other, and
//! what nobody has fetched goes along when the session moves.

use crate::{error::CloseReason, protocol::engine};

/// Packets are taken while fewer bytes than this wait to be fetched; as for a socket, one more may come.
const OUT_BYTES: usize = 64 * 1024;

/// So many packets go with one answer. Clients limit what they accept, as servers do: python-engineio ends a session
/// whose answer holds more.
const PACKETS_MAX: usize = 16;

/// The desk between one connection and the requests of its client. `S` is a WebSocket.
#[derive(Debug)]
pub(super) struct Desk<S> {
    out: Vec<String>,
    out_bytes: usize,
    /// Something was fetched since the connection last looked.
    fetched: bool,
    /// A payload that the connection has not seen.
    brought: Option<String>,
    /// The connection works on a payload.
    busy: bool,
    polling: bool,
    /// Whoever fetches is to be answered although there is nothing.
    released: bool,
    posting: bool,
    probing: bool,
    place: Place<S>,
    /// Why the client's side of the session has ended.
    fault: Option<Option<CloseReason>>,
    /// The connection has gone.
    over: bool,
}

#[derive(Debug)]
enum Place<S> {
    Http,
    /// The connection has not taken the WebSocket over yet.
    Moving(S),
    Elsewhere,
}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is one of its kind already; the session ends.
    Overlap,
    /// The session has moved to a WebSocket, or ended.
    Elsewhere,
}

/// What the connection is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<S> {
    /// Go on over a WebSocket, with what was not fetched and what was not seen yet.
    Moved { socket: S, out: Vec<String>, brought: Option<String> },
    /// There is room again.
    Fetched,
    /// A payload; the next one waits for [`Desk::done`].
    Brought(String),
    /// The session is to be closed, or when `None` it is closed.
    End(Option<CloseReason>),
}

impl<S> Desk<S> {
    pub(super) fn new(open: String) -> Self {
        let mut desk = Self {
            out: Vec::new(),
            out_bytes: 0,
            fetched: false,
            brought: None,
            busy: false,
            polling: false,
            released: false,
            posting: false,
            probing: false,
            place: Place::Http,
            fault: None,
            over: false,
        };
        desk.send(open);
        desk
    }

    /// Adds a packet.
    pub(super) fn send(&mut self, packet: String) {
        self.out_bytes += packet.len();
        self.out.push(packet);
    }

    pub(super) fn has_room(&self) -> bool {
        self.out_bytes < OUT_BYTES
    }

    /// Whether nothing waits to be fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What the connection is to do next. Without `want_read` nothing new is given to it.
    pub(super) fn step(&mut self, want_read: bool) -> Option<Step<S>> {
        if matches!(self.place, Place::Moving(_)) {
            return self.moved();
        }
        if std::mem::take(&mut self.fetched) {
            return Some(Step::Fetched);
        }
        if self.busy {
            return None;
        }
        if self.brought.is_some() {
            self.busy = want_read;
            return self.brought.take_if(|_| want_read).map(Step::Brought);
        }
        self.fault.map(Step::End)
    }

    fn moved(&mut self) -> Option<Step<S>> {
        let Place::Moving(socket) = std::mem::replace(&mut self.place, Place::Elsewhere) else {
            return None;
        };
        self.out_bytes = 0;
        Some(Step::Moved { socket, out: std::mem::take(&mut self.out), brought: self.brought.take() })
    }

    /// The connection has seen all of a payload.
    pub(super) fn done(&mut self) {
        self.busy = false;
    }

    /// The connection goes; whoever waits is to be sent away.
    pub(super) fn leave(&mut self) {
        self.over = true;
    }

    /// Whether requests of this session should be told that there is none.
    pub(super) fn is_over(&self) -> bool {
        self.over || self.fault.is_some()
    }

    /// Whether the session is over a WebSocket.
    pub(super) fn has_moved(&self) -> bool {
        !matches!(self.place, Place::Http)
    }

    fn check(&mut self, overlaps: bool) -> Result<(), Refused> {
        if self.is_over() || self.has_moved() {
            return Err(Refused::Elsewhere);
        }
        if overlaps {
            self.end(Some(CloseReason::BadPacket));
            return Err(Refused::Overlap);
        }
        Ok(())
    }

    /// Ends the client's side; the first reason stays.
    pub(super) fn end(&mut self, reason: Option<CloseReason>) {
        self.fault.get_or_insert(reason);
    }

    /// A request wants to fetch.
    pub(super) fn begin_poll(&mut self) -> Result<(), Refused> {
        self.check(self.polling)?;
        self.polling = true;
        Ok(())
    }

    /// The answer of the request that fetches, when there is one.
    pub(super) fn fetch(&mut self) -> Option<Vec<String>> {
        let has_packets = !self.out.is_empty() && !self.has_moved();
        if !has_packets && !self.released && !self.over && !self.has_moved() {
            return None;
        }
        self.polling = false;
        self.released = false;
        if !has_packets {
            return Some(vec![engine::NOOP.to_owned()]);
        }
        self.fetched = true;
        let packets: Vec<String> = self.out.drain(..self.out.len().min(PACKETS_MAX)).collect();
        self.out_bytes -= packets.iter().map(String::len).sum::<usize>();
        Some(packets)
    }

    /// Whoever fetches is to be answered now.
    pub(super) fn release(&mut self) {
        self.released = self.polling;
    }

    /// The request that fetches has gone before it was answered.
    pub(super) fn abandon_poll(&mut self) {
        self.polling = false;
        self.end(None);
    }

    /// A request wants to bring a payload.
    pub(super) fn begin_post(&mut self) -> Result<(), Refused> {
        self.check(self.posting)?;
        self.posting = true;
        Ok(())
    }

    /// Takes a payload, or leaves it where it is while the connection has another one.
    pub(super) fn bring(&mut self, payload: &mut String) -> Option<Result<(), Refused>> {
        if self.is_over() || self.has_moved() {
            self.posting = false;
            return Some(Err(Refused::Elsewhere));
        }
        if self.busy || self.brought.is_some() {
            return None;
        }
        self.posting = false;
        self.brought = Some(std::mem::take(payload));
        Some(Ok(()))
    }

    /// The request that brings has gone before its payload was there.
    pub(super) fn abandon_post(&mut self) {
        self.posting = false;
        self.end(None);
    }

    /// The request that brings was refused for itself; the session goes on.
    pub(super) fn refuse_post(&mut self) {
        self.posting = false;
    }

    /// A WebSocket wants to try whether the session could move to it; `false` when another one does, or did.
    pub(super) fn begin_probe(&mut self) -> bool {
        let may = !self.probing && !self.is_over() && !self.has_moved();
        self.probing |= may;
        may
    }

    pub(super) fn end_probe(&mut self) {
        self.probing = false;
    }

    /// Moves the session, or gives the WebSocket back.
    pub(super) fn arrive(&mut self, socket: S) -> Result<(), S> {
        if self.is_over() || self.has_moved() {
            return Err(socket);
        }
        self.place = Place::Moving(socket);
        Ok(())
    }
}
