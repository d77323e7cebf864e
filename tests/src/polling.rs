//! A client of Socket.IO over HTTP requests, one request at a time, which does what it is told and nothing by itself.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::http::{self, Answer};
use crate::wait::PATIENCE;

/// Between the packets of a payload.
const SEPARATOR: char = '\u{1e}';

/// A session over HTTP.
#[derive(Clone, Debug)]
pub struct PollingClient {
    address: SocketAddr,
    session: String,
    waiting: VecDeque<String>,
}

impl PollingClient {
    /// Opens a session; nobody has said yet who it is.
    ///
    /// # Panics
    ///
    /// When the server does not open one.
    pub async fn open(address: SocketAddr) -> Self {
        let answer = Self::try_open(address).await;
        let open = answer.body.strip_prefix('0').unwrap_or_else(|| panic!("{answer:?}"));
        let open: Value = serde_json::from_str(open).unwrap();
        let session = open["sid"].as_str().unwrap().to_owned();
        Self { address, session, waiting: VecDeque::new() }
    }

    /// What the server answers to the first request of a session.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn try_open(address: SocketAddr) -> Answer {
        http::get(address, "/socket.io/?EIO=4&transport=polling").await.expect("an answer")
    }

    /// As [`PollingClient::open`], and comes in with what it shows, such as `{"token": …}`.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn connect(address: SocketAddr, auth: &Value) -> Self {
        let mut client = Self::open(address).await;
        client.send(&format!("40{auth}")).await;
        let answer = client.packet().await;
        assert!(answer.starts_with(r#"40{"sid":""#), "{answer}");
        client
    }

    /// Where the session's requests go, with a transport such as `polling`.
    pub fn path(&self, transport: &str) -> String {
        format!("/socket.io/?EIO=4&transport={transport}&sid={}", self.session)
    }

    /// Sends a request that fetches; `None` when there is no answer.
    pub async fn try_fetch(&self) -> Option<Answer> {
        timeout(PATIENCE, http::get(self.address, &self.path("polling"))).await.expect("an answer, or the end")
    }

    /// Sends a request that fetches, and gives its answer.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn fetch(&self) -> Answer {
        self.try_fetch().await.expect("an answer")
    }

    /// Sends a request that brings a payload, and gives its answer.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn bring(&self, payload: &str) -> Answer {
        self.bring_as("text/plain;charset=UTF-8", payload).await
    }

    /// As [`PollingClient::bring`], with a type of content.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn bring_as(&self, content_type: &str, payload: &str) -> Answer {
        let head = self.head(payload.len());
        let text = format!("{head}Connection: close\r\nContent-Type: {content_type}\r\n\r\n{payload}");
        let answer = http::raw(self.address, &text);
        timeout(PATIENCE, answer).await.expect("an answer, or the end").expect("an answer")
    }

    /// The head of a request that brings so many bytes, without its last line.
    pub fn head(&self, payload_bytes: usize) -> String {
        let (path, address) = (self.path("polling"), self.address);
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {payload_bytes}\r\n")
    }

    /// Brings a packet.
    ///
    /// # Panics
    ///
    /// When it is not taken.
    pub async fn send(&mut self, packet: &str) {
        let answer = self.bring(packet).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{packet}");
    }

    /// The next packet that is neither a ping, which is answered, nor nothing.
    ///
    /// # Panics
    ///
    /// When the session ends first.
    pub async fn packet(&mut self) -> String {
        loop {
            while let Some(packet) = self.waiting.pop_front() {
                match packet.as_str() {
                    "2" => self.send("3").await,
                    "6" => (),
                    _ => return packet,
                }
            }
            let answer = self.fetch().await;
            assert_eq!(answer.status, 200, "{answer:?}");
            self.waiting = packets(&answer.body);
        }
    }

    /// What was fetched and not given yet.
    pub fn fetched(&mut self) -> VecDeque<String> {
        std::mem::take(&mut self.waiting)
    }

    /// Sends an event with the ack id 1 and waits for its answer; what comes before it is passed over.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn ask(&mut self, name: &str, body: &Value) -> Value {
        self.send(&format!("421{}", json!([name, body]))).await;
        loop {
            if let Some(answer) = self.packet().await.strip_prefix("431") {
                return serde_json::from_str::<Value>(answer).unwrap()[0].take();
            }
        }
    }

    /// The next event: its name and what came with it.
    ///
    /// # Panics
    ///
    /// When the next packet is none.
    pub async fn event(&mut self) -> (String, Value) {
        let packet = self.packet().await;
        let event = packet.strip_prefix("42").unwrap_or_else(|| panic!("{packet}"));
        serde_json::from_str(event).unwrap()
    }

    /// Opens a WebSocket that tries whether the session could move to it.
    ///
    /// # Errors
    ///
    /// Why the server refuses.
    pub async fn try_upgrade(&self) -> Result<Upgrade, tungstenite::Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let url = format!("ws://{}{}", self.address, self.path("websocket"));
        let opening = timeout(PATIENCE, tokio_tungstenite::client_async(url, stream));
        opening.await.expect("an answer").map(|(socket, _)| Upgrade { socket })
    }

    /// As [`PollingClient::try_upgrade`].
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn upgrade(&self) -> Upgrade {
        self.try_upgrade().await.unwrap()
    }
}

/// A WebSocket beside a session over HTTP.
pub struct Upgrade {
    socket: WebSocketStream<TcpStream>,
}

impl Upgrade {
    /// Sends a packet.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn send(&mut self, packet: &str) {
        self.socket.send(Message::text(packet)).await.unwrap();
    }

    /// The next packet, or `None` when the connection has ended.
    pub async fn packet(&mut self) -> Option<String> {
        match timeout(PATIENCE, self.socket.next()).await.expect("a packet, or the end") {
            Some(Ok(Message::Text(text))) => Some(text.as_str().to_owned()),
            _ => None,
        }
    }
}

/// The packets of an answer.
pub fn packets(payload: &str) -> VecDeque<String> {
    payload.split(SEPARATOR).map(str::to_owned).collect()
}
