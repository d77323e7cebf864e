//! The LISTEN session: hears the bell, never opens a transaction, and is replaced when it falls silent.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Backoff, Client, Connection, Database, Error};
use crate::metrics::Metrics;

/// The channel that rings when the log has something.
const CHANNEL: &str = "realtime";
/// How often the session is asked for a sign of life.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Every so many signs of life it rings for itself: a pooler that loses notifications is found so.
const PROBES_PER_RING: u32 = 6;
/// How long a sign of life may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// Listens until `stop` fires, for ever connecting anew, and notifies `bell` at every notification.
///
/// A bell is a hint: what it is for is found by polling too, later.
pub async fn run(
    database: Arc<Database>,
    bell: Arc<Notify>,
    metrics: Arc<Metrics>,
    mut attempts: Backoff,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let session = session(&database, &bell, &metrics, &mut attempts);
        let result = tokio::select! {
            () = stop.cancelled() => return,
            result = session => result,
        };
        let is_news = metrics.listener_up.set(0) == 1;
        metrics.reconnects.inc("listener");
        match result {
            Err(error) if !is_news => debug!(error = error.chain(), "no LISTEN session yet"),
            Err(error) => {
                warn!(error = error.chain(), "the LISTEN session was lost: events come by polling until it is back")
            }
            Ok(()) => warn!("the LISTEN session was silent: does the direct url lead through a transaction pooler?"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(attempts.next_wait()) => (),
        }
    }
}

/// One session, until it is lost (an error) or silent.
async fn session(database: &Database, bell: &Notify, metrics: &Metrics, attempts: &mut Backoff) -> Result<(), Error> {
    let (client, mut connection) = database.listen().await?;
    let probe = format!("realtime_probe_{}", uuid::Uuid::new_v4().simple());
    let heard = Notify::new();
    let ring = || {
        metrics.bells.inc();
        bell.notify_one();
    };
    let pump = pump(&mut connection, &probe, ring, &heard);
    let probing = async {
        // Our own names, made here: nothing in these statements comes from outside.
        client.batch_execute(&format!("listen {CHANNEL}; listen {probe}")).await?;
        info!("hearing the database's bell");
        metrics.listener_up.set(1);
        attempts.reset();
        // What rang before we listened was not heard.
        bell.notify_one();
        probe_for_ever(&client, &probe, &heard).await
    };
    tokio::select! {
        error = pump => Err(error),
        result = probing => result,
    }
}

/// Moves the session's messages until it is lost.
async fn pump(connection: &mut Connection, probe: &str, ring: impl Fn(), heard: &Notify) -> Error {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(it))) if it.channel() == probe => heard.notify_one(),
            Some(Ok(AsyncMessage::Notification(_))) => ring(),
            Some(Ok(_)) => (),
            Some(Err(error)) => return error.into(),
            None => return Error::Closed,
        }
    }
}

async fn probe_for_ever(client: &Client, probe: &str, heard: &Notify) -> Result<(), Error> {
    for count in 0_u32.. {
        let alive = async {
            if count.is_multiple_of(PROBES_PER_RING) {
                // A commit that notifies holds a lock of the whole server: it must not wait, for a standby least of all.
                client.batch_execute(&format!("set local synchronous_commit = off; notify {probe}")).await?;
                heard.notified().await;
            } else {
                client.batch_execute("").await?;
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(PROBE_DEADLINE, alive).await {
            Ok(alive) => alive?,
            Err(_) => break,
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
    Ok(())
}
