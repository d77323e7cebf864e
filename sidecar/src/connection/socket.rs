//! One WebSocket: frames in, frames out, with small buffers. The only file that names tungstenite.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::tungstenite::{
    self, Message,
    error::CapacityError,
    handshake::derive_accept_key,
    protocol::{CloseFrame, Role, WebSocket, WebSocketConfig, frame::coding::CloseCode},
};

use crate::error::CloseReason;

/// Frames are taken while fewer bytes than this wait for the network; then the network is waited for.
const BUFFER_BYTES: usize = 64 * 1024;
/// A frame is taken whole, so the buffer may hold one more: the largest event with every byte escaped, and its old row.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Allocated for each connection at once, so it decides what an idle connection costs.
const READ_BUFFER_BYTES: usize = 4096;

/// One WebSocket of a client.
pub struct Socket {
    websocket: WebSocket<Counted>,
    /// Bytes of frames since the last complete flush.
    buffered_bytes: usize,
    /// Something may wait for the network.
    dirty: bool,
    /// The network could not take it at once.
    waited: bool,
    progress: Progress,
}

/// What happened on a socket.
#[derive(Debug)]
pub enum Incoming {
    /// A text frame.
    Text(String),
    /// A binary frame; its content is of no interest.
    Binary,
    /// A sign of life without content.
    Alive,
    /// All frames are gone; `true` when the network had to be waited for, which takes them only from a peer that lives.
    Flushed(bool),
    /// The socket is to be closed, or when `None` it is closed.
    End(Option<CloseReason>),
}

/// When the network last took something.
struct Progress {
    written: u64,
    at: Instant,
}

/// The answer to the key of an opening request.
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}

impl Socket {
    /// Takes over a connection after its handshake; `read` was read behind the handshake.
    #[must_use]
    pub fn new(stream: TcpStream, read: Vec<u8>, frame_bytes_max: usize, now: Instant) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(BUFFER_BYTES + FRAME_BYTES_MAX)
            .max_message_size(Some(frame_bytes_max))
            .max_frame_size(Some(frame_bytes_max));
        let stream = Counted { stream, written: 0 };
        Self {
            websocket: WebSocket::from_partially_read(stream, read, Role::Server, Some(config)),
            buffered_bytes: 0,
            dirty: false,
            waited: false,
            progress: Progress { written: 0, at: now },
        }
    }

    /// Changes how large a frame from the client may be.
    pub fn limit_frames(&mut self, frame_bytes_max: usize) {
        self.websocket.set_config(|config| {
            config.max_message_size = Some(frame_bytes_max);
            config.max_frame_size = Some(frame_bytes_max);
        });
    }

    /// Whether frames should be added, or the network be waited for.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.buffered_bytes < BUFFER_BYTES
    }

    /// Whether something waits for the network.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.dirty
    }

    /// Adds a text frame. Nothing is sent before [`Socket::next`].
    pub fn send(&mut self, frame: String) {
        self.buffered_bytes += frame.len();
        self.write(Message::text(frame));
    }

    /// Adds a ping.
    pub fn ping(&mut self) {
        self.write(Message::Ping(Default::default()));
    }

    /// Adds the close frame; nothing can be sent after it.
    pub fn close(&mut self, reason: Option<CloseReason>) {
        let frame =
            reason.map(|reason| CloseFrame { code: CloseCode::from(reason.code()), reason: reason.text().into() });
        self.write(Message::Close(frame));
    }

    fn write(&mut self, message: Message) {
        // What the network does not take now is kept, and every fault shows again at the next flush or read.
        let _ = self.websocket.write(message);
        self.dirty = true;
    }

    /// Sends what waits, and with `want_read` receives. Cancelling it loses nothing.
    pub async fn next(&mut self, want_read: bool) -> Incoming {
        poll_fn(|context| self.poll_next(context, want_read)).await
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>, want_read: bool) -> Poll<Incoming> {
        if self.dirty
            && let Poll::Ready(flushed) = self.poll_flushed(context)
        {
            return Poll::Ready(flushed.map_or_else(|error| end(&error), |()| self.all_gone()));
        }
        if !want_read {
            return Poll::Pending;
        }
        self.poll_message(context).map(|read| match read {
            Ok(message) => self.incoming(message),
            Err(error) => end(&error),
        })
    }

    fn all_gone(&mut self) -> Incoming {
        self.dirty = false;
        self.buffered_bytes = 0;
        Incoming::Flushed(std::mem::take(&mut self.waited))
    }

    fn poll_flushed(&mut self, context: &mut Context<'_>) -> Poll<tungstenite::Result<()>> {
        loop {
            match self.websocket.flush() {
                Err(error) if would_block(&error) => {
                    let ready = self.websocket.get_ref().stream.poll_write_ready(context);
                    self.waited |= ready.is_pending();
                    ready!(ready)?;
                }
                flushed => return Poll::Ready(flushed),
            }
        }
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<tungstenite::Result<Message>> {
        loop {
            match self.websocket.read() {
                Err(error) if would_block(&error) => {
                    ready!(self.websocket.get_ref().stream.poll_read_ready(context))?;
                }
                read => return Poll::Ready(read),
            }
        }
    }

    fn incoming(&mut self, message: Message) -> Incoming {
        match message {
            Message::Text(text) => Incoming::Text(text.as_str().to_owned()),
            Message::Binary(_) => Incoming::Binary,
            Message::Ping(_) | Message::Close(_) => {
                // The answer is in the buffer.
                self.dirty = true;
                Incoming::Alive
            }
            Message::Pong(_) | Message::Frame(_) => Incoming::Alive,
        }
    }

    /// How long the network has taken nothing although something waits for it.
    pub fn stalled_for(&mut self, now: Instant) -> Duration {
        let written = self.websocket.get_ref().written;
        if !self.dirty || written != self.progress.written {
            self.progress = Progress { written, at: now };
        }
        now.saturating_duration_since(self.progress.at)
    }

    /// Sends what waits, then lets the client read it: closing a socket that has unread input would reset it and throw
    /// away what the client has not read yet.
    pub async fn finish(&mut self) {
        // After a close frame the flush ends with "closed", which is what is wanted here.
        let _ = poll_fn(|context| self.poll_flushed(context)).await;
        let stream = &mut self.websocket.get_mut().stream;
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scrap = [0; 1024];
        while poll_fn(|context| stream.poll_read_ready(context)).await.is_ok() {
            match stream.try_read(&mut scrap) {
                Ok(0) => return,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                _ => (),
            }
        }
    }
}

fn would_block(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn end(error: &tungstenite::Error) -> Incoming {
    use tungstenite::{Error, error::ProtocolError};
    Incoming::End(match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseReason::TooLarge),
        Error::Utf8(_) => Some(CloseReason::NotText),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) | Error::AttackAttempt => Some(CloseReason::Protocol),
        _ => None,
    })
}

/// A stream that counts what the network took.
struct Counted {
    stream: TcpStream,
    written: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.stream.try_write(bytes)?;
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn only_what_had_to_wait_tells_that_the_peer_takes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("a peer");
        let mut socket = Socket::new(stream, Vec::new(), 1024, Instant::now());
        socket.ping();
        assert!(matches!(socket.next(false).await, Incoming::Flushed(false)));
        // More than two systems keep for each other.
        socket.send("x".repeat(FRAME_BYTES_MAX));
        let mut flush = Box::pin(socket.next(false));
        tokio::select! {
            biased;
            flushed = &mut flush => panic!("nobody has taken it: {flushed:?}"),
            () = std::future::ready(()) => (),
        }
        let mut scrap = vec![0; 1 << 20];
        loop {
            tokio::select! {
                flushed = &mut flush => {
                    assert!(matches!(flushed, Incoming::Flushed(true)));
                    return;
                }
                taken = peer.read(&mut scrap) => assert!(taken.is_ok_and(|count| count > 0)),
            }
        }
    }
}
