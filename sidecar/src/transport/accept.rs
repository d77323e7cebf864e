//! The accept loop: HTTP/1 with small limits, then whatever the router does with the request.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower_service::Service;
use tracing::{debug, warn};

use super::{opening::Peer, turn::Turn};
use crate::{config::Config, tasks::Tasks};

/// Requests that are being read or answered at the same time; WebSockets are counted elsewhere.
const REQUESTS_MAX: usize = 2048;
/// How long one connection may go on with requests; a WebSocket leaves this count when it opens.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long to wait when the system has no more files, so that others can close some.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// What the system may keep for a client that has not taken it. Linux wakes a writer when a third of its buffer is free:
/// with the megabytes that it gives by itself, a client that reads slowly looks like one that does not read at all.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// A bound address.
pub struct Listener {
    listener: TcpListener,
    limits: ListenerLimits,
}

/// What a request may be.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Bytes of its head.
    pub head_bytes_max: usize,
    /// Number of its headers.
    pub headers_max: usize,
    /// How long its head may take.
    pub head_deadline: Duration,
}

impl ListenerLimits {
    /// The limits of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            head_bytes_max: config.limits.handshake_bytes_max,
            headers_max: config.limits.handshake_headers_max,
            head_deadline: Duration::from_millis(config.timing.handshake_ms),
        }
    }
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    ///
    /// When it is taken or not of this machine.
    pub async fn bind(address: SocketAddr, limits: ListenerLimits) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, limits })
    }

    /// The address, with the port that was found when none was asked for.
    ///
    /// # Errors
    ///
    /// When the system does not know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until the tasks are asked to stop.
    pub async fn run(self, router: Router, tasks: Tasks) {
        let stop = tasks.stopping();
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match (accepted, permit) {
                (Ok((stream, peer)), Ok(permit)) => {
                    let turn = Turn::new(&room, permit);
                    tasks.spawn(serve(stream, peer, router.clone(), self.limits, tasks.clone(), turn));
                }
                (Err(error), _) => {
                    warn!(%error, "no connection can be accepted now");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
                // The semaphore is never closed.
                (_, Err(_)) => return,
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Frames are small and want to be sent at once.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES)
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, limits: ListenerLimits, tasks: Tasks, turn: Turn) {
    if let Err(error) = prepare(&stream) {
        debug!(%error, "the socket is gone already");
        return;
    }
    let leaving = turn.leaving();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(turn.clone());
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_deadline).max_headers(limits.headers_max);
    builder.max_buf_size(limits.head_bytes_max);
    let connection = builder.serve_connection(TokioIo::new(stream), answer).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let stop = tasks.stopping();
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stop.cancelled() => None,
        () = tokio::time::sleep(AGE_MAX) => {
            leaving.cancel();
            None
        }
    };
    let result = match ended {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            // Whoever still does not come to an end is cut off.
            tokio::time::timeout(limits.head_deadline, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        debug!(peer = %peer, %error, "a request ended early");
    }
}
