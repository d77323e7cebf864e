//! A [`Desk`] and those who wait at it: the connection's task, a request that fetches, a request that brings.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::{
    Socket,
    desk::{Desk, Refused, Step},
};
use crate::error::CloseReason;

/// Where a session over HTTP and its requests meet.
pub struct Mailbox {
    // Held for a few moves only.
    shared: Mutex<Shared>,
}

struct Shared {
    desk: Desk<Box<Socket>>,
    payload_bytes_max: usize,
    connection: Option<Waker>,
    poll: Option<Waker>,
    post: Option<Waker>,
}

impl Mailbox {
    /// Begins a session; `open` is the first packet, and `payload_bytes_max` bounds what a request may bring.
    #[must_use]
    pub fn new(open: String, payload_bytes_max: usize) -> Arc<Self> {
        let desk = Desk::new(open);
        let shared = Shared { desk, payload_bytes_max, connection: None, poll: None, post: None };
        Arc::new(Self { shared: Mutex::new(shared) })
    }

    /// Whether requests should be told that there is no such session.
    pub fn is_over(&self) -> bool {
        self.shared.lock().desk.is_over()
    }

    /// Whether the session has moved to a WebSocket.
    pub fn has_moved(&self) -> bool {
        self.shared.lock().desk.has_moved()
    }

    /// Bytes that a request may bring.
    pub fn payload_bytes_max(&self) -> usize {
        self.shared.lock().payload_bytes_max
    }

    /// Ends the session for a fault of the client.
    pub fn end(&self, reason: Option<CloseReason>) {
        self.with(|desk| desk.end(reason));
    }

    /// A request wants to fetch.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn poll(self: &Arc<Self>) -> Result<Fetching, Refused> {
        self.with(Desk::begin_poll)?;
        Ok(Fetching { mailbox: Arc::clone(self), answered: false })
    }

    /// A request wants to bring a payload.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn post(self: &Arc<Self>) -> Result<Bringing, Refused> {
        self.with(Desk::begin_post)?;
        Ok(Bringing { mailbox: Arc::clone(self), ended: false })
    }

    /// A WebSocket wants to try whether the session could move to it; `None` when another one does, or did.
    pub fn probe(self: &Arc<Self>) -> Option<Probing> {
        self.with(Desk::begin_probe).then(|| Probing { mailbox: Arc::clone(self) })
    }

    pub(super) fn limit_payloads(&self, payload_bytes_max: usize) {
        self.shared.lock().payload_bytes_max = payload_bytes_max;
    }

    pub(super) fn send(&self, packet: String) {
        // Whoever fetches is woken by the next look, so that what is sent together goes together.
        self.shared.lock().desk.send(packet);
    }

    pub(super) fn has_room(&self) -> bool {
        self.shared.lock().desk.has_room()
    }

    pub(super) fn poll_step(&self, context: &mut Context<'_>, want_read: bool) -> Poll<Step<Box<Socket>>> {
        let mut shared = self.shared.lock();
        if let Some(step) = shared.desk.step(want_read) {
            return Poll::Ready(step);
        }
        shared.connection = Some(context.waker().clone());
        if !shared.desk.is_empty() {
            wake(&mut shared.poll);
        }
        Poll::Pending
    }

    pub(super) fn done(&self) {
        self.with(Desk::done);
    }

    /// Waits until everything was fetched.
    pub(super) async fn emptied(&self) {
        poll_fn(|context| {
            let mut shared = self.shared.lock();
            shared.connection = Some(context.waker().clone());
            wake(&mut shared.poll);
            if shared.desk.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    pub(super) fn leave(&self) {
        self.with(Desk::leave);
    }

    /// Changes something, and wakes everybody to look at it.
    fn with<T>(&self, change: impl FnOnce(&mut Desk<Box<Socket>>) -> T) -> T {
        let mut shared = self.shared.lock();
        let result = change(&mut shared.desk);
        wake(&mut shared.connection);
        wake(&mut shared.poll);
        wake(&mut shared.post);
        result
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// A request that fetches. Whoever drops it unanswered has gone, and the session with them.
pub struct Fetching {
    mailbox: Arc<Mailbox>,
    answered: bool,
}

impl Fetching {
    /// Waits for packets.
    pub async fn packets(&mut self) -> Vec<String> {
        let packets = poll_fn(|context| {
            let mut shared = self.mailbox.shared.lock();
            let packets = shared.desk.fetch();
            match &packets {
                Some(_) => wake(&mut shared.connection),
                None => shared.poll = Some(context.waker().clone()),
            }
            packets.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        self.answered = true;
        packets
    }

    /// The request is to be answered now, with nothing when there is nothing.
    pub fn release(&self) {
        self.mailbox.with(Desk::release);
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if !self.answered {
            self.mailbox.with(Desk::abandon_poll);
        }
    }
}

/// A request that brings a payload. Whoever drops it before the payload is there has gone, and the session with them.
pub struct Bringing {
    mailbox: Arc<Mailbox>,
    ended: bool,
}

impl Bringing {
    /// Gives the payload to the connection as soon as it has no other one.
    ///
    /// # Errors
    ///
    /// When the session has ended or moved meanwhile.
    pub async fn bring(mut self, mut payload: String) -> Result<(), Refused> {
        let brought = poll_fn(|context| {
            let mut shared = self.mailbox.shared.lock();
            let brought = shared.desk.bring(&mut payload);
            match &brought {
                Some(_) => wake(&mut shared.connection),
                None => shared.post = Some(context.waker().clone()),
            }
            brought.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        self.ended = true;
        brought
    }

    /// Waits until the session ends or moves.
    pub async fn ended(&self) {
        poll_fn(|context| {
            let mut shared = self.mailbox.shared.lock();
            shared.post = Some(context.waker().clone());
            if shared.desk.is_over() || shared.desk.has_moved() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The request is refused for itself; the session goes on.
    pub fn refuse(mut self) {
        self.mailbox.with(Desk::refuse_post);
        self.ended = true;
    }
}

impl Drop for Bringing {
    fn drop(&mut self) {
        if !self.ended {
            self.mailbox.with(Desk::abandon_post);
        }
    }
}

/// A WebSocket to which a session may move.
pub struct Probing {
    mailbox: Arc<Mailbox>,
}

impl Probing {
    /// Whoever fetches is to be answered, so that the client can stop fetching.
    pub fn release_poll(&self) {
        self.mailbox.with(Desk::release);
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.mailbox.is_over()
    }

    /// Moves the session, or gives the WebSocket back when it has ended.
    ///
    /// # Errors
    ///
    /// The WebSocket.
    pub fn arrive(&self, socket: Box<Socket>) -> Result<(), Box<Socket>> {
        self.mailbox.with(|desk| desk.arrive(socket))
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.mailbox.with(Desk::end_probe);
    }
}
