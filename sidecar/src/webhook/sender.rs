//! The one that sends: elected, claims what is due, asks, records.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{SenderError, address::SystemLookup, outcome::label, places::Places, request::Poster};
use crate::{
    config::WebhookSettings,
    hub::Hub,
    metrics::Metrics,
    postgres::{
        Backoff, Database, Error,
        webhook::{Claim, Claimed, Finished, SenderSession},
    },
};

/// The shortest time between two looks.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);
/// How many times as long as a look took the sender waits before the next: a long backlog must not keep the server busy.
const REST_PER_LOOK: u32 = 4;
/// How long others are waited for when one request has ended.
const GATHER_MAX: Duration = Duration::from_millis(20);
/// How long a stopping sender waits for answers.
const FAREWELL: Duration = Duration::from_secs(2);

/// Sends, while it is elected.
pub struct Sender {
    database: Arc<Database>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    settings: WebhookSettings,
    payload_bytes_max: usize,
    poster: Arc<Poster>,
    backoff: Backoff,
}

/// A request that has ended.
struct Done {
    host: String,
    message_id: String,
    finished: Finished,
}

/// Requests that run.
struct Hands {
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    places: Places,
}

impl Sender {
    /// Prepares the client; nothing is connected yet. Payloads over `payload_bytes_max` are not sent.
    ///
    /// # Errors
    ///
    /// When the client cannot be made.
    pub fn new(
        database: Arc<Database>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
        settings: WebhookSettings,
        payload_bytes_max: usize,
        backoff: Backoff,
    ) -> Result<Self, SenderError> {
        let poster = Arc::new(Poster::new(&settings, Box::new(SystemLookup))?);
        Ok(Self { database, hub, metrics, settings, payload_bytes_max, poster, backoff })
    }

    /// Stands for election and sends, until `stop` fires.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_news = true;
        while !stop.is_cancelled() {
            let result = self.session(&stop).await;
            let was_elected = self.metrics.webhook_sender.set(0) == 1;
            self.metrics.webhooks_running.set(0);
            match result {
                Ok(()) => return,
                Err(error) if is_news || was_elected => {
                    warn!(error = error.chain(), "webhooks cannot be sent from here now: trying until they can");
                }
                Err(error) => debug!(error = error.chain(), "webhooks cannot be sent from here yet"),
            }
            is_news = false;
            self.metrics.reconnects.inc("webhooks");
            stop.run_until_cancelled(tokio::time::sleep(self.backoff.next_wait())).await;
        }
    }

    /// One session, until it fails or `stop` fires.
    async fn session(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let opened = stop.run_until_cancelled(async { SenderSession::open(&self.database).await }).await;
        let Some(opened) = opened else { return Ok(()) };
        let (session, connection) = opened?;
        self.backoff.reset();
        tokio::select! {
            result = self.serve(&session, stop) => result,
            ended = connection => Err(ended.err().map_or(Error::Closed, Error::Postgres)),
        }
    }

    async fn serve(&self, session: &SenderSession, stop: &CancellationToken) -> Result<(), Error> {
        while !session.elect(self.silence_max()).await? {
            if stop.run_until_cancelled(tokio::time::sleep(self.settings.poll)).await.is_none() {
                return Ok(());
            }
        }
        info!("this sidecar sends the webhooks");
        self.metrics.webhook_sender.set(1);
        let (mut hands, mut ended) = (Hands::new(&self.settings), Vec::new());
        while !stop.is_cancelled() {
            let began = Instant::now();
            let wait = self.turn(session, &mut hands, std::mem::take(&mut ended)).await?;
            let took = began.elapsed();
            let rest = (took * REST_PER_LOOK).max(LOOK_EVERY_MIN);
            tokio::select! {
                () = stop.cancelled() => (),
                () = hands.ended(&mut ended, took.min(GATHER_MAX)) => (),
                () = self.called(rest) => (),
                () = tokio::time::sleep(wait.max(rest)) => (),
            }
        }
        self.part(session, &mut hands, ended).await
    }

    /// A follower is silent for one poll at least.
    fn silence_max(&self) -> Duration {
        self.settings.silence_max.max(self.settings.poll * 3)
    }

    /// Records what has ended, begins what is due and fits, and says how long until the next look. All of it is asked at once;
    /// the server answers in this order.
    async fn turn(&self, session: &SenderSession, hands: &mut Hands, ended: Vec<Done>) -> Result<Duration, Error> {
        ended.iter().for_each(|it| hands.places.give_back(&it.host));
        let wanted = hands.places.free();
        let (claim, busy) = (self.claim(hands), hands.places.busy());
        let claiming = async { if wanted > 0 { session.claim(&claim).await } else { Ok(Vec::new()) } };
        let (recorded, claimed, due) = tokio::join!(self.record(session, &ended), claiming, session.wait(&busy));
        recorded?;
        let claimed = claimed?;
        for delivery in claimed {
            hands.places.take(&delivery.host);
            hands.running.push(self.send(delivery));
        }
        self.metrics.webhooks_running.set(i64::try_from(hands.running.len()).unwrap_or(i64::MAX));
        // Without a free place the end of a request is waited for, and nothing else can be done.
        let due = due?.filter(|_| hands.places.free() > 0);
        Ok(due.unwrap_or(self.settings.poll).min(self.settings.poll))
    }

    fn claim(&self, hands: &Hands) -> Claim {
        Claim {
            wanted: hands.places.free(),
            host_places: hands.places.host_max(),
            hosts: hands.places.hosts(),
            lease: self.settings.lease,
            payload_bytes_max: self.payload_bytes_max,
        }
    }

    /// A message came by; but it is not looked more often than the database likes.
    async fn called(&self, rest: Duration) {
        tokio::time::sleep(rest).await;
        self.hub.tally().published().await;
    }

    fn send(&self, delivery: Claimed) -> BoxFuture<'static, Done> {
        let (poster, settings) = (Arc::clone(&self.poster), self.settings.clone());
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move {
            let began = Instant::now();
            let answer = poster.post(&delivery).await;
            metrics.webhook_seconds.observe(began.elapsed().as_secs_f64());
            let Claimed { id, host, message_id, attempts, .. } = delivery;
            Done { host, message_id, finished: answer.judge(id, attempts, &settings) }
        })
    }

    async fn record(&self, session: &SenderSession, ended: &[Done]) -> Result<(), Error> {
        if ended.is_empty() {
            return Ok(());
        }
        let finished: Vec<Finished> = ended.iter().map(|it| it.finished.clone()).collect();
        let tally = self.hub.tally();
        for (message, counts) in session.finish(&finished, tally.is_on()).await? {
            tally.add(message, counts);
        }
        ended.iter().for_each(|it| self.note(it));
        Ok(())
    }

    fn note(&self, Done { message_id, finished, .. }: &Done) {
        self.metrics.webhooks.inc(label(finished));
        if let (false, None, Some(error)) = (finished.delivered, finished.retry_ms, &finished.error) {
            debug!(message = message_id, error, "a webhook was not delivered");
        }
    }

    /// What has been asked is waited for; what is not answered by then is asked again by the next sender.
    async fn part(&self, session: &SenderSession, hands: &mut Hands, mut ended: Vec<Done>) -> Result<(), Error> {
        let farewell = async {
            while !hands.is_empty() {
                hands.ended(&mut ended, Duration::ZERO).await;
            }
        };
        // Running out of time is no error here: whoever is next asks again.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        self.record(session, &ended).await
    }
}

impl Hands {
    fn new(settings: &WebhookSettings) -> Self {
        let places = Places::new(settings.concurrency_max, settings.host_concurrency_max);
        Self { running: FuturesUnordered::new(), places }
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for one that ends and a little longer for others, so that many are recorded at once. Nothing is lost when the
    /// future is dropped.
    async fn ended(&mut self, ended: &mut Vec<Done>, gather: Duration) {
        let Some(first) = self.running.next().await else {
            return std::future::pending().await;
        };
        ended.push(first);
        let more = async {
            while let Some(done) = self.running.next().await {
                ended.push(done);
            }
        };
        // That there are no more to come in time is how it mostly ends.
        let _ = tokio::time::timeout(gather, more).await;
    }
}
