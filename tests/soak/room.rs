//! Everybody in one room: what a connection costs in memory, and how fast a message reaches all, over Socket.IO and
//! over the native protocol in the same run.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use realtime_tests::token::{claims, in_seconds};
use realtime_tests::{Stack, eventually, within};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::figures::{percentile, resident_bytes, take_all_descriptors};

/// A message must have reached everybody after this time.
const ALL_MAX: Duration = Duration::from_secs(60);
/// So many connect at once.
const OPENING: usize = 100;

/// How large a run is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) clients: usize,
    /// How often each protocol is measured.
    pub(crate) rounds: usize,
    /// Messages of each measurement.
    pub(crate) messages: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Native,
    SocketIo,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Self::Native { "native" } else { "socketio" })
    }
}

/// What was measured of one protocol.
#[derive(Default)]
struct Figures {
    bytes_per_connection: f64,
    deliveries_per_second: Vec<f64>,
    first_to_last_ms: Vec<f64>,
}

/// Fills a room over each protocol and speaks in it.
pub(crate) async fn run(size: Size) {
    take_all_descriptors();
    let mut stack = start(size.clients).await;
    let mut figures = [(Kind::Native, Figures::default()), (Kind::SocketIo, Figures::default())];
    for round in 0..size.rounds {
        for (kind, figures) in &mut figures {
            measure(&mut stack, *kind, size, figures, round == 0).await;
        }
    }
    println!("room_connections {}", size.clients);
    for (kind, figures) in &mut figures {
        println!("room_{kind}_kib_per_connection {:.1}", figures.bytes_per_connection / 1024.0);
        println!("room_{kind}_deliveries_per_second {:.0}", percentile(&mut figures.deliveries_per_second, 50));
        println!("room_{kind}_one_message_reaches_all_ms {:.1}", percentile(&mut figures.first_to_last_ms, 50));
    }
}

async fn start(clients: usize) -> Stack {
    let limit = (clients * 2).to_string();
    let mut builder = Stack::builder();
    for name in ["MAX", "PER_USER_MAX", "PER_ADDRESS_MAX"] {
        builder = builder.set(&format!("REALTIME_LIMITS_CONNECTIONS_{name}"), &limit);
    }
    let room = "insert into realtime.channels (pattern) values ('room');
                create policy enter on realtime.channels for select to authenticated using (true);";
    builder.sql(room).start().await
}

/// One round of one protocol, with a sidecar that has served nobody before.
async fn measure(stack: &mut Stack, kind: Kind, size: Size, figures: &mut Figures, is_first: bool) {
    stack.sidecar.kill();
    stack.sidecar.start_again();
    stack.sidecar.ready().await;
    let pid = stack.sidecar.pid().unwrap();
    let empty = resident_bytes(pid);
    let mut room = open_all(stack, kind, size.clients).await;
    if is_first {
        let grown = resident_bytes(pid).saturating_sub(empty);
        figures.bytes_per_connection = u32::try_from(grown).map_or(f64::NAN, f64::from) / as_f64(size.clients);
    }
    let began = Instant::now();
    room = speak(stack, room, 1).await;
    figures.first_to_last_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    let began = Instant::now();
    room = speak(stack, room, size.messages).await;
    let deliveries = as_f64(size.clients * size.messages);
    figures.deliveries_per_second.push(deliveries / began.elapsed().as_secs_f64());
    drop(room);
    eventually("all have gone", async || (stack.sidecar.stats().await["connections"] == 0).then_some(())).await;
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}

/// Publishes so many messages in one transaction and waits until everybody has each of them once.
async fn speak(stack: &Stack, room: Vec<Seat>, messages: usize) -> Vec<Seat> {
    let mut listening = JoinSet::new();
    for mut seat in room {
        listening.spawn(async move {
            seat.hear(messages).await;
            seat
        });
    }
    let text =
        format!("select realtime.publish('room', 'n', '{{\"text\": \"hello\"}}') from generate_series(1, {messages})");
    stack.exec(&text).await;
    within(ALL_MAX, "everybody hears it", listening.join_all()).await
}

/// Connects them all, not faster than they are served. All are one user: that who is there is told to everybody is
/// another matter.
async fn open_all(stack: &Stack, kind: Kind, clients: usize) -> Vec<Seat> {
    let mut all = claims("00000000-0000-4000-8000-00000000ada1");
    all["exp"] = json!(in_seconds(7200));
    let token = stack.signer.sign(&all);
    let address = stack.sidecar.address();
    let mut room = Vec::new();
    while room.len() < clients {
        let mut opening = JoinSet::new();
        for _ in 0..OPENING.min(clients - room.len()) {
            let token = token.clone();
            opening.spawn(async move { Seat::open(address, kind, &token).await });
        }
        room.extend(within(ALL_MAX, "they connect", opening.join_all()).await);
    }
    eventually("all are counted", async || (stack.sidecar.stats().await["connections"] == clients).then_some(())).await;
    room
}

/// A connection with one subscription, which counts messages and looks at nothing else.
struct Seat {
    kind: Kind,
    socket: WebSocketStream<TcpStream>,
}

impl Seat {
    async fn open(address: SocketAddr, kind: Kind, token: &str) -> Self {
        let path = match kind {
            Kind::Native => format!("/realtime?token={token}"),
            Kind::SocketIo => "/socket.io/?EIO=4&transport=websocket".to_owned(),
        };
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if kind == Kind::Native {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("realtime.v1"));
        }
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // Thousands of them are in this process too.
        let small = WebSocketConfig::default().read_buffer_size(4096);
        let socket = tokio_tungstenite::client_async_with_config(request, stream, Some(small)).await.unwrap().0;
        let mut seat = Self { kind, socket };
        seat.subscribe(token).await;
        seat
    }

    async fn subscribe(&mut self, token: &str) {
        match self.kind {
            Kind::Native => {
                self.send(&json!({"type": "subscribe", "channel": "room", "ref": "s"}).to_string()).await;
                self.until(r#""type":"ack""#).await;
            }
            Kind::SocketIo => {
                self.send(&format!("40{}", json!({ "token": token }))).await;
                self.until("40{").await;
                self.send(r#"420["realtime:subscribe",{"channel":"room"}]"#).await;
                self.until(r#"430[{"ok":true"#).await;
            }
        }
    }

    async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message; the server's pings are answered on the way.
    async fn next(&mut self) -> String {
        loop {
            let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else { continue };
            if self.kind == Kind::SocketIo && text == "2" {
                self.send("3").await;
                continue;
            }
            return text.as_str().to_owned();
        }
    }

    async fn until(&mut self, part: &str) {
        loop {
            let text = self.next().await;
            assert!(!text.starts_with("44") && !text.contains(r#""type":"error""#), "{text}");
            if text.contains(part) {
                return;
            }
        }
    }

    /// Waits for so many messages; one more would be one too many.
    async fn hear(&mut self, messages: usize) {
        let event = if self.kind == Kind::Native { r#""event":"n""# } else { r#"42["n","# };
        let mut heard = 0;
        while heard < messages {
            heard += self.next().await.matches(event).count();
        }
        assert_eq!(heard, messages);
    }
}
