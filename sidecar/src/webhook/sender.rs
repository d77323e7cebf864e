//! The one that sends: elected, claims what is due, asks, records.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
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
        let mut hands = Hands::new(&self.settings);
        loop {
            let look = Instant::now();
            let wait = self.look(session, &mut hands).await?;
            let rest = (look.elapsed() * REST_PER_LOOK).max(LOOK_EVERY_MIN);
            tokio::select! {
                () = stop.cancelled() => break,
                done = hands.next() => self.record(session, &mut hands, done).await?,
                () = self.called(rest) => (),
                () = tokio::time::sleep(wait.max(rest)) => (),
            }
        }
        self.part(session, &mut hands).await
    }

    /// A follower is silent for one poll at least.
    fn silence_max(&self) -> Duration {
        self.settings.silence_max.max(self.settings.poll * 3)
    }

    /// Claims what fits, begins it, and says how long until the next look.
    async fn look(&self, session: &SenderSession, hands: &mut Hands) -> Result<Duration, Error> {
        let wanted = hands.places.free();
        if wanted > 0 {
            let claimed = session.claim(&self.claim(hands)).await?;
            let count = claimed.len();
            claimed.into_iter().for_each(|delivery| hands.begin(self.send(delivery.clone()), &delivery.host));
            if count == wanted {
                return Ok(self.settings.poll);
            }
        }
        let due = session.wait().await?;
        // What is due and was not claimed waits for a place, which is heard of.
        let due = due.filter(|wait| hands.is_empty() || !wait.is_zero());
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

    /// Records this one and all that have ended meanwhile.
    async fn record(&self, session: &SenderSession, hands: &mut Hands, first: Done) -> Result<(), Error> {
        let mut done = vec![first];
        done.extend(std::iter::from_fn(|| hands.running.next().now_or_never().flatten()));
        for it in &done {
            hands.places.give_back(&it.host);
        }
        let finished: Vec<Finished> = done.iter().map(|it| it.finished.clone()).collect();
        let tally = self.hub.tally();
        for (message, counts) in session.finish(&finished, tally.is_on()).await? {
            tally.add(message, counts);
        }
        done.iter().for_each(|it| self.note(it));
        Ok(())
    }

    fn note(&self, Done { message_id, finished, .. }: &Done) {
        self.metrics.webhooks.inc(label(finished));
        if let (false, None, Some(error)) = (finished.delivered, finished.retry_ms, &finished.error) {
            debug!(message = message_id, error, "a webhook was not delivered");
        }
    }

    /// What has been asked is waited for; what is not answered by then is asked again by the next sender.
    async fn part(&self, session: &SenderSession, hands: &mut Hands) -> Result<(), Error> {
        let farewell = async {
            while !hands.is_empty() {
                let done = hands.next().await;
                self.record(session, hands, done).await?;
            }
            Ok(())
        };
        tokio::time::timeout(FAREWELL, farewell).await.unwrap_or(Ok(()))
    }
}

impl Hands {
    fn new(settings: &WebhookSettings) -> Self {
        let places = Places::new(settings.concurrency_max, settings.host_concurrency_max);
        Self { running: FuturesUnordered::new(), places }
    }

    fn begin(&mut self, request: BoxFuture<'static, Done>, host: &str) {
        self.places.take(host);
        self.running.push(request);
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next that ends; for ever when none runs.
    async fn next(&mut self) -> Done {
        match self.running.next().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }
}
