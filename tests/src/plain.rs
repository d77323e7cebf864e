//! A WebSocket client that checks nothing and never panics: for load, and for servers that are killed under it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::Dialect;

/// A server that takes longer to shake hands is as good as gone.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A connection over which frames go as they are.
pub struct PlainClient {
    socket: WebSocketStream<TcpStream>,
    waiting: VecDeque<String>,
}

impl PlainClient {
    /// Connects to `/realtime`. In the native protocol the `hello` is the first frame that [`PlainClient::next`] gives.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, refuses, or does not answer within ten seconds.
    pub async fn connect(address: SocketAddr, dialect: Dialect) -> Result<Self, Error> {
        let opening = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut request = format!("ws://{address}/realtime").into_client_request()?;
            if dialect == Dialect::Native {
                let headers = request.headers_mut();
                headers.insert("sec-websocket-protocol", HeaderValue::from_static("realtime.v1"));
            }
            Ok(tokio_tungstenite::client_async(request, stream).await?.0)
        };
        let socket = timeout(HANDSHAKE_MAX, opening).await.unwrap_or(Err(Error::ConnectionClosed))?;
        Ok(Self { socket, waiting: VecDeque::new() })
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn send(&mut self, frame: &Value) -> Result<(), Error> {
        self.socket.send(Message::text(frame.to_string())).await
    }

    /// The next frame. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn next(&mut self) -> Result<Value, Error> {
        let text = self.next_text().await?;
        // Not JSON: whoever reads the frames will not understand it either, and say so.
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The next frame, byte for byte. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn next_text(&mut self) -> Result<String, Error> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Ok(frame);
            }
            match self.socket.next().await.ok_or(Error::ConnectionClosed)?? {
                Message::Text(text) => self.waiting.extend(frames(&text)),
                Message::Close(_) => return Err(Error::ConnectionClosed),
                _ => (),
            }
        }
    }

    /// Ends the connection as a client should.
    pub async fn close(mut self) {
        // The other side may be gone already.
        let _ = self.socket.close(None).await;
    }
}

/// The frames of a message: one, or the members of an array.
fn frames(text: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(frames) => frames.into_iter().map(|frame| frame.get().to_owned()).collect(),
        Err(_) => vec![text.to_owned()],
    }
}
