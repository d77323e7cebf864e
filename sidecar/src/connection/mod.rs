//! One connection: one task that owns the link, the queue and the subscriptions.
//!
//! The task never waits for one thing alone: the link, the queue, a command in progress, a page of a replay and the
//! clock are waited for together. Commands are answered one after another, in order. What the link cannot take is
//! not made: events wait in the queue, replays in the log, commands in the network.

mod bucket;
mod clock;
mod commands;
mod deliver;
mod feed;
mod flow;
mod link;
mod lobby;
mod notes;
mod presence;
mod refusals;
mod snapshot;
mod socket;
mod subscriptions;

#[cfg(test)]
mod flow_model;
#[cfg(test)]
mod flow_tests;
#[cfg(all(test, feature = "shuttle"))]
mod flow_threads;

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::Semaphore, time::Sleep};
use tokio_util::sync::CancellationToken;

pub use link::{Bringing, Engine, Fetching, Link, Mailbox, Probing, Refused};
pub use lobby::{Visitor, lobby_frame_bytes_max, receive};
pub use socket::{Incoming, Socket, accept_key};

pub use bucket::TokenBucket;

use bucket::BadFrames;
use clock::Clock;
use commands::Outcome;
use deliver::Paged;
use flow::Flow;
use presence::Attendances;
use snapshot::Step;

use crate::{
    auth::{Authenticator, Authorizer},
    config::{Limits, Timing},
    court::Court,
    denials::Denials,
    error::{CloseReason, CommandError},
    filter::Filters,
    hub::{Attachment, Hub, Outbox, Presence, SubscriberId},
    metrics::Metrics,
    model::Identity,
    postgres::Database,
    protocol::{ClientLimits, Codec, DialectId, Hello, Notice},
    replay::{PAGE, Replay},
};

/// What every connection uses.
pub struct Services {
    /// Who gets what.
    pub hub: Arc<Hub>,
    /// Who is on which channel.
    pub presence: Arc<Presence>,
    /// Who is asking.
    pub authenticator: Arc<Authenticator>,
    /// Who may listen.
    pub authorizer: Arc<Authorizer>,
    /// Who sees what, where policies decide.
    pub court: Court,
    /// Pages of what was missed.
    pub replay: Replay,
    /// Filters that subscriptions share.
    pub filters: Filters,
    /// Turns of snapshots.
    pub snapshots: Arc<Semaphore>,
    /// Turns of those that are long in coming.
    pub slow_snapshots: Arc<Semaphore>,
    /// For publishing and snapshots.
    pub database: Arc<Database>,
    /// What was denied.
    pub denials: Arc<Denials>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Sizes and counts.
    pub limits: Limits,
    /// Times.
    pub timing: Timing,
    /// How far the clocks of token issuers may be apart from ours.
    pub leeway: Duration,
}

/// What the opening request settled.
pub struct Opening {
    /// Who the client is.
    pub identity: Identity,
    /// What it speaks.
    pub dialect: DialectId,
    /// int8 and numeric are to be sent as strings.
    pub numbers_as_text: bool,
    /// Counts the connection against its user and address.
    pub seat: Box<dyn Seat>,
}

/// A connection's place among those of its user and address, given back when dropped.
pub trait Seat: Send {
    /// Moves it to another user; `false` when that user has too many connections.
    fn change_user(&mut self, user: Option<&Arc<str>>) -> bool;
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One connection.
pub struct Connection {
    services: Arc<Services>,
    identity: Identity,
    dialect: DialectId,
    codec: Box<dyn Codec>,
    numbers_as_text: bool,
    seat: Box<dyn Seat>,
    name: String,
    link: Link,
    outbox: Arc<Outbox>,
    _attachment: Attachment,
    flow: Flow,
    attendances: Attendances,
    command: Option<BoxFuture<Outcome>>,
    page: Option<BoxFuture<(SubscriberId, Paged)>>,
    /// The next chunk of the snapshot that is being sent.
    snapshot: Option<BoxFuture<(SubscriberId, Step)>>,
    snapshot_for: Option<SubscriberId>,
    page_retry_at: Instant,
    /// There is more to send, but others had to have a turn.
    more: bool,
    bucket: TokenBucket,
    bad_frames: BadFrames,
    clock: Clock,
    closing: Option<CloseReason>,
}

/// What the task woke up for.
enum Wake {
    Socket(Incoming),
    Queue,
    Command(Box<Outcome>),
    Page(SubscriberId, Box<Paged>),
    Snapshot(SubscriberId, Box<Step>),
    Clock,
    Stop,
}

impl Connection {
    /// Takes over a link after its opening request.
    #[must_use]
    pub fn new(services: Arc<Services>, opening: Opening, link: Link, now: Instant) -> Self {
        let limits = &services.limits;
        let outbox = Arc::new(Outbox::new(limits.queue_frames_max, limits.queue_bytes_max));
        let rate = limits.messages_per_second_max as f64;
        Self {
            bucket: TokenBucket::new(rate, limits.messages_burst_max as f64, now),
            bad_frames: BadFrames::new(limits.bad_frames_max),
            clock: Clock::new(&services.timing, link.pulse(&services.timing), now),
            _attachment: services.hub.attach(&outbox),
            codec: opening.dialect.dialect().codec(),
            identity: opening.identity,
            dialect: opening.dialect,
            numbers_as_text: opening.numbers_as_text,
            seat: opening.seat,
            name: uuid::Uuid::new_v4().simple().to_string(),
            flow: Flow::new(Arc::clone(&services.hub), Arc::clone(&outbox), opening.dialect, PAGE),
            attendances: Attendances::default(),
            command: None,
            page: None,
            snapshot: None,
            snapshot_for: None,
            page_retry_at: now,
            more: false,
            closing: None,
            link,
            outbox,
            services,
        }
    }

    /// Serves the client until it goes, breaks a rule, or `stop` fires.
    pub async fn run(mut self, stop: CancellationToken) {
        self.services.metrics.connections.inc();
        self.services.metrics.connections_accepted.inc(self.dialect.dialect().name());
        self.hello();
        let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut stopping = false;
        while self.closing.is_none() {
            self.fill();
            self.arm(&mut sleep);
            match self.wake(&mut sleep, &stop, stopping).await {
                Wake::Socket(Incoming::End(None)) => break,
                Wake::Socket(incoming) => self.incoming(incoming),
                Wake::Queue => (),
                Wake::Command(outcome) => self.finish_command(*outcome),
                Wake::Page(subscriber, page) => self.paged(subscriber, *page),
                Wake::Snapshot(subscriber, step) => self.snapped(subscriber, *step),
                Wake::Clock => self.tick(),
                Wake::Stop => {
                    stopping = true;
                    self.clock.leave_within(self.leave_spread(), Instant::now());
                }
            }
        }
        // Boxed, because its space would otherwise be kept for as long as the connection lives.
        Box::pin(self.end()).await;
    }

    fn hello(&mut self) {
        let services = Arc::clone(&self.services);
        let (identity, name) = (self.identity.clone(), self.name.clone());
        self.send_notice(&Notice::Hello(Hello {
            offset: services.hub.head(),
            connection: &name,
            identity: &identity,
            heartbeat_ms: services.timing.heartbeat_ms,
            limits: client_limits(&services.limits, &identity),
        }));
        if !services.hub.is_database_up() {
            self.send_notice(&Notice::Status { up: false, offset: services.hub.head() });
        }
        self.set_expiry();
    }

    async fn wake(&mut self, sleep: &mut Pin<Box<Sleep>>, stop: &CancellationToken, stopping: bool) -> Wake {
        // A client that does not read its answers gets no more of its commands read.
        let want_read = self.command.is_none() && self.link.has_room();
        let want_snapshot = self.link.has_room();
        let want_queue = self.link.has_room() && self.flow.takes_queue();
        tokio::select! {
            incoming = self.link.next(want_read) => Wake::Socket(incoming),
            outcome = poll_option(&mut self.command) => Wake::Command(Box::new(outcome)),
            (subscriber, page) = poll_option(&mut self.page) => Wake::Page(subscriber, Box::new(page)),
            (subscriber, step) = poll_option(&mut self.snapshot), if want_snapshot => {
                Wake::Snapshot(subscriber, Box::new(step))
            }
            () = self.outbox.ready(), if want_queue => Wake::Queue,
            () = tokio::task::yield_now(), if self.more => Wake::Queue,
            () = sleep.as_mut() => Wake::Clock,
            () = stop.cancelled(), if !stopping => Wake::Stop,
        }
    }

    fn arm(&mut self, sleep: &mut Pin<Box<Sleep>>) {
        let deadline = tokio::time::Instant::from_std(self.clock.next_deadline());
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
    }

    /// Few connections leave at once, many over seconds: they all come back somewhere.
    fn leave_spread(&self) -> Duration {
        const PER_CONNECTION: Duration = Duration::from_millis(2);
        let all = u32::try_from(self.services.hub.connections()).unwrap_or(u32::MAX);
        PER_CONNECTION.saturating_mul(all).min(Duration::from_millis(self.services.timing.drain_ms) / 2)
    }

    fn send_notice(&mut self, notice: &Notice<'_>) {
        if let Some(frame) = self.codec.encode(notice) {
            self.link.send(frame);
        }
    }

    fn send_error(&mut self, error: &CommandError) {
        self.send_notice(&Notice::Error { error, reference: None, address: None });
    }

    /// When the token ends, leeway included.
    fn set_expiry(&mut self) {
        let left = self.identity.expires_at.map(|at| {
            let end = at + self.services.leeway;
            end.duration_since(SystemTime::now()).unwrap_or_default()
        });
        self.clock.expire_in(left, Instant::now());
    }

    /// Says why, and lets the client hear it.
    async fn end(mut self) {
        const FAREWELL: Duration = Duration::from_secs(2);
        let metrics = Arc::clone(&self.services.metrics);
        metrics.connections.dec();
        metrics.connections_closed.inc(self.closing.map_or("client", CloseReason::label));
        self.drop_subscriptions();
        let Some(reason) = self.closing else {
            return;
        };
        self.link.close(Some(reason));
        // A client that does not listen is not waited for.
        let _ = tokio::time::timeout(FAREWELL, self.link.finish()).await;
    }
}

/// Bytes of a frame from somebody: few of those who could be anybody, because anybody can be nobody many times.
#[must_use]
pub fn frame_bytes_max(limits: &Limits, identity: &Identity) -> usize {
    if identity.is_anonymous() {
        limits.anonymous_frame_bytes_max.min(limits.frame_bytes_max)
    } else {
        limits.frame_bytes_max
    }
}

fn client_limits(limits: &Limits, identity: &Identity) -> ClientLimits {
    let number = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    ClientLimits {
        frame_bytes: frame_bytes_max(limits, identity),
        subscriptions: limits.subscriptions_max,
        messages_per_second: number(limits.messages_per_second_max),
        messages_burst: number(limits.messages_burst_max),
    }
}

/// Waits for a future that may not be there, and takes it away when it is done.
async fn poll_option<T>(future: &mut Option<BoxFuture<T>>) -> T {
    match future {
        Some(running) => {
            let output = running.as_mut().await;
            *future = None;
            output
        }
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand idle connections are to fit into a hundred megabytes, read buffer and allocator included.
    #[test]
    fn an_idle_connection_is_small() {
        fn future_bytes<F: Future>(_: &dyn Fn(Connection, CancellationToken) -> F) -> usize {
            size_of::<F>()
        }
        assert!(future_bytes(&|connection: Connection, stop| connection.run(stop)) < 3072);
    }
}
