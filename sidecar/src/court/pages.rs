//! Verdicts for those who come back: each has its own range of the log, and many often have the same one.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::{Bench, JudgeError};
use crate::{
    hub::{Page, Seen},
    model::{Offset, Party, Verdict},
    postgres::{
        Error,
        judge::{Judgement, Range, judge_once},
    },
};

/// Parties judged in one call.
const TOGETHER_MAX: usize = 500;

/// Judges pages.
pub(super) struct Pages {
    bench: Arc<Bench>,
    // Live events, publishing and reading need sessions too.
    permits: Semaphore,
    // Those whose policies had no end before wait for each other only.
    suspects: Semaphore,
    // Never held across an await.
    waiting: Mutex<HashMap<Range, Vec<Waiting>>>,
}

struct Waiting {
    party: Party,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Verdicts, Arc<Error>>;

/// One judgement, and the number that a party has in it.
#[derive(Clone)]
struct Verdicts {
    judgement: Arc<Judgement>,
    number: i32,
}

impl Pages {
    /// Uses at most a quarter of the pool.
    pub(super) fn new(bench: Arc<Bench>, pool_size: usize) -> Self {
        let permits = Semaphore::new((pool_size / 4).max(1));
        Self { bench, permits, suspects: Semaphore::new(1), waiting: Mutex::default() }
    }

    /// A page with what a party sees of it.
    pub(super) async fn judge(&self, relation: u32, party: &Party, page: Page) -> Result<Page, JudgeError> {
        let Some(range) = range(relation, &page) else {
            return Ok(page);
        };
        if let Some(wait) = self.bench.holds(relation, party) {
            return Err(JudgeError::Held(wait));
        }
        let verdicts = if self.bench.suspects(relation, party) {
            self.judge_suspect(range, party).await?
        } else {
            self.judge_together(range, party).await?
        };
        let row = page.events.iter().find_map(|it| it.event.event().relation(relation));
        if let (Some(relation), Some(sqlstate)) = (row, verdicts.failure()) {
            self.bench.failed(relation, party, sqlstate);
        }
        seen(page, &verdicts)
    }

    async fn judge_suspect(&self, range: Range, party: &Party) -> Result<Verdicts, JudgeError> {
        let _permit = self.suspects.acquire().await;
        let judged = judge_once(&self.bench.database, range, std::slice::from_ref(party), self.bench.deadline).await;
        match judged {
            Ok(judgement) => Ok(Verdicts { judgement: Arc::new(judgement), number: 0 }),
            Err(error @ Error::Hanging(_)) => Err(self.strike(range, party, Arc::new(error))),
            Err(error) => Err(JudgeError::Unavailable(Arc::new(error))),
        }
    }

    /// The first time it is asked for again, and judged alone then.
    fn strike(&self, range: Range, party: &Party, error: Arc<Error>) -> JudgeError {
        self.bench.strike(range.relation, party);
        self.bench.holds(range.relation, party).map_or(JudgeError::Unavailable(error), JudgeError::Held)
    }

    /// Whoever comes first asks for all who want the same by then.
    async fn judge_together(&self, range: Range, party: &Party) -> Result<Verdicts, JudgeError> {
        loop {
            let (answer, answered) = oneshot::channel();
            let is_first = {
                let mut waiting = self.waiting.lock();
                let list = waiting.entry(range).or_default();
                list.push(Waiting { party: party.clone(), answer });
                list.len() == 1
            };
            if is_first {
                self.ask(range).await;
            }
            match answered.await {
                Ok(Ok(verdicts)) => return Ok(verdicts),
                Ok(Err(error)) if matches!(*error, Error::Hanging(_)) => return Err(self.strike(range, party, error)),
                Ok(Err(error)) => return Err(JudgeError::Unavailable(error)),
                // Who asked for all has gone; somebody else asks.
                Err(_) => (),
            }
        }
    }

    async fn ask(&self, range: Range) {
        // Dropped half-way, it takes the list away, and those on it ask anew.
        let asking = Asking { pages: self, range };
        let _permit = self.permits.acquire().await;
        let mut waiting = asking.list();
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(TOGETHER_MAX));
            self.answer(range, waiting).await;
            waiting = rest;
        }
    }

    async fn answer(&self, range: Range, mut waiting: Vec<Waiting>) {
        while !waiting.is_empty() {
            let parties: Vec<Party> = waiting.iter().map(|it| it.party.clone()).collect();
            let started = Instant::now();
            match judge_once(&self.bench.database, range, &parties, self.bench.deadline).await {
                Ok(judgement) => {
                    self.bench.metrics.judge_seconds.observe(started.elapsed().as_secs_f64());
                    return tell(waiting, &Arc::new(judgement));
                }
                // The others are judged again at once.
                Err(Error::Hanging(number)) if usize::try_from(number).is_ok_and(|at| at < waiting.len()) => {
                    let hanging = waiting.swap_remove(usize::try_from(number).unwrap_or_default());
                    let _ = hanging.answer.send(Err(Arc::new(Error::Hanging(number))));
                }
                Err(error) => {
                    let error = Arc::new(error);
                    return waiting.into_iter().for_each(|it| drop(it.answer.send(Err(Arc::clone(&error)))));
                }
            }
        }
    }
}

fn tell(waiting: Vec<Waiting>, judgement: &Arc<Judgement>) {
    for (number, it) in (0..).zip(waiting) {
        // Who does not wait any more is not told.
        let _ = it.answer.send(Ok(Verdicts { judgement: Arc::clone(judgement), number }));
    }
}

struct Asking<'a> {
    pages: &'a Pages,
    range: Range,
}

impl Asking<'_> {
    fn list(&self) -> Vec<Waiting> {
        self.pages.waiting.lock().remove(&self.range).unwrap_or_default()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.list();
    }
}

/// The events of a page that need a verdict.
fn range(relation: u32, page: &Page) -> Option<Range> {
    let mut rows = page.events.iter().filter(|it| it.can_be_judged()).map(|it| it.event.event().offset);
    let first = rows.next()?;
    Some(Range { relation, after: first.before(), until: rows.next_back().unwrap_or(first) })
}

/// The page as the party sees it. An event without a verdict is never sent and never left out: then there is no page.
fn seen(page: Page, verdicts: &Verdicts) -> Result<Page, JudgeError> {
    let judge = |it: Seen| -> Result<Seen, JudgeError> {
        if !it.can_be_judged() {
            return Ok(it);
        }
        let verdict = verdicts.of(it.event.event().offset).ok_or(JudgeError::Moved)?;
        Ok(Seen { verdict: Some(verdict), ..it })
    };
    let events = page.events.into_iter().map(judge).collect::<Result<_, _>>()?;
    Ok(Page { events, ..page })
}

impl Verdicts {
    /// The code of the error that a policy raised.
    fn failure(&self) -> Option<&str> {
        self.judgement.failures().find(|(number, _)| *number == self.number).map(|(_, sqlstate)| sqlstate)
    }

    fn of(&self, place: Offset) -> Option<Verdict> {
        let seen = self.judgement.seen_at(place)?;
        Some(seen.iter().find(|(number, _)| *number == self.number).map_or(Verdict::BLIND, |(_, verdict)| *verdict))
    }
}
