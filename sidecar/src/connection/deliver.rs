//! What the flow gives to the link, as much as the link takes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::{
    Connection, Services,
    flow::{Out, Wanted},
};
use crate::{
    auth::GrantError,
    court::JudgeError,
    hub::{Page, SubscriberId},
    model::{Grant, Topic},
    postgres::{authorize::Question, log::ReadError},
    protocol::Notice,
    replay::PAGE,
};

/// When a page that could not be had is asked for again.
const PAGE_RETRY: Duration = Duration::from_millis(500);
/// After so many events another connection gets a turn.
const TURN: usize = 256;

/// A page of the log, and the verdict that was asked for before it.
pub(super) struct Paged {
    verdict: Option<Verdict>,
    page: Result<Page, PageError>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error("{}", .0.chain())]
    Read(#[from] ReadError),
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

type Verdict = (Question, Result<Arc<Grant>, GrantError>);

impl Connection {
    /// Gives the link what it takes, news first.
    pub(super) fn fill(&mut self) {
        self.take_notes();
        if self.flow.fall_behind() {
            self.services.metrics.overflows.inc();
            debug!(connection = self.name, "the queue overflowed: replaying");
        }
        let mut out = Vec::new();
        self.more = true;
        for _ in 0..TURN {
            self.more = self.closing.is_none() && self.link.has_room() && self.flow.step(&mut out);
            if !self.more {
                break;
            }
            self.send_out(&mut out);
        }
        self.send_presence();
        self.ask_for_page();
        self.ask_for_snapshot();
        if !self.link.has_room() {
            self.watch_progress();
        }
    }

    fn watch_progress(&mut self) {
        self.clock.look_in(Duration::from_millis(self.services.timing.no_progress_ms) / 4, Instant::now());
    }

    pub(super) fn send_out(&mut self, out: &mut Vec<Out>) {
        for out in out.drain(..) {
            match out {
                Out::Event(frame) => {
                    self.services.metrics.deliveries.inc();
                    self.services.metrics.delivered_bytes.inc_by(frame.len() as u64);
                    self.link.send(frame);
                }
                Out::Gap(address, gap) => {
                    self.services.metrics.gaps.inc(gap.reason.as_str());
                    self.send_notice(&Notice::Gap { address: &address, gap: &gap });
                }
            }
        }
    }

    /// Asks the log for the page that is needed next, and before that for a new verdict where one is needed.
    fn ask_for_page(&mut self) {
        if !self.link.has_room() || Instant::now() < self.page_retry_at {
            return;
        }
        let Some(wanted) = self.flow.want_page() else {
            return;
        };
        let services = Arc::clone(&self.services);
        let subscription = self.flow.subscriptions.get_mut(wanted.subscriber).filter(|_| wanted.verdict);
        let question = subscription.map(|it| it.question(&self.identity));
        self.page = Some(Box::pin(async move {
            let verdict = match question {
                Some(question) => Some(judge_anew(&services, question).await),
                None => None,
            };
            (wanted.subscriber, Paged { verdict, page: page(&services, &wanted).await })
        }));
    }

    /// A page came from the log, or could not be had.
    pub(super) fn paged(&mut self, subscriber: SubscriberId, it: Paged) {
        if it.verdict.is_some_and(|verdict| !self.take_verdict(subscriber, verdict)) {
            self.flow.no_page();
            return;
        }
        match it.page {
            Ok(page) => {
                let mut out = Vec::new();
                self.flow.take_page(subscriber, page, &mut out);
                self.send_out(&mut out);
            }
            Err(error) => self.no_page(subscriber, &error),
        }
    }

    fn no_page(&mut self, subscriber: SubscriberId, error: &PageError) {
        let is_stale = self.flow.no_page();
        match error {
            _ if is_stale => return,
            PageError::Judge(held @ JudgeError::Held(_)) => return self.unjudged(subscriber, held),
            PageError::Read(ReadError::Broken(_)) => {
                self.services.metrics.read_errors.inc();
            }
            _ => (),
        }
        self.retry_page(&error.to_string());
    }

    /// Gives whether there was one.
    fn take_verdict(&mut self, subscriber: SubscriberId, (question, verdict): Verdict) -> bool {
        // When the token was renewed meanwhile, what holds for the one before is of no interest.
        let is_in_force = question.is_of(&self.identity);
        match verdict {
            _ if !is_in_force => (),
            Ok(grant) => self.regranted(subscriber, grant),
            Err(GrantError::Refused(refusal)) => self.revoked(subscriber, &refusal),
            Err(GrantError::Unavailable(error)) => {
                self.retry_page(&error.chain());
                return false;
            }
        }
        is_in_force
    }

    fn retry_page(&mut self, error: &str) {
        warn!(connection = self.name, error, "a replay waits for the database");
        let now = Instant::now();
        self.page_retry_at = now + PAGE_RETRY;
        self.clock.look_in(PAGE_RETRY, now);
    }
}

/// What is judged is asked for here even when memory has it, because judging takes a while.
async fn page(services: &Services, wanted: &Wanted) -> Result<Page, PageError> {
    let (Some(party), Topic::Table(relation)) = (&wanted.judged_as, &wanted.topic) else {
        services.metrics.replays.inc("log");
        return log_page(services, wanted).await;
    };
    let recent = services.hub.recent(&wanted.topic, wanted.after, PAGE).filter(|_| wanted.takes_memory);
    services.metrics.replays.inc(if recent.is_some() { "memory" } else { "log" });
    let page = match recent {
        Some(page) => page,
        None => log_page(services, wanted).await?,
    };
    Ok(services.court.judge(*relation, party, page).await?)
}

async fn log_page(services: &Services, wanted: &Wanted) -> Result<Page, PageError> {
    let (replay, topic, after) = (&services.replay, &wanted.topic, wanted.after);
    // What was read before is memory too.
    let page =
        if wanted.takes_memory { replay.page(topic, after).await } else { replay.fresh_page(topic, after).await };
    Ok(page?)
}

async fn judge_anew(services: &Services, question: Question) -> Verdict {
    let verdict = services.authorizer.judge_anew(&question, Instant::now()).await;
    (question, verdict)
}
