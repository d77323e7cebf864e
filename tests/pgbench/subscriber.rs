//! A subscriber of one table, which hangs up every second and goes on where it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use realtime_tests::{Dialect, PlainClient};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Error;

use crate::clock;
use crate::fold::{Fold, Table};

const CONNECTION: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One subscriber.
pub(crate) struct Subscriber {
    address: SocketAddr,
    fold: Fold,
    /// The offset at which it is done; 0 while pgbench writes.
    last: Arc<AtomicI64>,
    /// Everything up to here has come over this connection.
    safe: i64,
}

impl Subscriber {
    /// A subscriber of everything after `cursor`.
    pub(crate) fn new(table: Table, address: SocketAddr, cursor: i64, last: Arc<AtomicI64>) -> Self {
        Self { address, fold: Fold::new(table, cursor), last, safe: 0 }
    }

    /// Listens until everything has come.
    pub(crate) async fn run(mut self) -> Fold {
        while !self.is_done() {
            let line = PlainClient::connect(self.address, Dialect::Native).await.unwrap();
            self.fold.connections += 1;
            if let Err(error) = self.listen(line).await {
                self.fold.fault(&format!("the connection ended: {error}"));
                break;
            }
        }
        self.fold
    }

    fn is_done(&self) -> bool {
        let last = self.last.load(Ordering::Acquire);
        last != 0 && self.safe >= last
    }

    async fn listen(&mut self, mut line: PlainClient) -> Result<(), Error> {
        let channel = format!("table:public.{}", self.fold.table.name());
        let subscribe = json!({"type": "subscribe", "ref": 1, "channel": channel, "since": self.fold.last()});
        line.send(&subscribe).await?;
        self.safe = 0;
        let end = Instant::now() + CONNECTION;
        while !self.is_done() && Instant::now() < end {
            // Asked after `subscribe`, it is answered after what was missed.
            line.send(&json!({"type": "ping", "ref": 2})).await?;
            let until = Instant::now() + ASK_AGAIN;
            while let Ok(frame) = timeout_at(until, line.next()).await {
                self.take(&frame?);
            }
        }
        line.close().await;
        Ok(())
    }

    fn take(&mut self, frame: &Value) {
        match frame["type"].as_str().unwrap_or_default() {
            "broadcast" => {
                let now = clock::now_us();
                let at = frame["payload"]["timestamp"].as_str().and_then(clock::parse_us);
                self.fold.lags_us.extend(at.map(|at| now - at));
                self.fold.take(frame);
            }
            "pong" => self.safe = frame["offset"].as_i64().unwrap_or_default(),
            "ack" if frame["recovered"] == true => (),
            "hello" | "heartbeat" | "status" => (),
            _ => self.fold.fault(&format!("unexpected: {frame}")),
        }
    }
}
