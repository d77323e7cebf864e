//! `tail CHANNEL`: a client of the native protocol that prints one JSON line for each event and never misses one
//! without saying so.

mod connect;
mod follower;

use std::{
    io::{self, Write},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use secrecy::SecretString;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tokio_util::sync::CancellationToken;

pub use follower::Since;

use crate::postgres::Backoff;
use connect::{Socket, connect};
use follower::{Follower, Step};

/// A line that could not be reached comes back after this, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What to follow.
#[derive(Clone, Debug)]
pub struct TailOptions {
    /// Where the sidecar's WebSocket is: `ws://` or `wss://`.
    pub url: String,
    /// The channel.
    pub channel: String,
    /// Who asks.
    pub token: Option<SecretString>,
    /// Where to begin; `None` means with what comes.
    pub since: Option<Since>,
    /// How many events to print before ending.
    pub count: Option<u64>,
}

/// Why following ended for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// The address is no WebSocket address.
    #[error("{0} is not a WebSocket address; give ws://host:port/realtime")]
    Url(String),
    /// The server will not have us.
    #[error("refused: {0}")]
    Refused(String),
    /// Nobody reads what is printed.
    #[error("the output is closed")]
    Output(#[from] io::Error),
}

/// Why one line ended; another may be tried.
enum Cut {
    Stopped,
    Done,
    Lost(String),
    Final(TailError),
}

impl From<TailError> for Cut {
    fn from(error: TailError) -> Self {
        Self::Final(error)
    }
}

/// Follows the channel until `stop` fires, the count is reached or the server refuses for good.
///
/// # Errors
///
/// Why there is no point in trying again.
pub async fn tail(options: &TailOptions, out: &mut impl Write, stop: CancellationToken) -> Result<(), TailError> {
    let mut follower = Follower::new(&options.channel, options.since);
    let mut left = options.count;
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let reason = match follow(options, &mut follower, &mut left, out, &stop).await {
            Cut::Stopped | Cut::Done => return Ok(()),
            Cut::Final(error) => return Err(error),
            Cut::Lost(reason) => reason,
        };
        if follower.take_progress() {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        eprintln!("{reason}; again in {} ms, from {}", wait.as_millis(), follower.position());
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return Ok(());
        }
    }
}

/// One line, from the opening to its end.
async fn follow(
    options: &TailOptions,
    follower: &mut Follower,
    left: &mut Option<u64>,
    out: &mut impl Write,
    stop: &CancellationToken,
) -> Cut {
    let opened = stop.run_until_cancelled(connect(&options.url, options.token.as_ref())).await;
    let mut socket = match opened {
        None => return Cut::Stopped,
        Some(Err(cut)) => return cut,
        Some(Ok(socket)) => socket,
    };
    if let Err(error) = socket.send(Message::text(follower.subscribe())).await {
        return Cut::Lost(format!("the line broke: {error}"));
    }
    let cut = stop.run_until_cancelled(read(&mut socket, follower, left, out)).await;
    if !matches!(cut, Some(Cut::Lost(_))) {
        // Politeness; whether it arrives does not matter any more.
        let _ = tokio::time::timeout(Duration::from_millis(500), socket.close(None)).await;
    }
    cut.unwrap_or(Cut::Stopped)
}

async fn read(socket: &mut Socket, follower: &mut Follower, left: &mut Option<u64>, out: &mut impl Write) -> Cut {
    loop {
        let message = match tokio::time::timeout(follower.silence_max(), socket.next()).await {
            Err(_) => return Cut::Lost("the server fell silent".to_owned()),
            Ok(None) => return Cut::Lost("the line broke".to_owned()),
            Ok(Some(Err(error))) => return Cut::Lost(format!("the line broke: {error}")),
            Ok(Some(Ok(message))) => message,
        };
        let text = match message {
            Message::Text(text) => text,
            Message::Close(frame) => return closed(frame),
            _ => continue,
        };
        for step in follower.take(text.as_str()) {
            if let Err(cut) = act(step, left, out) {
                return cut;
            }
        }
    }
}

fn act(step: Step, left: &mut Option<u64>, out: &mut impl Write) -> Result<(), Cut> {
    match step {
        Step::Event(line) => {
            print(out, &line)?;
            if let Some(left) = left {
                *left = left.saturating_sub(1);
                return if *left == 0 { Err(Cut::Done) } else { Ok(()) };
            }
            Ok(())
        }
        Step::Gap(line, text) => {
            eprintln!("GAP: {text}");
            Ok(print(out, &line)?)
        }
        Step::Note(text) => {
            eprintln!("{text}");
            Ok(())
        }
        Step::Again(reason) => Err(Cut::Lost(reason)),
        Step::Refused(reason) => Err(Cut::Final(TailError::Refused(reason))),
    }
}

fn print(out: &mut impl Write, line: &str) -> Result<(), TailError> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// What a close code means for a client that wants to go on.
fn closed(frame: Option<CloseFrame>) -> Cut {
    let Some(frame) = frame else {
        return Cut::Lost("the server closed the line".to_owned());
    };
    let code = u16::from(frame.code);
    let reason = format!("the server closed the line ({code} {})", frame.reason);
    match code {
        4400 | 4401 | 4403 => Cut::Final(TailError::Refused(reason)),
        _ => Cut::Lost(reason),
    }
}
