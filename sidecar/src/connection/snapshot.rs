//! A table's rows before its changes: one snapshot of a connection at a time, chunk by chunk, as the socket takes them.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::{Connection, Services, subscriptions::Subscription};
use crate::{
    error::CommandError,
    hub::SubscriberId,
    model::{Identity, Refusal, Topic},
    postgres::{
        Error,
        snapshot::{Chunk, Rows, SnapshotError},
    },
    protocol::{Form, Notice},
};

/// How often a snapshot is begun anew when the table is rewritten under it.
const ATTEMPTS: u32 = 5;
const UNCLEAR: &str =
    "of a row of the table only the database can say whether the filter is about it: filter by another column";

/// When the first row has not come by then, a policy may be at work that has no end: from then on it waits for its like
/// only, and beyond their number it is given up.
const QUICK_MAX: Duration = Duration::from_secs(5);

/// What the next chunk comes from.
pub(super) struct Source {
    rows: Rows,
    // Kept until the snapshot is sent.
    _permit: OwnedSemaphorePermit,
}

/// A chunk, and the source of those after it.
pub(super) type Step = Result<(Box<Source>, Chunk), SnapshotError>;

impl Connection {
    /// Begins the next snapshot that a subscription waits for.
    pub(super) fn ask_for_snapshot(&mut self) {
        if self.snapshot.is_some() || !self.link.has_room() {
            return;
        }
        let Some((subscriber, relation)) = self.flow.subscriptions.iter().find_map(wants_snapshot) else {
            return;
        };
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.snapshot_for = Some(subscriber);
        self.snapshot = Some(Box::pin(async move { (subscriber, begin(&services, &identity, relation).await) }));
    }

    /// The subscription has ended: its snapshot is of no interest any more.
    pub(super) fn abandon_snapshot(&mut self, subscriber: SubscriberId) {
        if self.snapshot_for.take_if(|it| *it == subscriber).is_some() {
            self.snapshot = None;
            self.services.metrics.snapshots.inc("abandoned");
        }
    }

    /// A chunk came, or there is none.
    pub(super) fn snapped(&mut self, subscriber: SubscriberId, step: Step) {
        match step {
            Ok((source, mut chunk)) => {
                if !self.choose_rows(subscriber, &mut chunk) {
                    return;
                }
                self.send_chunk(subscriber, &chunk);
                match chunk.end {
                    Some(offset) => {
                        self.snapshot_for = None;
                        self.services.metrics.snapshots.inc("whole");
                        self.flow.snapshot_sent(subscriber, offset);
                    }
                    None => self.snapshot = Some(Box::pin(async move { (subscriber, go_on(source).await) })),
                }
            }
            Err(error) => self.no_snapshot(subscriber, &error),
        }
    }

    /// Keeps the rows that are wanted. Gives false when that cannot be said of one of them: then the subscription ends.
    fn choose_rows(&mut self, subscriber: SubscriberId, chunk: &mut Chunk) -> bool {
        let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) else {
            return true;
        };
        let mut is_clear = true;
        chunk.rows.retain(|row| {
            subscription.wish.matches_row(row).unwrap_or_else(|| {
                is_clear = false;
                false
            })
        });
        if !is_clear {
            self.snapshot_for = None;
            self.services.metrics.snapshots.inc("failed");
            self.end_with_error(subscriber, CommandError::bad_filter(UNCLEAR, None));
        }
        is_clear
    }

    fn send_chunk(&mut self, subscriber: SubscriberId, chunk: &Chunk) {
        let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) else {
            return;
        };
        if chunk.rows.is_empty() && chunk.end.is_none() {
            return;
        }
        // The columns of now: some may have been taken away since the snapshot began.
        let Form::Table { columns, .. } = &subscription.form else {
            return;
        };
        let notice = Notice::Snapshot { address: &subscription.address, rows: &chunk.rows, columns, end: chunk.end };
        if let Some(frame) = self.codec.encode(&notice) {
            self.link.send(frame);
        }
    }

    /// Part of it may be with the client, so the subscription ends: the client begins anew.
    fn no_snapshot(&mut self, subscriber: SubscriberId, error: &SnapshotError) {
        self.snapshot_for = None;
        self.services.metrics.snapshots.inc("failed");
        match error {
            SnapshotError::Forbidden => self.revoked(subscriber, &Refusal::Forbidden),
            SnapshotError::NoKey => self.end_with_error(subscriber, CommandError::no_key()),
            _ => {
                warn!(connection = self.name, error = error.chain(), "a snapshot ended early");
                self.end_with_error(subscriber, CommandError::no_snapshot());
            }
        }
    }
}

fn wants_snapshot((subscriber, subscription): (SubscriberId, &Subscription)) -> Option<(SubscriberId, u32)> {
    match subscription.topic() {
        Topic::Table(relation) if subscription.awaits_snapshot => Some((subscriber, *relation)),
        _ => None,
    }
}

async fn begin(services: &Services, identity: &Identity, relation: u32) -> Step {
    let permit = Arc::clone(&services.snapshots).acquire_owned().await.map_err(|_| Error::Closed)?;
    let mut first = Box::pin(first(services, identity, relation));
    let (begun, permit) = match tokio::time::timeout(QUICK_MAX, first.as_mut()).await {
        Ok(begun) => (begun, permit),
        Err(_) => {
            drop(permit);
            let slow = Arc::clone(&services.slow_snapshots);
            let permit = slow.try_acquire_owned().map_err(|_| SnapshotError::TooLong)?;
            (first.await, permit)
        }
    };
    begun.map(|(rows, chunk)| (Box::new(Source { rows, _permit: permit }), chunk))
}

async fn first(services: &Services, identity: &Identity, relation: u32) -> Result<(Rows, Chunk), SnapshotError> {
    let limit = Duration::from_millis(services.timing.snapshot_ms);
    let mut attempts = 1;
    loop {
        match attempt(services, identity, relation, limit).await {
            Err(SnapshotError::Moved) if attempts < ATTEMPTS => attempts += 1,
            begun => return begun,
        }
    }
}

async fn attempt(
    services: &Services,
    identity: &Identity,
    relation: u32,
    limit: Duration,
) -> Result<(Rows, Chunk), SnapshotError> {
    // Boxed, because connecting takes much space for a short while.
    let mut rows = Box::pin(Rows::open(&services.database, identity, relation, limit)).await?;
    let chunk = rows.next().await?;
    Ok((rows, chunk))
}

async fn go_on(mut source: Box<Source>) -> Step {
    let chunk = source.rows.next().await?;
    Ok((source, chunk))
}
