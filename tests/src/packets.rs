//! A client of Socket.IO over a WebSocket: packets go as they are, pings are answered.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::wait::PATIENCE;
use crate::{Closed, Stack};

/// A client of Socket.IO.
pub struct PacketClient {
    socket: WebSocketStream<TcpStream>,
    /// What came while something else was waited for.
    backlog: VecDeque<String>,
    acks: u64,
}

impl PacketClient {
    /// Opens a session and takes the first packet; nobody has said yet who it is.
    ///
    /// # Panics
    ///
    /// When the server does not open one.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = timeout(PATIENCE, tokio_tungstenite::client_async(url, stream)).await.unwrap().unwrap();
        let mut client = Self { socket, backlog: VecDeque::new(), acks: 0 };
        let open = client.packet().await;
        assert!(open.starts_with("0{"), "{open}");
        client
    }

    /// As [`PacketClient::open`], and comes in with what it shows, such as `{"token": …}`.
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

    /// Sends a packet.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn send(&mut self, packet: &str) {
        self.socket.send(Message::text(packet)).await.unwrap();
    }

    /// Sends a binary frame.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// Sends an event that nobody answers.
    pub async fn emit(&mut self, name: &str, body: &Value) {
        self.send(&format!("42{}", json!([name, body]))).await;
    }

    /// Sends an event and waits for its answer.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn ask(&mut self, name: &str, body: &Value) -> Value {
        self.acks += 1;
        let head = format!("43{}[", self.acks);
        self.send(&format!("42{}{}", self.acks, json!([name, body]))).await;
        let packet = self.wait_for(|packet| packet.starts_with(&head)).await;
        let answer: Vec<Value> = serde_json::from_str(&packet[head.len() - 1..]).unwrap();
        answer.into_iter().next().unwrap()
    }

    /// Subscribes, and gives the answer.
    pub async fn subscribe(&mut self, channel: &str) -> Value {
        self.ask("realtime:subscribe", &json!({ "channel": channel })).await
    }

    /// Publishes; nobody answers.
    pub async fn publish(&mut self, channel: &str, event: &str, payload: &Value) {
        self.emit("realtime:publish", &json!({ "channel": channel, "event": event, "payload": payload })).await;
    }

    /// The next event: its name and what came with it.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn event(&mut self) -> (String, Value) {
        let packet = self.wait_for(|packet| packet.starts_with("42")).await;
        serde_json::from_str(&packet[2..]).unwrap_or_else(|error| panic!("{packet}: {error}"))
    }

    /// The next event of this name; what comes before it is passed over.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn event_named(&mut self, name: &str) -> Value {
        loop {
            let (found, body) = self.event().await;
            if found == name {
                return body;
            }
        }
    }

    async fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        if let Some(at) = self.backlog.iter().position(|packet| wanted(packet)) {
            return self.backlog.remove(at).unwrap();
        }
        loop {
            let packet = self.receive().await.unwrap_or_else(|closed| panic!("closed: {closed:?}"));
            if wanted(&packet) {
                return packet;
            }
            self.backlog.push_back(packet);
        }
    }

    /// The next packet that is no ping.
    ///
    /// # Panics
    ///
    /// When the connection ends first.
    pub async fn packet(&mut self) -> String {
        self.wait_for(|_| true).await
    }

    /// Waits for the end of the connection; what comes before it is given too.
    pub async fn closed(&mut self) -> (Vec<String>, Closed) {
        let mut packets: Vec<String> = self.backlog.drain(..).collect();
        loop {
            match self.receive().await {
                Ok(packet) => packets.push(packet),
                Err(closed) => return (packets, closed),
            }
        }
    }

    async fn receive(&mut self) -> Result<String, Closed> {
        let lost = || Closed { code: 1006, reason: String::new() };
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a packet, or the end") {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                    let _ = self.socket.send(Message::text("3")).await;
                }
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let closed = frame.map(|it| Closed { code: it.code.into(), reason: it.reason.as_str().to_owned() });
                    return Err(closed.unwrap_or_else(lost));
                }
                Some(Ok(_)) => (),
                Some(Err(_)) | None => return Err(lost()),
            }
        }
    }
}

impl Stack {
    /// A client of Socket.IO, signed in with the role `authenticated`.
    pub async fn packets_as(&self, sub: &str) -> PacketClient {
        PacketClient::connect(self.sidecar.address(), &json!({ "token": self.signer.user(sub) })).await
    }
}
