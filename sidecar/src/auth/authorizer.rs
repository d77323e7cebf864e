//! Who may listen to what, asked of the database, and asked again while somebody listens.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::lane::Lane;
use crate::{
    hub::{Note, Outbox, SubscriberId},
    metrics::Metrics,
    model::{Channel, Grant, Refusal},
    postgres::{
        Database, Error,
        authorize::{Answer, Question, may_subscribe},
    },
    quarantine::Quarantine,
};

/// Questions asked in one statement.
const BATCH: usize = 100;
/// Judging again may take this part of one database session at most: with very many subscriptions it takes longer than
/// the configured time rather than more of the database.
const IDLE_PER_BUSY: u32 = 1;

/// Asks the database, and keeps asking for everybody who listens.
pub struct Authorizer {
    database: Arc<Database>,
    metrics: Arc<Metrics>,
    recheck: Duration,
    // Policies may never take all connections: publishing and replaying need some too.
    quick: Semaphore,
    // Slow ones wait for each other only.
    slow: Semaphore,
    // When everybody comes back, a crowd asks for the same table at once.
    tables: Semaphore,
    // When a table changes, a crowd asks at once.
    anew: Semaphore,
    // Never held across an await.
    watched: Mutex<HashMap<Question, Watched>>,
    watches: AtomicU64,
    quarantine: Mutex<Quarantine<Question>>,
    /// Rings for each lane when something has moved to it.
    moved: [Notify; Lane::COUNT],
}

struct Watched {
    /// What the watchers believe; `None` when they may believe different things.
    answer: Option<Arc<Grant>>,
    judged_at: Instant,
    watchers: HashMap<WatchId, (SubscriberId, Arc<Outbox>)>,
    lane: Lane,
}

/// Names one watch; never used twice. A subscription may watch one question twice for a moment, when its token is
/// renewed: ending the older watch must leave the newer one alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct WatchId(u64);

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
    /// Judges again every `recheck`; new subscriptions use about a quarter of the pool.
    #[must_use]
    pub fn new(database: Arc<Database>, metrics: Arc<Metrics>, recheck: Duration, pool_size: usize) -> Self {
        Self {
            database,
            metrics,
            recheck,
            quick: Semaphore::new((pool_size / 4).max(1)),
            slow: Semaphore::new(1),
            tables: Semaphore::new((pool_size / 4).max(1)),
            anew: Semaphore::new((pool_size / 4).max(1)),
            watched: Mutex::default(),
            watches: AtomicU64::new(0),
            // Forgotten after as long again as it was held.
            quarantine: Mutex::new(Quarantine::new(0, |wait| wait)),
            moved: std::array::from_fn(|_| Notify::new()),
        }
    }

    /// What is the answer: whether this identity may listen to this channel. A verdict that is still being watched is used again: a crowd
    /// that comes back at once with one identity costs one question.
    ///
    /// # Errors
    ///
    /// When it may not, or nobody can say.
    pub async fn grant(&self, question: &Question) -> Result<Arc<Grant>, GrantError> {
        if let Some(known) = self.known(question) {
            return known;
        }
        // Only message channels run people's policies; tables are looked up in the catalog.
        if let Channel::Table(_) = question.channel {
            return self.judge_when_free(&self.tables, question, Lane::Slow).await;
        }
        match self.judge_when_free(&self.quick, question, Lane::Alone).await {
            Err(GrantError::Unavailable(Error::Deadline(_) | Error::Ended(_))) => self.grant_slowly(question).await,
            verdict => verdict,
        }
    }

    /// As [`Authorizer::grant`]; whoever watches the grant does so among the slow ones from the beginning.
    async fn grant_slowly(&self, question: &Question) -> Result<Arc<Grant>, GrantError> {
        let grant = self.judge_when_free(&self.slow, question, Lane::Slow).await?;
        let slow = Watched { lane: Lane::Slow, ..Watched::new(&grant) };
        self.watched.lock().entry(question.clone()).or_insert(slow);
        Ok(grant)
    }

    /// The verdict on a table, no older than `asked`, and told to everybody who watches it: a crowd that waits for the
    /// same one costs one question.
    ///
    /// # Errors
    ///
    /// When it may not be listened to any more, or nobody can say.
    pub async fn judge_anew(&self, question: &Question, asked: Instant) -> Result<Arc<Grant>, GrantError> {
        let _permit = self.anew.acquire().await;
        let known =
            self.watched.lock().get(question).filter(|it| it.judged_at >= asked).and_then(|it| it.answer.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let verdict = self.judge(question, Lane::Slow).await;
        match &verdict {
            Ok(grant) => self.apply(question, Ok(Arc::clone(grant))),
            Err(GrantError::Refused(refusal)) => self.apply(question, Err(refusal.clone())),
            Err(GrantError::Unavailable(_)) => (),
        }
        verdict
    }

    async fn judge_when_free(
        &self,
        permits: &Semaphore,
        question: &Question,
        lane: Lane,
    ) -> Result<Arc<Grant>, GrantError> {
        let _permit = permits.acquire().await;
        // Somebody may have asked the same while this one waited.
        match self.known(question) {
            Some(known) => known,
            None => self.judge(question, lane).await,
        }
    }

    /// What is known without asking: a verdict under watch, or that there was none in time a moment ago.
    fn known(&self, question: &Question) -> Option<Result<Arc<Grant>, GrantError>> {
        if self.quarantine.lock().holds(question, Instant::now()).is_some() {
            return Some(Err(GrantError::Refused(Refusal::TooSlow)));
        }
        let watched = self.watched.lock();
        let known = watched.get(question).filter(|it| it.judged_at.elapsed() <= self.recheck)?;
        known.answer.clone().map(Ok)
    }

    async fn ask(&self, questions: &[Question], lane: Lane) -> Result<Vec<Answer>, Error> {
        let started = Instant::now();
        let mut answers = may_subscribe(&self.database, questions, lane.deadline()).await;
        // Here a lost session is a verdict, and sessions end for other reasons than policies too.
        if lane == Lane::Slow && matches!(answers, Err(Error::Ended(_))) {
            answers = may_subscribe(&self.database, questions, lane.deadline()).await;
        }
        self.metrics.rights_seconds.observe(started.elapsed().as_secs_f64());
        answers
    }

    /// Asks one question. No verdict in the slow lane's time means no; in another lane it means that nobody can say yet.
    async fn judge(&self, question: &Question, lane: Lane) -> Result<Arc<Grant>, GrantError> {
        match self.ask(std::slice::from_ref(question), lane).await {
            Ok(mut answers) => {
                let answer = answers.pop().unwrap_or(Err(Refusal::Forbidden));
                answer.map_err(GrantError::Refused)
            }
            Err(error) if denies(lane, question, &error) => {
                self.note_failure(question, &error);
                Err(GrantError::Refused(failure(&error)))
            }
            Err(error) => Err(GrantError::Unavailable(error)),
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
        let entry = watched.entry(question.clone()).or_insert_with(|| Watched::new(grant));
        if entry.answer.as_ref() != Some(grant) {
            entry.answer = None;
        }
        let id = WatchId(self.watches.fetch_add(1, Ordering::Relaxed));
        entry.watchers.insert(id, (subscriber, Arc::clone(outbox)));
        Watch { authorizer: Arc::clone(self), question, id }
    }

    /// Judges everything that is watched, again and again, until `stop` fires. Each lane at its own pace: what is slow
    /// in one delays nobody in another.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let lanes = async {
            tokio::join!(self.judge_lane(Lane::Together), self.judge_lane(Lane::Alone), self.judge_lane(Lane::Slow))
        };
        tokio::select! {
            () = stop.cancelled() => (),
            _ = lanes => (),
        }
    }

    async fn judge_lane(&self, lane: Lane) {
        loop {
            let started = Instant::now();
            let questions = self.questions(lane);
            for batch in questions.chunks(if lane == Lane::Together { BATCH } else { 1 }) {
                self.judge_batch(batch, lane).await;
            }
            self.quarantine.lock().forget(Instant::now());
            let busy = started.elapsed();
            // A right that is lost just after it was judged is found by the next round, which must begin and end in time.
            let idle = (self.recheck * 3 / 4).saturating_sub(busy).max(busy * IDLE_PER_BUSY);
            // What has just come to this lane has waited in another.
            let _ = tokio::time::timeout(idle, self.moved[lane as usize].notified()).await;
        }
    }

    fn questions(&self, lane: Lane) -> Vec<Question> {
        let mut watched = self.watched.lock();
        watched.retain(|_, it| it.is_wanted());
        watched.iter().filter(|(_, it)| it.lane == lane).map(|(question, _)| question.clone()).collect()
    }

    async fn judge_batch(&self, batch: &[Question], lane: Lane) {
        let started = Instant::now();
        match self.ask(batch, lane).await {
            Ok(answers) => {
                self.move_to(batch, lane.after(started.elapsed()));
                batch.iter().zip(answers).for_each(|(question, answer)| self.apply(question, answer));
            }
            Err(Error::Deadline(_) | Error::Ended(_)) if lane != Lane::Slow => self.move_to(batch, lane.slower()),
            // Which of them fails is found out by asking each.
            Err(error) if lane == Lane::Together && is_refusal(&error) => self.move_to(batch, Lane::Alone),
            Err(error) if batch.iter().all(|it| denies(lane, it, &error)) => self.deny(batch, &error),
            // Nobody can say: those who listen keep listening, and nothing can come to them without the database.
            Err(error) => debug!(error = error.chain(), "rights could not be looked at"),
        }
    }

    fn move_to(&self, batch: &[Question], lane: Lane) {
        let mut watched = self.watched.lock();
        for question in batch {
            if let Some(entry) = watched.get_mut(question)
                && entry.lane != lane
            {
                // It has waited for an answer in vain; what was answered quickly can wait for its turn.
                if lane == entry.lane.slower() {
                    self.moved[lane as usize].notify_one();
                }
                entry.lane = lane;
            }
        }
    }

    fn deny(&self, batch: &[Question], error: &Error) {
        for question in batch {
            self.note_failure(question, error);
            self.apply(question, Err(failure(error)));
        }
    }

    fn note_failure(&self, question: &Question, error: &Error) {
        warn!(channel = %question.channel.name(), error = error.chain(), "a policy failed or has no end: denied");
        if matches!(error, Error::Deadline(_) | Error::Ended(_)) {
            self.quarantine.lock().add(question.clone(), Instant::now());
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
                debug!(channel = %question.channel.name(), role = %question.role, ?refusal, "a right was lost");
                entry.tell(|subscriber| Note::Revoked { subscriber, refusal: refusal.clone() });
                watched.remove(question);
            }
        }
    }
}

impl Watched {
    fn new(grant: &Arc<Grant>) -> Self {
        let answer = Some(Arc::clone(grant));
        Self { answer, judged_at: Instant::now(), watchers: HashMap::new(), lane: Lane::Together }
    }

    /// A grant that is asked for is watched a moment later, or never.
    fn is_wanted(&self) -> bool {
        const SETTLES_IN: Duration = Duration::from_secs(5);
        !self.watchers.is_empty() || self.judged_at.elapsed() < SETTLES_IN
    }

    fn confirm(&mut self, grant: &Arc<Grant>) {
        self.judged_at = Instant::now();
        if self.answer.as_ref() == Some(grant) {
            return;
        }
        self.answer = Some(Arc::clone(grant));
        self.tell(|subscriber| Note::Regranted { subscriber, grant: Arc::clone(grant) });
    }

    fn tell(&self, note: impl Fn(SubscriberId) -> Note) {
        for (subscriber, outbox) in self.watchers.values() {
            outbox.note(note(*subscriber));
        }
    }
}

/// Whether this outcome of asking one question is a verdict, which can only be no. What is not answered in time is asked
/// more patiently first; and where no policy is asked, none is to blame.
fn denies(lane: Lane, question: &Question, error: &Error) -> bool {
    let has_policy = matches!(question.channel, Channel::Messages(_));
    let is_policy_s = matches!(error, Error::Deadline(_) | Error::Ended(_));
    is_refusal(error) || has_policy && lane == Lane::Slow && is_policy_s
}

/// What such an outcome says.
fn failure(error: &Error) -> Refusal {
    error.sqlstate().map_or(Refusal::TooSlow, |state| Refusal::PolicyFailed(state.code().into()))
}

/// Whether the server answered, if only by failing. Not one that could not be asked (the database is gone, the login
/// refused) or that was busy (a lock held against it).
fn is_refusal(error: &Error) -> bool {
    const TROUBLE: [&str; 9] = ["08", "28", "3D", "40", "53", "55", "57", "58", "XX"];
    let has_answered = !matches!(error, Error::Ended(_));
    has_answered && error.sqlstate().is_some_and(|state| !TROUBLE.iter().any(|class| state.code().starts_with(class)))
}

/// Keeps a verdict under watch until it is dropped.
pub struct Watch {
    authorizer: Arc<Authorizer>,
    question: Question,
    id: WatchId,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.authorizer.watched.lock();
        let Some(entry) = watched.get_mut(&self.question) else {
            return;
        };
        entry.watchers.remove(&self.id);
        if entry.watchers.is_empty() {
            watched.remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Sources},
        hub::Hub,
        model::Topic,
    };

    struct Watching {
        authorizer: Arc<Authorizer>,
        question: Question,
        grant: Arc<Grant>,
        subscriber: SubscriberId,
        outbox: Arc<Outbox>,
    }

    impl Watching {
        /// Nothing here asks the database, so it is never reached.
        fn new() -> Self {
            let flags = vec![("database.url".to_owned(), "postgres://u@h/d".to_owned())];
            let config = Config::load(&Sources { flags, ..Sources::default() }).expect("all that is needed");
            let database = Arc::new(Database::new(&config.database).expect("an address"));
            let channel = Channel::parse("table:s.t").expect("a name");
            Self {
                authorizer: Arc::new(Authorizer::new(database, Arc::new(Metrics::new()), Duration::from_secs(1), 4)),
                question: Question { role: "authenticated".into(), claims: "{}".into(), channel, compares: false },
                grant: Arc::new(Grant { topic: Topic::Table(1), table: None }),
                subscriber: Hub::new(0).subscriber_id(),
                outbox: Arc::new(Outbox::new(1, 1)),
            }
        }

        fn watch(&self) -> Watch {
            self.authorizer.watch(self.question.clone(), &self.grant, self.subscriber, &self.outbox)
        }

        /// How often a refusal is told now.
        fn refusals(&self) -> usize {
            self.authorizer.apply(&self.question, Err(Refusal::Forbidden));
            std::iter::from_fn(|| self.outbox.pop_note()).count()
        }
    }

    #[test]
    fn a_watch_that_is_replaced_after_the_new_one_is_made_leaves_it_alone() {
        let watching = Watching::new();
        let mut watch = watching.watch();
        drop(std::mem::replace(&mut watch, watching.watch()));
        assert_eq!(watching.refusals(), 1);
    }

    #[test]
    fn a_watch_that_ends_before_the_new_one_is_made_leaves_it_alone() {
        let watching = Watching::new();
        drop(watching.watch());
        let _watch = watching.watch();
        assert_eq!(watching.refusals(), 1);
    }

    #[test]
    fn nobody_is_told_after_the_last_watch() {
        let watching = Watching::new();
        drop((watching.watch(), watching.watch()));
        assert_eq!(watching.refusals(), 0);
        assert!(watching.authorizer.watched.lock().is_empty());
    }
}
