//! An HTTP server that catches what is posted to it, and answers as it is told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::eventually;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Caught {
    /// When it was there as a whole.
    pub at: Instant,
    /// Its path, with the query.
    pub path: String,
    /// Its headers, by their names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: String,
}

/// How requests to a path are answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this status.
    Status(u16),
    /// With this status and this `Location`.
    Redirect(u16, String),
    /// With 200 and a body that has no end.
    Endless,
    /// Not at all: the connection stays open.
    Hang,
    /// Not at all: the connection is closed.
    Close,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct Catcher {
    scheme: &'static str,
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    caught: Vec<Caught>,
    replies: HashMap<String, VecDeque<Reply>>,
}

impl Catcher {
    /// Starts on a free port of 127.0.0.1. What it was not told about is answered with 200.
    pub async fn start() -> Self {
        Self::start_with("http", None).await
    }

    /// The same over TLS.
    pub async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::start_with("https", Some(acceptor)).await
    }

    async fn start_with(scheme: &'static str, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Self { scheme, address, shared, task }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers requests to a path with these, one after the other; the last one stays.
    pub fn reply(&self, path: &str, replies: &[Reply]) {
        self.shared.lock().unwrap().replies.insert(path.to_owned(), replies.iter().cloned().collect());
    }

    /// What came to a path so far.
    pub fn caught(&self, path: &str) -> Vec<Caught> {
        self.shared.lock().unwrap().caught.iter().filter(|it| it.path == path).cloned().collect()
    }

    /// Everything that came.
    pub fn all(&self) -> Vec<Caught> {
        self.shared.lock().unwrap().caught.clone()
    }

    /// Waits until so many requests have come to a path.
    pub async fn wait(&self, path: &str, count: usize) -> Vec<Caught> {
        let enough = async || Some(self.caught(path)).filter(|caught| caught.len() >= count);
        eventually(&format!("{count} requests to {path}"), enough).await
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Mutex<Shared>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => serve(BufReader::new(acceptor.accept(stream).await.ok()?), &shared).await,
                None => serve(BufReader::new(stream), &shared).await,
            }
        });
    }
}

/// Requests of one connection, until it ends; what went wrong with it is the sender's to notice.
async fn serve(mut stream: BufReader<impl AsyncRead + AsyncWrite + Unpin>, shared: &Mutex<Shared>) -> Option<()> {
    loop {
        let caught = read(&mut stream).await?;
        let reply = {
            let mut shared = shared.lock().unwrap();
            let replies = shared.replies.get_mut(&caught.path);
            let reply = replies.and_then(|it| if it.len() > 1 { it.pop_front() } else { it.front().cloned() });
            shared.caught.push(caught);
            reply.unwrap_or(Reply::Status(200))
        };
        answer(&mut stream, reply).await?;
    }
}

async fn read(stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> Option<Caught> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|&length| length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(Caught { at: Instant::now(), path, headers, body: String::from_utf8(body).unwrap() })
}

async fn answer(stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>, reply: Reply) -> Option<()> {
    let text = match reply {
        Reply::Status(status) => format!("HTTP/1.1 {status} \r\ncontent-length: 2\r\n\r\nok"),
        Reply::Redirect(status, location) => {
            format!("HTTP/1.1 {status} \r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 \r\n\r\n").await.ok()?;
            loop {
                stream.write_all(&[b'x'; 4096]).await.ok()?;
            }
        }
        Reply::Hang => return stream.read_u8().await.ok().map(drop),
        Reply::Close => return None,
    };
    stream.write_all(text.as_bytes()).await.ok()
}
