//! Does the worker's work where there is none: ticks, fast while there is traffic, and keeps house. Several sidecars may
//! do so at once.
//!
//! Over a session of its own. A tick may wait, for another ticker or for a standby that does not answer; what is readable
//! is read meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    config::Timing,
    metrics::Metrics,
    postgres::{Backoff, Database, Error, Session, log},
};

/// After a tick that had something it is expected for this long that more come.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// Whoever was refused lets others have their turn.
const AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// The ticker.
pub struct Ticker {
    database: Arc<Database>,
    bell: Arc<Notify>,
    metrics: Arc<Metrics>,
    timing: Timing,
    backoff: Backoff,
    is_wanted: watch::Receiver<bool>,
    turns: watch::Sender<u64>,
    busy_until: Instant,
    house_at: Instant,
    /// The last turn was refused, and that was told.
    is_refused: bool,
}

/// What asks a [`Ticker`] to work.
pub struct Demand {
    is_wanted: watch::Sender<bool>,
    turns: watch::Receiver<u64>,
}

impl Demand {
    /// From now on it ticks, or not.
    pub fn set(&self, is_wanted: bool) {
        self.is_wanted.send_if_modified(|known| std::mem::replace(known, is_wanted) != is_wanted);
    }

    /// Lets it tick once, and waits for that, but not longer than `limit`.
    pub async fn one_turn(&mut self, limit: Duration) {
        self.turns.mark_unchanged();
        self.set(true);
        // Without a turn there is only less to read.
        let _ = tokio::time::timeout(limit, self.turns.changed()).await;
    }
}

impl Ticker {
    /// A ticker, which does nothing until it is asked to; `bell` rings after each of its turns.
    #[must_use]
    pub fn new(
        database: Arc<Database>,
        bell: Arc<Notify>,
        metrics: Arc<Metrics>,
        timing: Timing,
        backoff: Backoff,
    ) -> (Self, Demand) {
        let ((wanted, is_wanted), (turns, done)) = (watch::channel(false), watch::channel(0));
        let busy_until = Instant::now();
        let house_at = busy_until + Duration::from_millis(timing.house_ms);
        let is_refused = false;
        let ticker =
            Self { database, bell, metrics, timing, backoff, is_wanted, turns, busy_until, house_at, is_refused };
        (ticker, Demand { is_wanted: wanted, turns: done })
    }

    /// Ticks while it is wanted, until `stop` fires.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => (),
            () = self.work_when_wanted() => (),
        }
    }

    async fn work_when_wanted(&mut self) {
        while self.is_wanted.wait_for(|is_wanted| *is_wanted).await.is_ok() {
            if let Err(error) = self.session().await {
                // The reader tells that the database is lost.
                debug!(error = error.chain(), "no tick can be made");
                tokio::time::sleep(self.backoff.next_wait()).await;
            }
        }
    }

    /// Ticks over one connection until it is lost, or somebody else ticks.
    async fn session(&mut self) -> Result<(), Error> {
        let database = Arc::clone(&self.database);
        let session = Session::open(&database).await?;
        while *self.is_wanted.borrow_and_update() {
            let wait = match self.turn(&session).await {
                Err(error) if error.sqlstate().is_some() => self.refused(&error),
                done => done.map(|()| self.done())?,
            };
            self.turns.send_modify(|turns| *turns += 1);
            tokio::select! {
                () = tokio::time::sleep(wait) => (),
                _ = self.is_wanted.changed() => (),
            }
        }
        Ok(())
    }

    fn done(&mut self) -> Duration {
        self.backoff.reset();
        self.is_refused = false;
        self.bell.notify_one();
        let is_busy = Instant::now() < self.busy_until;
        Duration::from_millis(if is_busy { self.timing.busy_tick_ms } else { self.timing.poll_ms })
    }

    /// Another ticker holds on, the disk is full: what is readable stays so.
    fn refused(&mut self, error: &Error) -> Duration {
        self.metrics.ticks_refused.inc();
        if std::mem::replace(&mut self.is_refused, true) {
            debug!(error = error.chain(), "no tick can be made yet");
        } else {
            warn!(error = error.chain(), "no tick can be made now: new events wait until one can");
        }
        AFTER_REFUSAL
    }

    /// What the worker would do.
    async fn turn(&mut self, session: &Session<'_>) -> Result<(), Error> {
        log::mark_lost(session).await?;
        if log::tick(session).await? {
            self.metrics.ticks.inc();
            self.busy_until = Instant::now() + BUSY_FOR;
            ring(session).await?;
        }
        self.keep_house(session).await
    }

    async fn keep_house(&mut self, session: &Session<'_>) -> Result<(), Error> {
        if Instant::now() < self.house_at {
            return Ok(());
        }
        self.house_at = Instant::now() + Duration::from_millis(self.timing.house_ms);
        match log::keep_house(session).await {
            // What the server refuses now it is asked for again; ticks do not wait for it.
            Err(error) if error.sqlstate().is_some() => {
                warn!(error = error.chain(), "retention could not be kept");
                Ok(())
            }
            kept => kept,
        }
    }
}

/// The others find by polling what they were not told: a bell that cannot ring must not cost more than that.
async fn ring(session: &Session<'_>) -> Result<(), Error> {
    match log::ring(session).await {
        Err(error) if error.sqlstate().is_some() => {
            debug!(error = error.chain(), "could not ring for the other sidecars");
            log::empty_bells(session).await
        }
        rung => rung,
    }
}
