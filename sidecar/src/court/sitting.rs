//! Serving one room: the task that has its cases judged over a session of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Bench,
    room::{Case, Room},
    search::judge_apart,
};
use crate::postgres::{
    Backoff, Error, Session,
    judge::{Judgement, forget, judge_seated, seat},
};

/// A session that has had nothing to do for this long is closed; the next event opens another.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// So often a case is tried before everybody turns to the log, where each waits by itself.
const ATTEMPTS: u32 = 5;
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What a room is served with.
pub(super) struct Sitting {
    pub(super) room: Arc<Room>,
    pub(super) bench: Arc<Bench>,
}

impl Sitting {
    /// Serves the room until it is closed or `stop` fires.
    pub(super) async fn run(self, closed: CancellationToken, stop: CancellationToken) {
        tokio::select! {
            () = closed.cancelled() => (),
            () = stop.cancelled() => (),
            () = self.serve() => (),
        }
    }

    async fn serve(&self) {
        let mut session = None;
        loop {
            while let Some(case) = self.room.take() {
                self.hear(&mut session, case).await;
                if self.bench.database.standing_is_short() {
                    session = None;
                }
            }
            if session.is_none() {
                self.room.ready().await;
            } else if tokio::time::timeout(IDLE_MAX, self.room.ready()).await.is_err() {
                session = None;
            }
        }
    }

    async fn hear<'a>(&'a self, session: &mut Option<Session<'a>>, case: Case) {
        let (mut failures, mut backoff) = (0, Backoff::new(RETRY_MIN, RETRY_MAX));
        let mut was_lost = false;
        loop {
            let started = Instant::now();
            let judged = match self.judge(session, &case).await {
                Err(Error::Ended(_)) if was_lost => self.judge_apart(&case).await,
                judged => judged,
            };
            match judged {
                Ok(judgement) => {
                    self.bench.metrics.judge_seconds.observe(started.elapsed().as_secs_f64());
                    self.tell_failures(&case, &judgement);
                    return self.room.pronounce(case, &judgement);
                }
                Err(Error::Hanging(number)) => {
                    *session = None;
                    self.expel(number);
                }
                Err(error) => {
                    *session = None;
                    failures += 1;
                    was_lost = matches!(error, Error::Ended(_));
                    debug!(relation = self.room.relation(), error = error.chain(), "no verdict yet");
                    if failures == ATTEMPTS || error.is_definite() {
                        warn!(
                            relation = self.room.relation(),
                            error = error.chain(),
                            "no verdict: asking for each alone"
                        );
                        return self.room.adjourn(&case);
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn judge<'a>(&'a self, session: &mut Option<Session<'a>>, case: &Case) -> Result<Judgement, Error> {
        let Some(range) = case.range.filter(|_| self.room.has_listeners()) else {
            // Nothing is asked, so who came and went has to be told another time.
            if !case.roster.is_empty() {
                *session = None;
            }
            return Ok(Judgement::default());
        };
        if let Some(session) = session.as_ref() {
            forget(session, &case.roster.went).await?;
            seat(session, range.relation, &case.roster.came).await?;
        } else {
            let fresh = Session::standing(&self.bench.database).await?;
            seat(&fresh, range.relation, &self.room.roster()).await?;
            *session = Some(fresh);
        }
        let session = session.as_ref().ok_or(Error::Closed)?;
        judge_seated(session, range, self.bench.deadline).await
    }

    fn tell_failures(&self, case: &Case, judgement: &Judgement) {
        let Some(relation) = case.relation(self.room.relation()) else {
            return;
        };
        for (number, sqlstate) in judgement.failures() {
            if let Some(party) = self.room.party(number) {
                self.bench.failed(relation, &party, sqlstate);
            }
        }
    }

    /// Once may be the server's doing; twice is somebody's policies', and everybody else is judged without them.
    async fn judge_apart(&self, case: &Case) -> Result<Judgement, Error> {
        let Some(range) = case.range else {
            return Ok(Judgement::default());
        };
        let found = judge_apart(&self.bench, range, self.room.roster()).await?;
        found.guilty.into_iter().for_each(|number| self.expel(number));
        // The log has it for them too.
        found.left.into_iter().for_each(|number| drop(self.room.expel(number)));
        Ok(found.judgement)
    }

    fn expel(&self, number: i32) {
        if let Some(party) = self.room.expel(number) {
            self.bench.strike(self.room.relation(), &party);
        }
    }
}
