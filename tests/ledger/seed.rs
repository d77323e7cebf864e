//! A client of the seed's frames. It has no offsets and cannot resume: what it can ask for is that, from the answer to
//! `subscribe` to the end of a connection, nothing is missing and nothing comes twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use realtime_tests::{Dialect, PlainClient};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::tungstenite::Error;

use crate::book::Write;
use crate::client::channels;
use crate::event;
use crate::random::Random;
use crate::reader::Desk;
use crate::stream::Scope;

const CONNECT_AGAIN: Duration = Duration::from_millis(30);

/// What came over one connection for one channel, in order.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) channel: String,
    pub(crate) scope: Scope,
    pub(crate) writes: Vec<Write>,
    /// Events that say nothing this test can have written.
    pub(crate) strange: Vec<String>,
}

/// One client, and what came over its connections.
pub(crate) struct SeedClient {
    desk: Desk,
    addresses: Vec<SocketAddr>,
    random: Random,
    segments: Vec<Segment>,
    /// The segments of this connection by channel, once the server has answered.
    open: BTreeMap<String, Segment>,
}

impl SeedClient {
    /// A client that has not connected.
    pub(crate) fn new(desk: Desk, addresses: Vec<SocketAddr>, random: Random) -> Self {
        Self { desk, addresses, random, segments: Vec::new(), open: BTreeMap::new() }
    }

    /// Listens over one connection after another until the writers rest.
    pub(crate) async fn run(mut self) -> Vec<Segment> {
        while self.desk.last.load(Ordering::Acquire) == 0 {
            let address = self.random.pick(&self.addresses);
            match PlainClient::connect(address, Dialect::Seed).await {
                // However a connection ends, what came until then counts.
                Ok(line) => drop(self.listen(line).await),
                Err(_) => sleep(CONNECT_AGAIN).await,
            }
            self.segments.extend(std::mem::take(&mut self.open).into_values());
        }
        self.segments
    }

    async fn listen(&mut self, mut line: PlainClient) -> Result<(), Error> {
        for (channel, _) in channels() {
            line.send(&json!({"type": "subscribe", "channel": channel})).await?;
        }
        let end = Instant::now() + Duration::from_millis(500 + self.random.below(6_000));
        while let Ok(frame) = timeout_at(end, line.next()).await {
            let frame = frame?;
            if frame["type"] == "error" {
                // Not available now; another connection may be luckier.
                return Ok(());
            }
            self.take(&frame);
        }
        Ok(())
    }

    fn take(&mut self, frame: &Value) {
        let channel = frame["channel"].as_str().unwrap_or_default();
        match frame["type"].as_str().unwrap_or_default() {
            "ack" => {
                let Some((channel, scope)) = channels().find(|(name, _)| name == channel) else { return };
                let segment = Segment { channel: channel.clone(), scope, writes: Vec::new(), strange: Vec::new() };
                self.open.insert(channel, segment);
            }
            "broadcast" => {
                let Some(segment) = self.open.get_mut(channel) else {
                    return self.desk.book.fail(format!("an event before the ack: {frame}"));
                };
                match event::change_of_frame(channel, &frame["payload"]).and_then(|change| change.write()) {
                    Some(write) => segment.writes.push(write),
                    None => segment.strange.push(frame.to_string()),
                }
            }
            _ => (),
        }
    }
}
