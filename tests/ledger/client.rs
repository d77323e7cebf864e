//! A WebSocket client with a subscription to every table and channel, which comes and goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use realtime_tests::{Dialect, PlainClient};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::tungstenite::Error;

use crate::database::{CHANNELS, Table};
use crate::event;
use crate::memory::Form;
use crate::random::Random;
use crate::reader::Desk;
use crate::stream::{Gap, Scope, Stream};

const CONNECT_AGAIN: Duration = Duration::from_millis(30);
/// How often a client that only waits for the end asks whether it is there.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One client.
pub(crate) struct Client {
    name: String,
    desk: Desk,
    addresses: Vec<SocketAddr>,
    random: Random,
    subscriptions: BTreeMap<String, Subscription>,
    /// The last safe cursor of this connection: everything up to here has come.
    safe: i64,
    /// It stays away for seconds between two connections.
    pub(crate) sleeps: bool,
    /// The server cannot answer now; a later connection may ask again.
    unavailable: bool,
}

/// One subscription over all connections.
struct Subscription {
    /// What it has; it goes on from there.
    cursor: i64,
    stream: Stream,
    /// The answer to `subscribe` has come, over this connection.
    acknowledged: bool,
    /// The answer said that something is missing, and the gap has not been said yet.
    owes_gap: bool,
}

impl Client {
    /// A client of everything after `cursor`, a subscription for each table and channel.
    ///
    /// Each of its connections goes to one of the sidecars, whoever served it before.
    pub(crate) fn new(name: &str, desk: Desk, addresses: Vec<SocketAddr>, random: Random, cursor: i64) -> Self {
        let subscriptions = channels().map(|(channel, scope)| {
            let stream = Stream::new(format!("{name} {channel}"), scope);
            (channel, Subscription { cursor, stream, acknowledged: false, owes_gap: false })
        });
        Self {
            name: name.to_owned(),
            desk,
            addresses,
            random,
            subscriptions: subscriptions.collect(),
            safe: 0,
            sleeps: false,
            unavailable: false,
        }
    }

    /// Listens until everything up to the desk's last offset has come.
    pub(crate) async fn run(mut self) -> Vec<Stream> {
        while !self.is_done() {
            let address = self.random.pick(&self.addresses);
            match PlainClient::connect(address, Dialect::Native).await {
                Ok(line) => {
                    self.desk.resumed.fetch_add(1, Ordering::Relaxed);
                    // However a connection ends, the next one goes on from the cursors.
                    let _ = self.listen(line).await;
                }
                Err(_) => sleep(CONNECT_AGAIN).await,
            }
            if self.sleeps && self.random.chance(50) {
                sleep(Duration::from_millis(1_000 + self.random.below(5_000))).await;
            }
        }
        self.subscriptions.into_values().map(|subscription| subscription.stream).collect()
    }

    fn is_done(&self) -> bool {
        let last = self.desk.last.load(Ordering::Acquire);
        last != 0 && self.safe >= last
    }

    /// One connection, until the client feels like another or is done.
    async fn listen(&mut self, mut line: PlainClient) -> Result<(), Error> {
        (self.safe, self.unavailable) = (0, false);
        for (channel, subscription) in &mut self.subscriptions {
            subscription.acknowledged = false;
            let frame = json!({"type": "subscribe", "ref": channel, "channel": channel, "since": subscription.cursor});
            line.send(&frame).await?;
        }
        let end = Instant::now() + Duration::from_millis(200 + self.random.below(4_000));
        while !self.is_done()
            && !self.unavailable
            && (Instant::now() < end || self.desk.last.load(Ordering::Acquire) != 0)
        {
            line.send(&json!({"type": "ping", "ref": "where"})).await?;
            let until = Instant::now() + ASK_AGAIN;
            while let Ok(text) = timeout_at(until, line.next_text()).await {
                self.take_text(&text?);
            }
            if self.random.chance(4) {
                // Slow enough, now and then, that the server has to go back to the log.
                sleep(Duration::from_millis(self.random.below(700))).await;
            }
        }
        if self.random.chance(50) {
            line.close().await;
        }
        Ok(())
    }

    fn take_text(&mut self, text: &str) {
        let frame = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        if frame["type"] == "broadcast"
            && let Some(offset) = frame["offset"].as_i64()
        {
            // Subscriptions have the names of their channels, so the frames of all clients are alike.
            self.desk.memory.note(Form::Frame, offset, text, &self.name);
        }
        self.take(&frame);
    }

    fn take(&mut self, frame: &Value) {
        match frame["type"].as_str().unwrap_or_default() {
            "broadcast" => self.take_event(frame),
            "gap" => self.take_gap(frame),
            "ack" => self.take_ack(frame),
            "pong" | "heartbeat" => self.take_cursor(frame),
            "hello" | "status" => (),
            "error" if frame["code"] == "UNAVAILABLE" => self.unavailable = true,
            _ => self.desk.book.fail(format!("{}: {frame}", self.name)),
        }
    }

    /// Everything before this has come: whoever resumes may go on from here. Before all answers to `subscribe` it says
    /// nothing about those that are missing.
    fn take_cursor(&mut self, frame: &Value) {
        let Some(offset) = frame["offset"].as_i64() else { return };
        if self.subscriptions.values().all(|subscription| subscription.acknowledged) {
            self.safe = self.safe.max(offset);
            let take_over = self.random.chance(30);
            for subscription in self.subscriptions.values_mut().filter(|_| take_over) {
                subscription.cursor = subscription.cursor.max(offset);
            }
        }
    }

    fn take_ack(&mut self, frame: &Value) {
        let Some(subscription) = subscription(&mut self.subscriptions, frame) else { return };
        subscription.acknowledged = true;
        subscription.owes_gap = frame["recovered"] != true;
    }

    fn take_gap(&mut self, frame: &Value) {
        let Some(subscription) = subscription(&mut self.subscriptions, frame) else { return };
        let number = |member: &str| frame[member].as_i64().unwrap_or_default();
        let reason = frame["reason"].as_str().unwrap_or_default().to_owned();
        subscription.stream.gaps.push(Gap { first: number("from"), last: number("to"), reason });
        subscription.cursor = number("to");
        subscription.owes_gap = false;
    }

    fn take_event(&mut self, frame: &Value) {
        let Some(subscription) = subscription(&mut self.subscriptions, frame) else { return };
        let channel = frame["channel"].as_str().unwrap_or_default();
        let (Some(offset), Some(transaction_end)) = (frame["offset"].as_i64(), frame["txn"].as_i64()) else {
            return subscription.stream.take_strange(0, &frame.to_string());
        };
        if !subscription.acknowledged {
            subscription.stream.take_strange(offset, "an event before the ack");
        }
        if subscription.owes_gap {
            subscription
                .stream
                .silent
                .push(format!("{} at {offset}: an event before its gap", subscription.stream.name));
        }
        subscription.cursor = offset;
        match event::change_of_frame(channel, &frame["payload"]) {
            Some(change) => {
                let meaning = format!("{:?}", change.write());
                self.desk.memory.note(Form::Meaning, offset, &meaning, &subscription.stream.name);
                subscription.stream.take(offset, transaction_end, change);
            }
            None => subscription.stream.take_strange(offset, &frame.to_string()),
        }
    }
}

/// Every channel of this test, with what must come over it.
pub(crate) fn channels() -> impl Iterator<Item = (String, Scope)> {
    let tables = Table::ALL.map(|table| (format!("table:{}", table.name()), Scope::Table(table)));
    let channels = CHANNELS.iter().enumerate().map(|(place, name)| ((*name).to_owned(), Scope::Channel(place)));
    tables.into_iter().chain(channels)
}

/// The subscription that a frame belongs to.
fn subscription<'a>(
    subscriptions: &'a mut BTreeMap<String, Subscription>,
    frame: &Value,
) -> Option<&'a mut Subscription> {
    subscriptions.get_mut(frame["id"].as_str()?)
}
