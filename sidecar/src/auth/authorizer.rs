//! Who may listen to what, asked of the database, and asked again while somebody listens.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    hub::{Note, Outbox, SubscriberId},
    model::{Channel, Grant, Identity, Refusal},
    postgres::{
        Database, Error,
        authorize::{Answer, Question, answers, may_subscribe},
    },
};

/// Questions asked in one statement. More would make one slow policy delay many verdicts.
const BATCH: usize = 100;
/// A policy that takes longer denies.
const DEADLINE: Duration = Duration::from_secs(2);
/// For how long a question that had no end is not asked again.
const PENALTY: Duration = Duration::from_secs(10);
/// Judging again may take this part of one database session at most: with very many subscriptions it takes longer than
/// the configured time rather than more of the database.
const IDLE_PER_BUSY: u32 = 1;

/// Asks the database, and keeps asking for everybody who listens.
pub struct Authorizer {
    database: Arc<Database>,
    recheck: Duration,
    // Slow policies may never take all connections: publishing and replaying need some too.
    permits: Semaphore,
    // Never held across an await.
    watched: Mutex<HashMap<Question, Watched>>,
    /// Questions that had no end, and when that was seen.
    penalties: Mutex<HashMap<Question, Instant>>,
}

struct Watched {
    /// What the watchers believe; `None` when they may believe different things.
    answer: Option<Arc<Grant>>,
    judged_at: Instant,
    watchers: HashMap<SubscriberId, Arc<Outbox>>,
}

/// Why there is no grant.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The database refused.
    #[error("refused")]
    Refused(Refusal),
    /// The database gave no verdict.
    #[error(transparent)]
    Unavailable(Error),
}

impl Authorizer {
    /// Judges again every `recheck`; new subscriptions use at most a quarter of the pool.
    #[must_use]
    pub fn new(database: Arc<Database>, recheck: Duration, pool_size: usize) -> Self {
        Self {
            database,
            recheck,
            permits: Semaphore::new((pool_size / 4).max(1)),
            watched: Mutex::default(),
            penalties: Mutex::default(),
        }
    }

    /// Whether this identity may listen to this channel. A verdict that is still being watched is used again: a crowd
    /// that comes back at once with one identity costs one question.
    ///
    /// # Errors
    ///
    /// When it may not, or nobody can say.
    pub async fn grant(&self, identity: &Identity, channel: &Channel) -> Result<Arc<Grant>, GrantError> {
        let question = Question::new(identity, channel.clone());
        if let Some(known) = self.known(&question) {
            return known;
        }
        // Only message channels run people's policies; tables are looked up in the catalog.
        let _permit = match channel {
            Channel::Table(_) => None,
            Channel::Messages(_) => Some(self.permits.acquire().await),
        };
        // Somebody may have asked the same while this one waited.
        match self.known(&question) {
            Some(known) => known,
            None => self.judge(&question).await,
        }
    }

    /// What is known without asking: a verdict under watch, or that there was none in time a moment ago.
    fn known(&self, question: &Question) -> Option<Result<Arc<Grant>, GrantError>> {
        if self.penalties.lock().get(question).is_some_and(|since| since.elapsed() < PENALTY) {
            return Some(Err(GrantError::Refused(Refusal::Forbidden)));
        }
        let watched = self.watched.lock();
        let known = watched.get(question).filter(|it| it.judged_at.elapsed() <= self.recheck)?;
        known.answer.clone().map(Ok)
    }

    async fn judge(&self, question: &Question) -> Result<Arc<Grant>, GrantError> {
        match may_subscribe(&self.database, std::slice::from_ref(question), DEADLINE).await {
            Ok(mut answers) => {
                let answer = answers.pop().unwrap_or(Err(Refusal::Forbidden));
                answer.map_err(GrantError::Refused)
            }
            Err(error) if self.is_verdict(&error).await => {
                warn!(channel = %question.channel.name(), error = error.chain(), "a policy failed: subscription denied");
                if matches!(error, Error::Deadline(_)) {
                    self.penalties.lock().insert(question.clone(), Instant::now());
                }
                Err(GrantError::Refused(Refusal::Forbidden))
            }
            Err(error) => Err(GrantError::Unavailable(error)),
        }
    }

    /// Whether a policy is to blame, by failing or by never ending: no verdict means no. Otherwise the server itself is
    /// in trouble, and nobody's rights have changed.
    async fn is_verdict(&self, error: &Error) -> bool {
        match error {
            Error::Deadline(_) => answers(&self.database, DEADLINE).await,
            _ => is_refusal(error),
        }
    }

    /// Judges again for as long as the watch is kept, and notes to `outbox` what changes.
    #[must_use]
    pub fn watch(
        self: &Arc<Self>,
        question: Question,
        grant: &Arc<Grant>,
        subscriber: SubscriberId,
        outbox: &Arc<Outbox>,
    ) -> Watch {
        let mut watched = self.watched.lock();
        let fresh = || Watched { answer: Some(Arc::clone(grant)), judged_at: Instant::now(), watchers: HashMap::new() };
        let entry = watched.entry(question.clone()).or_insert_with(fresh);
        if entry.answer.as_ref() != Some(grant) {
            entry.answer = None;
        }
        entry.watchers.insert(subscriber, Arc::clone(outbox));
        Watch { authorizer: Arc::clone(self), question, subscriber }
    }

    /// Judges everything that is watched, again and again, until `stop` fires.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let started = Instant::now();
            let questions: Vec<Question> = self.watched.lock().keys().cloned().collect();
            for batch in questions.chunks(BATCH) {
                if stop.is_cancelled() {
                    return;
                }
                self.judge_batch(batch).await;
            }
            self.penalties.lock().retain(|_, since| since.elapsed() < PENALTY);
            let busy = started.elapsed();
            // A right that is lost just after it was judged is found by the next round, which must begin and end in time.
            let idle = (self.recheck * 3 / 4).saturating_sub(busy).max(busy * IDLE_PER_BUSY);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(idle) => (),
            }
        }
    }

    async fn judge_batch(&self, batch: &[Question]) {
        match may_subscribe(&self.database, batch, DEADLINE).await {
            Ok(answers) => batch.iter().zip(answers).for_each(|(question, answer)| self.apply(question, answer)),
            Err(error) if self.is_verdict(&error).await => {
                for question in batch {
                    self.judge_alone(question).await;
                }
            }
            // Nobody can say: those who listen keep listening, and nothing can come to them without the database.
            Err(error) => debug!(error = error.chain(), "rights could not be looked at"),
        }
    }

    async fn judge_alone(&self, question: &Question) {
        match self.judge(question).await {
            Ok(grant) => self.apply(question, Ok(grant)),
            Err(GrantError::Refused(refusal)) => self.apply(question, Err(refusal)),
            Err(GrantError::Unavailable(error)) => debug!(error = error.chain(), "rights could not be looked at"),
        }
    }

    fn apply(&self, question: &Question, answer: Answer) {
        let mut watched = self.watched.lock();
        let Some(entry) = watched.get_mut(question) else {
            return;
        };
        match answer {
            Ok(grant) => entry.confirm(&grant),
            Err(refusal) => {
                info!(channel = %question.channel.name(), role = %question.role, ?refusal, "a right was lost");
                entry.tell(|subscriber| Note::Revoked { subscriber, refusal: refusal.clone() });
                watched.remove(question);
            }
        }
    }
}

impl Watched {
    fn confirm(&mut self, grant: &Arc<Grant>) {
        self.judged_at = Instant::now();
        if self.answer.as_ref() == Some(grant) {
            return;
        }
        self.answer = Some(Arc::clone(grant));
        self.tell(|subscriber| Note::Regranted { subscriber, grant: Arc::clone(grant) });
    }

    fn tell(&self, note: impl Fn(SubscriberId) -> Note) {
        for (&subscriber, outbox) in &self.watchers {
            outbox.note(note(subscriber));
        }
    }
}

/// Whether the server answered, if only by failing.
fn is_refusal(error: &Error) -> bool {
    const TROUBLE: [&str; 6] = ["08", "53", "57", "58", "XX", "40"];
    error.sqlstate().is_some_and(|state| !TROUBLE.iter().any(|class| state.code().starts_with(class)))
}

/// Keeps a verdict under watch until it is dropped.
pub struct Watch {
    authorizer: Arc<Authorizer>,
    question: Question,
    subscriber: SubscriberId,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.authorizer.watched.lock();
        let Some(entry) = watched.get_mut(&self.question) else {
            return;
        };
        entry.watchers.remove(&self.subscriber);
        if entry.watchers.is_empty() {
            watched.remove(&self.question);
        }
    }
}
