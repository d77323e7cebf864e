//! A TCP proxy that cuts, freezes or slows what passes through it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// What a [`Proxy`] does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Ends all connections, and each new one at once.
    Cut,
    /// Keeps connections open and passes nothing on, as a network does that has lost its way.
    HalfOpen,
    /// Passes this many bytes a second in each direction.
    Slow {
        /// Bytes a second.
        bytes_per_second: u32,
    },
}

/// A TCP proxy on a port of its own. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    acceptor: AbortHandle,
}

impl Proxy {
    /// Starts a proxy to an address, passing everything on.
    pub fn start(target: SocketAddr) -> Self {
        let socket = small_socket();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(crate::port::free()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Pass);
        let acceptor = tokio::spawn(accept(listener, target, mode.subscribe())).abort_handle();
        Self { address, mode, acceptor }
    }

    /// The address to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, with the connections that it has too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Megabytes in the system's buffers would hide for a minute what the proxy does. A segment on the loopback device has
/// 64 KiB: a buffer that does not hold several of them would stall both sides.
fn small_socket() -> TcpSocket {
    const BYTES: u32 = 256 * 1024;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BYTES).unwrap();
    socket
}

async fn accept(listener: TcpListener, target: SocketAddr, mode: watch::Receiver<Mode>) {
    // Ends its tasks when it is aborted.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(serve(client, target, mode.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode != Mode::HalfOpen).await.is_err() {
        return;
    }
    if *mode.borrow_and_update() == Mode::Cut {
        return;
    }
    let Ok(server) = small_socket().connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    let cut = async {
        let _ = mode.clone().wait_for(|mode| *mode == Mode::Cut).await;
    };
    tokio::select! {
        () = cut => (),
        () = pump(client_reader, server_writer, mode.clone()) => (),
        () = pump(server_reader, client_writer, mode.clone()) => (),
    }
}

/// Passes bytes on in one direction until either end closes.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = [0; 4096];
    loop {
        // Not read while nothing is passed on: the sender's buffers fill, as on a real network.
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::HalfOpen).await.map(|mode| *mode) else {
            return;
        };
        let size = match now {
            Mode::Slow { bytes_per_second } => (bytes_per_second as usize / 100).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let Ok(count @ 1..) = from.read(&mut buffer[..size]).await else {
            return;
        };
        if mode.wait_for(|mode| *mode != Mode::HalfOpen).await.is_err() {
            return;
        }
        let now = *mode.borrow();
        if let Mode::Slow { bytes_per_second } = now {
            let nanos = 1_000_000_000 * count as u64 / u64::from(bytes_per_second.max(1));
            sleep(Duration::from_nanos(nanos)).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
