//! Verdicts for those who come back: each has its own range of the log, and many often have the same one.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::{
    Bench, JudgeError,
    search::{Found, judge_apart},
};
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
    // Those whose policies had no end before, or ended the session, wait for each other only.
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
        let alone = [(0, party.clone())];
        let mut judged = judge_once(&self.bench.database, range, &alone, self.bench.deadline).await;
        // Sessions end for other reasons too.
        if matches!(judged, Err(Error::Ended(_))) {
            judged = judge_once(&self.bench.database, range, &alone, self.bench.deadline).await;
        }
        match judged {
            Ok(judgement) => Ok(Verdicts { judgement: Arc::new(judgement), number: 0 }),
            Err(error) if is_theirs(&error) => Err(self.strike(range, party, Arc::new(error))),
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
                Ok(Err(error)) if is_theirs(&error) => return Err(self.strike(range, party, error)),
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

    async fn answer(&self, range: Range, waiting: Vec<Waiting>) {
        let mut waiting: Vec<(i32, Waiting)> = (0..).zip(waiting).collect();
        let mut was_lost = false;
        while !waiting.is_empty() {
            let parties: Vec<(i32, Party)> = waiting.iter().map(|(number, it)| (*number, it.party.clone())).collect();
            let started = Instant::now();
            match judge_once(&self.bench.database, range, &parties, self.bench.deadline).await {
                Ok(judgement) => {
                    self.bench.metrics.judge_seconds.observe(started.elapsed().as_secs_f64());
                    return tell(waiting, Found { judgement, ..Found::default() });
                }
                // The others are judged again at once.
                Err(Error::Hanging(number)) => refuse(&mut waiting, number),
                Err(Error::Ended(_)) if !was_lost => was_lost = true,
                Err(Error::Ended(_)) => {
                    return match judge_apart(&self.bench, range, parties).await {
                        Ok(found) => tell(waiting, found),
                        Err(error) => tell_all(waiting, error),
                    };
                }
                Err(error) => return tell_all(waiting, error),
            }
        }
    }
}

/// Whether it is the policies of the party that was asked about who gave no verdict.
fn is_theirs(error: &Error) -> bool {
    matches!(error, Error::Hanging(_) | Error::Ended(_))
}

/// The policies of this one give no verdict.
fn refuse(waiting: &mut Vec<(i32, Waiting)>, number: i32) {
    for (_, it) in waiting.extract_if(.., |(it, _)| *it == number) {
        // Who does not wait any more is not told.
        let _ = it.answer.send(Err(Arc::new(Error::Hanging(number))));
    }
}

fn tell(mut waiting: Vec<(i32, Waiting)>, found: Found) {
    found.guilty.into_iter().for_each(|number| refuse(&mut waiting, number));
    // They ask anew.
    waiting.retain(|(number, _)| !found.left.contains(number));
    let judgement = Arc::new(found.judgement);
    for (number, it) in waiting {
        let _ = it.answer.send(Ok(Verdicts { judgement: Arc::clone(&judgement), number }));
    }
}

fn tell_all(waiting: Vec<(i32, Waiting)>, error: Error) {
    let error = Arc::new(error);
    waiting.into_iter().for_each(|(_, it)| drop(it.answer.send(Err(Arc::clone(&error)))));
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
