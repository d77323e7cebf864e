//! A client for load: it keeps a cursor, and takes a frame apart only where it must.

use std::net::SocketAddr;

use realtime_tests::{Dialect, PlainClient};
use serde_json::{Value, json};

/// A connection with one subscription.
pub(crate) struct Line {
    client: PlainClient,
    /// The offset of the last event that came.
    pub(crate) cursor: i64,
}

impl Line {
    /// Connects and subscribes to everything after `since`.
    ///
    /// The answer must say that nothing is missing.
    pub(crate) async fn open(address: SocketAddr, channel: &str, since: i64) -> Result<Self, String> {
        let failed = |error: tokio_tungstenite::tungstenite::Error| error.to_string();
        let mut client = PlainClient::connect(address, Dialect::Native).await.map_err(failed)?;
        let frame = json!({"type": "subscribe", "ref": "s", "channel": channel, "since": since});
        client.send(&frame).await.map_err(failed)?;
        loop {
            let frame = client.next().await.map_err(failed)?;
            match frame["type"].as_str() {
                Some("ack") if frame["recovered"] == true => return Ok(Self { client, cursor: since }),
                Some("hello" | "status") => (),
                _ => return Err(frame.to_string()),
            }
        }
    }

    /// The id of the row in the next event.
    pub(crate) async fn row(&mut self) -> Result<i64, String> {
        let event = self.event().await?;
        event["payload"]["record"]["id"].as_i64().ok_or_else(|| event.to_string())
    }

    /// The next event. A gap, or anything else that says that something is missing, is an error.
    pub(crate) async fn event(&mut self) -> Result<Value, String> {
        loop {
            let frame = self.client.next().await.map_err(|error| error.to_string())?;
            match frame["type"].as_str() {
                Some("broadcast") => {
                    self.cursor = frame["offset"].as_i64().ok_or("no offset")?;
                    return Ok(frame);
                }
                Some("heartbeat" | "status") => (),
                _ => return Err(frame.to_string()),
            }
        }
    }
}
