//! A WebSocket that tries to take a session over from HTTP requests.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{
    connection::{Incoming, Probing, Socket},
    protocol::engine::{self, Packet},
};

/// How often a request that waits is answered, so that the client can stop fetching.
const RELEASE_EVERY: Duration = Duration::from_millis(100);
/// How long a WebSocket that is sent away may take to hear it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Moves the session to the WebSocket when the client says so in time; otherwise the session stays where it is.
pub(super) async fn run(probing: Probing, socket: Socket, patience: Duration) {
    let mut socket = Box::new(socket);
    let upgraded = timeout(patience, upgrade(&probing, &mut socket)).await.unwrap_or(false);
    let rest = if upgraded { probing.arrive(socket).err() } else { Some(socket) };
    drop(probing);
    if let Some(mut socket) = rest {
        socket.close(None);
        // A client that does not listen is not waited for.
        let _ = timeout(FAREWELL, socket.finish()).await;
    }
}

/// Whether the client wants to go on here.
async fn upgrade(probing: &Probing, socket: &mut Socket) -> bool {
    let mut look = interval(RELEASE_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut probed = false;
    loop {
        tokio::select! {
            incoming = socket.next(true) => match incoming {
                Incoming::Flushed(_) | Incoming::Alive => (),
                Incoming::Text(text) => match Packet::parse(&text) {
                    Some(Packet::Probe) => {
                        socket.send(engine::PROBED.to_owned());
                        probed = true;
                        look.reset_immediately();
                    }
                    said => return said == Some(Packet::Upgrade),
                },
                Incoming::Binary | Incoming::End(_) => return false,
            },
            _ = look.tick() => {
                if probing.is_over() {
                    return false;
                }
                if probed {
                    probing.release_poll();
                }
            }
        }
    }
}
