//! A WebSocket client that checks every frame that it receives.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::frame::Frame;
use crate::wait::PATIENCE;

mod rules;

use rules::Rules;

/// Which frames a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The native protocol, version 1.
    Native,
    /// The frames of the Fluxbase seed.
    Seed,
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct Connect {
    address: SocketAddr,
    dialect: Dialect,
    query: Vec<String>,
    headers: Vec<(String, String)>,
}

/// The server refused the opening request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status, such as 401. 0 when the connection ended without an answer.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// How the server ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code of the close frame; 1006 when the connection ended without one.
    pub code: u16,
    /// The reason in the close frame.
    pub reason: String,
}

/// A connected client. Every frame that it receives is checked against the protocol's schemas and rules.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    dialect: Dialect,
    hello: Option<Frame>,
    rules: Rules,
    backlog: VecDeque<Frame>,
    references: u64,
}

impl Connect {
    /// A connection without a token.
    pub fn new(address: SocketAddr, dialect: Dialect) -> Self {
        Self { address, dialect, query: Vec::new(), headers: Vec::new() }
    }

    /// The other dialect.
    #[must_use]
    pub fn seed(mut self) -> Self {
        self.dialect = Dialect::Seed;
        self
    }

    /// With a token in the address.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.query(&format!("token={token}"))
    }

    /// With a part of the query, such as `numbers=string`.
    #[must_use]
    pub fn query(mut self, part: &str) -> Self {
        self.query.push(part.to_owned());
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Through another address, such as a proxy's.
    #[must_use]
    pub fn through(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Connects and, in the native protocol, takes the `hello`.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn open(&self) -> Client {
        self.try_open().await.unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
    }

    /// As [`Connect::open`], telling how the server refused.
    ///
    /// # Errors
    ///
    /// When the server does not open a WebSocket.
    pub async fn try_open(&self) -> Result<Client, Refusal> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| Refusal::lost(&error))?;
        self.try_open_on(stream).await
    }

    /// As [`Connect::try_open`], over a connection that the caller has made.
    ///
    /// # Errors
    ///
    /// When the server does not open a WebSocket.
    pub async fn try_open_on(&self, stream: TcpStream) -> Result<Client, Refusal> {
        let _ = stream.set_nodelay(true);
        let opening = tokio_tungstenite::client_async(self.request(), stream);
        let (socket, _) = timeout(PATIENCE, opening).await.expect("the server answers").map_err(Refusal::of)?;
        let mut client = Client {
            socket,
            dialect: self.dialect,
            hello: None,
            rules: Rules::default(),
            backlog: VecDeque::new(),
            references: 0,
        };
        if self.dialect == Dialect::Native {
            client.hello = Some(client.expect("hello").await);
        }
        Ok(client)
    }

    fn request(&self) -> tungstenite::handshake::client::Request {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.join("&")) };
        let mut request = format!("ws://{}/realtime{query}", self.address).into_client_request().unwrap();
        let headers = request.headers_mut();
        if self.dialect == Dialect::Native {
            headers.insert("sec-websocket-protocol", HeaderValue::from_static("realtime.v1"));
        }
        for (name, value) in &self.headers {
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        request
    }
}

impl Refusal {
    fn of(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => {
                let (head, body) = response.into_parts();
                let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
                Self { status: head.status.as_u16(), body }
            }
            other => Self::lost(&other),
        }
    }

    fn lost(error: &dyn fmt::Display) -> Self {
        Self { status: 0, body: error.to_string() }
    }
}

impl Client {
    /// The first frame of the server (native protocol).
    ///
    /// # Panics
    ///
    /// With the seed's frames, which have none.
    pub fn hello(&self) -> &Frame {
        self.hello.as_ref().expect("the native protocol begins with a hello")
    }

    /// Sends a frame.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn send(&mut self, frame: Value) {
        self.send_raw(Message::text(frame.to_string())).await;
    }

    /// Sends a text frame, whatever it holds.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn send_text(&mut self, text: &str) {
        self.send_raw(Message::text(text)).await;
    }

    /// Sends any frame.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn send_raw(&mut self, message: Message) {
        self.try_send(message).await.unwrap_or_else(|error| panic!("could not send: {error}"));
    }

    /// Sends any frame, telling when that cannot be done.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn try_send(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        self.socket.send(message).await
    }

    /// Sends a frame with a `ref` and waits for its answer; what comes before the answer is kept for later.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn ask(&mut self, mut frame: Value) -> Frame {
        self.references += 1;
        let reference = json!(format!("r{}", self.references));
        frame["ref"] = reference.clone();
        self.send(frame).await;
        self.find(&format!("the answer to {reference}"), |frame| frame["ref"] == reference).await
    }

    /// Subscribes to a channel and returns the ack.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn subscribe(&mut self, channel: &str) -> Frame {
        self.subscribe_with(json!({"channel": channel})).await
    }

    /// As [`Client::subscribe`], beginning after an offset.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn resume(&mut self, channel: &str, since: i64) -> Frame {
        self.subscribe_with(json!({"channel": channel, "since": since})).await
    }

    /// As [`Client::subscribe`], with any members of the frame.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn subscribe_with(&mut self, frame: Value) -> Frame {
        let answer = self.try_subscribe(frame.clone()).await;
        assert_eq!(answer.kind(), "ack", "{frame} was refused: {answer}");
        answer
    }

    /// As [`Client::subscribe_with`], returning whatever the answer is.
    pub async fn try_subscribe(&mut self, mut frame: Value) -> Frame {
        frame["type"] = json!("subscribe");
        match self.dialect {
            Dialect::Native => self.ask(frame).await,
            Dialect::Seed => self.ask_seed(frame).await,
        }
    }

    /// Ends a subscription and returns the ack.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn unsubscribe(&mut self, channel: &str) -> Frame {
        let frame = json!({"type": "unsubscribe", "channel": channel});
        let answer = match self.dialect {
            Dialect::Native => self.ask(frame).await,
            Dialect::Seed => self.ask_seed(frame).await,
        };
        assert_eq!(answer.kind(), "ack", "{answer}");
        answer
    }

    /// The seed's answers name the channel, its errors nothing.
    async fn ask_seed(&mut self, frame: Value) -> Frame {
        let channel = frame["channel"].clone();
        self.send(frame).await;
        self.find("an answer of the seed", |frame| {
            frame.kind() == "error" || frame.kind() == "ack" && frame["channel"] == channel
        })
        .await
    }

    /// Publishes a message and returns the answer.
    pub async fn publish(&mut self, channel: &str, event: &str, payload: Value) -> Frame {
        self.ask(json!({"type": "publish", "channel": channel, "event": event, "payload": payload})).await
    }

    /// The next frame, heartbeats apart.
    ///
    /// # Panics
    ///
    /// When none comes, or the connection ends.
    pub async fn next(&mut self) -> Frame {
        match self.next_or_close().await {
            Ok(frame) => frame,
            Err(closed) => panic!("the connection ended: {closed:?}"),
        }
    }

    /// The next frame, which must be of this type.
    ///
    /// # Panics
    ///
    /// When another comes, or none.
    pub async fn expect(&mut self, kind: &str) -> Frame {
        let frame = self.next().await;
        assert_eq!(frame.kind(), kind, "{frame}");
        frame
    }

    /// The next frame, which must be an event.
    ///
    /// # Panics
    ///
    /// When another comes, or none.
    pub async fn event(&mut self) -> Frame {
        self.expect("broadcast").await
    }

    /// This many events, and nothing else between them.
    ///
    /// # Panics
    ///
    /// When another frame comes, or none.
    pub async fn events(&mut self, count: usize) -> Vec<Frame> {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.push(self.event().await);
        }
        events
    }

    /// The next frame, heartbeats apart, or how the connection ended.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    ///
    /// # Panics
    ///
    /// When nothing happens.
    pub async fn next_or_close(&mut self) -> Result<Frame, Closed> {
        loop {
            let frame = self.next_of_any_kind(PATIENCE).await?;
            if frame.kind() != "heartbeat" {
                return Ok(frame);
            }
        }
    }

    /// How the connection ends; the frames before that are returned too.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn closed(&mut self) -> (Vec<Frame>, Closed) {
        let mut frames = Vec::new();
        loop {
            match self.next_or_close().await {
                Ok(frame) => frames.push(frame),
                Err(closed) => return (frames, closed),
            }
        }
    }

    /// The next frame that fits; those before it are kept for later.
    ///
    /// # Panics
    ///
    /// When none comes, or the connection ends.
    pub async fn find(&mut self, what: &str, fits: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(index) = self.backlog.iter().position(&fits) {
            return self.backlog.remove(index).unwrap();
        }
        loop {
            match self.receive(PATIENCE).await {
                Ok(Some(frame)) if fits(&frame) => return frame,
                Ok(Some(frame)) => self.backlog.push_back(frame),
                Ok(None) => panic!("waited in vain for {what}; before it came {:?}", self.backlog),
                Err(closed) => panic!("the connection ended before {what}: {closed:?}, after {:?}", self.backlog),
            }
        }
    }

    /// The next frame, heartbeats too.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    ///
    /// # Panics
    ///
    /// When nothing comes within `patience`.
    pub async fn next_of_any_kind(&mut self, patience: Duration) -> Result<Frame, Closed> {
        if let Some(frame) = self.backlog.pop_front() {
            return Ok(frame);
        }
        let frame = self.receive(patience).await?;
        Ok(frame.unwrap_or_else(|| panic!("waited {} s in vain for a frame", patience.as_secs())))
    }

    /// Ends the connection as a client should.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    /// The connection itself, for what no client should do.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Takes one frame from the socket; `None` after `patience`.
    async fn receive(&mut self, patience: Duration) -> Result<Option<Frame>, Closed> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let Ok(message) = tokio::time::timeout_at(deadline, self.socket.next()).await else {
                return Ok(None);
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    let mut frames = Frame::parse_all(&text).into_iter();
                    let first = frames.next();
                    first.iter().for_each(|frame| self.rules.check(self.dialect, frame));
                    for frame in frames {
                        self.rules.check(self.dialect, &frame);
                        self.backlog.push_back(frame);
                    }
                    if first.is_some() {
                        return Ok(first);
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => (),
                Some(Ok(Message::Binary(_))) => panic!("binary frames are reserved"),
                Some(Ok(Message::Close(frame))) => return Err(Closed::by(frame)),
                Some(Err(_)) | None => return Err(Closed { code: 1006, reason: String::new() }),
            }
        }
    }
}

impl Closed {
    fn by(frame: Option<tungstenite::protocol::CloseFrame>) -> Self {
        frame.map_or(Self { code: 1005, reason: String::new() }, |frame| Self {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        })
    }
}
