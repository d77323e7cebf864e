//! The one reader of the log: wakes up, reads on from its cursor, hands batches to the hub.
//!
//! A bell only says "look now": losing one costs at most the poll interval. What cannot be read is asked for again, for
//! ever, and never skipped. The reader watches who ticks; where nobody does, or does not get on, it asks its own ticker.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    config::Timing,
    hub::{Batch, Hub},
    metrics::Metrics,
    model::{Event, EventKind, Offset},
    postgres::{
        Backoff, Database, Error, Session,
        log::{self, CONTRACT_VERSIONS, Query, Read, ReadError, Reading},
    },
    ticker::Demand,
};

/// What is read at once.
const EVENTS_MAX: usize = 1000;
const BYTES_MAX: usize = 1 << 20;
/// How far back memory is filled at a start, in offsets, and how many pages that may take.
const LOOK_BACK: i64 = 5_000;
const LOOK_BACK_PAGES_MAX: usize = 16;
/// How often it is asked who ticks.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// A worker whose oldest event has waited for longer is not getting on.
const WORKER_LAG_MS_MAX: f64 = 1000.0;
/// How often it is looked whether the reader can have a session of its own.
const OWN_SESSION_EVERY: Duration = Duration::from_millis(200);
/// How long the start waits for a tick. A server that waits for a standby makes none, and what is readable is read.
const FIRST_TICK_MAX: Duration = Duration::from_secs(1);

/// The reader.
pub struct Reader {
    database: Arc<Database>,
    hub: Arc<Hub>,
    bell: Arc<Notify>,
    metrics: Arc<Metrics>,
    timing: Timing,
    backoff: Backoff,
    ticker: Demand,
    cursor: Option<Offset>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the extension speaks contract {0}, this sidecar speaks {CONTRACT_VERSIONS:?}: install versions that fit")]
    Contract(i32),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        Self::Read(error.into())
    }
}

impl Reader {
    /// Reads for this hub; `bell` rings when there may be something, `ticker` works when nobody else does.
    #[must_use]
    pub fn new(
        database: Arc<Database>,
        hub: Arc<Hub>,
        bell: Arc<Notify>,
        metrics: Arc<Metrics>,
        timing: Timing,
        backoff: Backoff,
        ticker: Demand,
    ) -> Self {
        Self { database, hub, bell, metrics, timing, backoff, ticker, cursor: None }
    }

    /// Reads until `stop` fires.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = self.session() => result,
            };
            if let Err(error) = result {
                self.report(&error);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.backoff.next_wait()) => (),
            }
        }
    }

    fn report(&self, problem: &SessionError) {
        let is_news = self.hub.is_database_up() || self.cursor.is_none();
        self.hub.set_database(false);
        self.metrics.database_up.set(0);
        self.metrics.reconnects.inc("reader");
        match problem {
            SessionError::Read(ReadError::Postgres(lost)) if is_news => {
                warn!(error = lost.chain(), "the log cannot be read now: trying until it can");
            }
            SessionError::Read(ReadError::Postgres(lost)) => debug!(error = lost.chain(), "the log cannot be read yet"),
            SessionError::Read(broken) => {
                self.metrics.read_errors.inc();
                error!(error = broken.chain(), "delivery stands still until the log can be read as it was announced");
            }
            SessionError::Contract(_) => error!(error = %problem, "delivery stands still"),
        }
    }

    /// Reads until something fails: over one of the pool's sessions, and over one of its own as soon as there is a way past
    /// the poolers.
    async fn session(&mut self) -> Result<(), SessionError> {
        let database = Arc::clone(&self.database);
        let pooled = Session::open(&database).await?;
        self.start(&pooled).await?;
        let own = self.follow(&Reading::over(&pooled), own_session(&database, Arc::clone(&self.metrics))).await?;
        drop(pooled);
        debug!("reading over a session of its own");
        let reading = Reading::prepared(&own).await?;
        self.follow(&reading, std::future::pending()).await.map(drop)
    }

    async fn start(&mut self, session: &Session<'_>) -> Result<(), SessionError> {
        let version = log::contract_version(session).await?;
        if !CONTRACT_VERSIONS.contains(&version) {
            return Err(SessionError::Contract(version));
        }
        let has_worker = self.status(session).await?;
        // The first tick ever writes the marker that everything begins at.
        self.ticker.one_turn(FIRST_TICK_MAX).await;
        self.ticker.set(!has_worker);
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.begin(session).await?,
        };
        info!(offset = %cursor, has_worker, "reading the log");
        self.caught_up();
        Ok(())
    }

    /// Reads on until there is a better session.
    async fn follow<'a>(
        &mut self,
        reading: &Reading<'_>,
        better: impl Future<Output = Session<'a>>,
    ) -> Result<Session<'a>, SessionError> {
        let mut better = pin!(better);
        let mut status_at = Instant::now() + STATUS_EVERY;
        loop {
            self.read_all(reading).await?;
            self.backoff.reset();
            if Instant::now() >= status_at {
                let has_worker = self.status(reading.session()).await?;
                self.ticker.set(!has_worker);
                status_at = Instant::now() + STATUS_EVERY;
            }
            tokio::select! {
                session = better.as_mut() => return Ok(session),
                () = self.wait() => (),
            }
        }
    }

    async fn begin(&mut self, session: &Session<'_>) -> Result<Offset, SessionError> {
        let head = log::head(session).await?;
        let newest = look_back(session, head).await?;
        let after = newest.first().map_or(head, |batch| batch.after);
        let head = newest.last().map_or(head, |batch| batch.until);
        self.hub.start(after, newest);
        self.cursor = Some(head);
        Ok(head)
    }

    fn caught_up(&self) {
        self.metrics.database_up.set(1);
        self.metrics.caught_up.set(1);
        self.hub.set_database(true);
    }

    /// Whether a worker ticks. One that is missing is started, but only counts once it is seen; one that is there but
    /// does not get on is helped: ticks are serialised, so two who tick do no harm.
    async fn status(&self, session: &Session<'_>) -> Result<bool, Error> {
        let (frames, bytes) = self.hub.queued();
        self.metrics.queue_frames.set(gauge(frames));
        self.metrics.queue_bytes.set(gauge(bytes));
        let status = log::status(session).await?;
        self.metrics.log_bytes.set(status.log_bytes);
        self.metrics.tick_lag_seconds.set(status.lag_ms / 1e3);
        if !status.has_worker {
            log::start_worker(session).await?;
        }
        let has_worker = status.has_worker && status.lag_ms < WORKER_LAG_MS_MAX;
        if self.metrics.worker_up.set(i64::from(has_worker)) != i64::from(has_worker) {
            info!(has_worker, lag_ms = status.lag_ms, "who makes commits readable has changed");
        }
        Ok(has_worker)
    }

    async fn read_all(&mut self, reading: &Reading<'_>) -> Result<(), ReadError> {
        loop {
            let Some(after) = self.cursor else {
                return Ok(());
            };
            let started = Instant::now();
            let query = Query { after, events_max: EVENTS_MAX, bytes_max: BYTES_MAX, topic: None };
            let read = match reading.read(query).await {
                Err(ReadError::Moved) => continue,
                read => read?,
            };
            self.metrics.read_seconds.observe(started.elapsed().as_secs_f64());
            let at_end = read.until >= read.head;
            self.deliver(after, read);
            if at_end {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, mut after: Offset, read: Read) {
        if let Some(gap) = read.gap {
            warn!(reason = gap.reason.as_str(), from = %gap.from, to = %gap.to, "a part of the log cannot be had");
            self.hub.publish_break(gap);
            after = gap.to;
        }
        self.count(&read.events);
        self.metrics.head_offset.set(read.head.get());
        let until = read.until;
        if until != after || !read.events.is_empty() {
            self.hub.publish(Batch { after, events: read.events, until });
        }
        self.cursor = Some(until);
        self.metrics.cursor_offset.set(until.get());
        self.metrics.recent_bytes.set(gauge(self.hub.recent_bytes()));
    }

    fn count(&self, events: &[Event]) {
        for event in events {
            self.metrics.events_read.inc(word(&event.kind));
        }
        if let Some(newest) = events.last() {
            let age = SystemTime::now().duration_since(newest.at.0).unwrap_or_default();
            self.metrics.lag_seconds.set(age.as_secs_f64());
        }
    }

    async fn wait(&self) {
        tokio::select! {
            () = self.bell.notified() => (),
            () = tokio::time::sleep(Duration::from_millis(self.timing.poll_ms)) => (),
        }
    }
}

/// A session past the poolers, once notifications say that there is a way. Meanwhile there is another to read over.
async fn own_session(database: &Database, metrics: Arc<Metrics>) -> Session<'_> {
    loop {
        tokio::time::sleep(OWN_SESSION_EVERY).await;
        if metrics.listener_up.get() == 1 {
            match Session::reading(database).await {
                Ok(session) => return session,
                Err(error) => debug!(error = error.chain(), "no session of the reader's own yet"),
            }
        }
    }
}

/// The newest events before the head. When a sidecar has gone, everybody comes back to the next one at once, and wants
/// what was written meanwhile: without these each would ask the log.
async fn look_back(session: &Session<'_>, head: Offset) -> Result<Vec<Batch>, SessionError> {
    let mut after = Offset::new(head.get().saturating_sub(LOOK_BACK)).unwrap_or(Offset::ZERO);
    let mut newest = Vec::new();
    for _ in 0..LOOK_BACK_PAGES_MAX {
        let query = Query { after, events_max: EVENTS_MAX, bytes_max: BYTES_MAX, topic: None };
        let read = match log::read(session, query).await {
            Err(ReadError::Moved) => continue,
            read => read?,
        };
        if let Some(gap) = read.gap {
            // Before the log's beginning, or in a hole: it is looked back to there and no further.
            newest.clear();
            after = gap.to;
        }
        newest.push(Batch { after, events: read.events, until: read.until });
        after = read.until;
        if after >= read.head {
            return Ok(newest);
        }
    }
    // Large events: it would take long, and memory would hold few of them.
    Ok(Vec::new())
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn word(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Row(change) => change.op.as_str(),
        EventKind::Truncate(_) => "TRUNCATE",
        EventKind::Message(_) => "MESSAGE",
        EventKind::Unjudged(_) => "GAP",
        EventKind::Nothing => "NOTHING",
    }
}
