//! Tables whose policies decide: each event is judged as each party before anybody gets it.
//!
//! A [room](room) for each relation stands between the hub and those who are judged; a [sitting](sitting) serves it over
//! a session that knows who is there. [Pages] judge what those who come back have missed. Policies are people's code:
//! what has no end for one party costs that party its verdict, and nobody else more than the deadline.

mod pages;
mod room;
mod search;
mod seats;
mod sitting;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::warn;

use pages::Pages;
#[cfg(test)]
pub(crate) use room::{Case, Room};
pub use seats::{Rooms, Seat};
use sitting::Sitting;

use crate::{
    denials::{Denial, Denials, What},
    hub::{Hub, Page, PageLimits},
    metrics::Metrics,
    model::{Party, Refusal, Relation},
    postgres::{Database, Error},
    quarantine::Quarantine,
    tasks::Tasks,
};

/// What may wait to be judged of one relation.
const INBOX_MAX: PageLimits = PageLimits { events: 10_000, bytes: 16 << 20 };

/// Who behaves for so long, beyond what it had to wait, is judged with all the others again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Has events judged.
pub struct Court {
    bench: Arc<Bench>,
    rooms: Arc<Rooms>,
    pages: Pages,
    tasks: Tasks,
}

/// What every judgement needs.
struct Bench {
    database: Arc<Database>,
    metrics: Arc<Metrics>,
    denials: Arc<Denials>,
    /// How long the policies of a table may take for one party.
    deadline: Duration,
    quarantine: Mutex<Quarantine<(u32, Party)>>,
}

/// Why there is no verdict.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JudgeError {
    /// The policies had no end for this party, or ended the session: it is not judged for so long.
    #[error("the policies of the table take too long, or end their session")]
    Held(Duration),
    /// The log moved under the judgement: ask again.
    #[error("the log moved under a judgement")]
    Moved,
    /// The log was not read yet.
    #[error("the log was not read yet")]
    TooEarly,
    /// There is no answer.
    #[error("no verdict: {}", .0.chain())]
    Unavailable(Arc<Error>),
}

impl Court {
    /// Judges what this hub gives; the policies of a table may take `deadline` for one party. Rooms are served by `tasks`.
    #[must_use]
    pub fn new(
        hub: &Arc<Hub>,
        database: Arc<Database>,
        denials: Arc<Denials>,
        metrics: Arc<Metrics>,
        deadline: Duration,
        pool_size: usize,
        tasks: Tasks,
    ) -> Self {
        let bench = Arc::new(Bench {
            database,
            metrics,
            denials,
            deadline,
            quarantine: Mutex::new(Quarantine::new(1, |_| REMEMBERED)),
        });
        let pages = Pages::new(Arc::clone(&bench), pool_size);
        Self { bench, rooms: Arc::new(Rooms::new(Arc::clone(hub), INBOX_MAX)), pages, tasks }
    }

    /// A seat for a party where a relation is judged.
    ///
    /// # Errors
    ///
    /// When the party is not judged now, or the log was not read yet.
    pub fn seat(&self, relation: u32, party: Party) -> Result<Seat, JudgeError> {
        if let Some(wait) = self.bench.holds(relation, &party) {
            return Err(JudgeError::Held(wait));
        }
        let (seat, opened) = self.rooms.seat(relation, party).ok_or(JudgeError::TooEarly)?;
        if let Some(opened) = opened {
            let sitting = Sitting { room: opened.room, bench: Arc::clone(&self.bench) };
            self.tasks.spawn(sitting.run(opened.closed, self.tasks.stopping()));
        }
        Ok(seat)
    }

    /// A page with what a party sees of it.
    ///
    /// # Errors
    ///
    /// Why nobody can say.
    pub async fn judge(&self, relation: u32, party: &Party, page: Page) -> Result<Page, JudgeError> {
        self.pages.judge(relation, party, page).await
    }
}

impl Bench {
    /// There is no verdict for a party on a row of a table, because a policy raised an error.
    fn failed(&self, relation: &Relation, party: &Party, sqlstate: &str) {
        self.denials.note(&Denial {
            what: What::Row,
            reason: Refusal::PolicyFailed(sqlstate.into()).label(),
            sqlstate: Some(sqlstate),
            subject: party.subject().as_deref(),
            role: &party.role,
            channel: &relation.channel(),
        });
    }

    /// The policies had no end for a party, or ended the session.
    fn strike(&self, relation: u32, party: &Party) {
        self.metrics.judgements_ended.inc();
        warn!(relation, role = %party.role, subject = party.subject(), "the policies of a table take too long or end their session for somebody: judged alone");
        let (mut quarantine, now) = (self.quarantine.lock(), Instant::now());
        quarantine.forget(now);
        quarantine.add((relation, party.clone()), now);
    }

    fn suspects(&self, relation: u32, party: &Party) -> bool {
        self.quarantine.lock().suspects(&(relation, party.clone()), Instant::now())
    }

    fn holds(&self, relation: u32, party: &Party) -> Option<Duration> {
        self.quarantine.lock().holds(&(relation, party.clone()), Instant::now())
    }
}
