//! Writes down how many got which message: one statement now and then, for all of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    hub::{Counts, Hub, MessageId},
    metrics::Metrics,
    postgres::{Database, count::count_messages},
};

/// Writes every `flush` until `stop` fires, and once more then.
pub async fn run(
    database: Arc<Database>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    flush: Duration,
    stop: CancellationToken,
) {
    while stop.run_until_cancelled(tokio::time::sleep(flush)).await.is_some() {
        write(&database, &hub, &metrics).await;
    }
    write(&database, &hub, &metrics).await;
}

async fn write(database: &Database, hub: &Hub, metrics: &Metrics) {
    let tally = hub.tally();
    let lost = tally.take_lost();
    if lost > 0 {
        metrics.counts_lost.inc_by(lost);
        warn!(lost, "more messages were delivered than can wait to be counted: raise counters.messages_max");
    }
    let counts: HashMap<MessageId, Counts> = tally.take();
    if counts.is_empty() {
        return;
    }
    let batch: Vec<(MessageId, Counts)> = counts.iter().map(|(&id, &it)| (id, it)).collect();
    let left = match count_messages(database, &batch).await {
        Ok(locked) => locked,
        Err(error) => {
            // What the server did before it was lost nobody knows: counting again is the lesser fault.
            debug!(error = error.chain(), "the counters of messages cannot be written yet");
            batch.iter().map(|(id, _)| *id).collect()
        }
    };
    for id in left {
        tally.add(id, counts.get(&id).copied().unwrap_or_default());
    }
}
