//! Pages of what a subscription has not seen, from the log: for those whom the hub's memory cannot serve.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    hub::{Page, PageLimits, Seen, number},
    model::{Offset, Topic},
    postgres::{
        Database,
        log::{Query, Read, ReadError, read_pooled},
    },
};

/// What one page may hold: enough to keep a socket busy, little enough that a thousand slow clients fit into memory.
pub const PAGE: PageLimits = PageLimits { events: 200, bytes: 128 * 1024 };
/// How often a page is asked for again when retention moves under it.
const ATTEMPTS: usize = 5;

/// Serves pages.
pub struct Replay {
    database: Arc<Database>,
    // Replays may never take all connections: publishing and judging need some too.
    permits: Semaphore,
}

impl Replay {
    /// Uses at most a quarter of the pool.
    #[must_use]
    pub fn new(database: Arc<Database>, pool_size: usize) -> Self {
        Self { database, permits: Semaphore::new((pool_size / 4).max(1)) }
    }

    /// A page from the log, which also says what cannot be had.
    ///
    /// # Errors
    ///
    /// Why the log could not be read.
    pub async fn page(&self, topic: &Topic, after: Offset) -> Result<Page, ReadError> {
        let _permit = self.permits.acquire().await;
        let query = Query { after, events_max: PAGE.events, bytes_max: PAGE.bytes, topic: Some(topic) };
        for _ in 1..ATTEMPTS {
            match read_pooled(&self.database, query).await {
                Err(ReadError::Moved) => tokio::task::yield_now().await,
                result => return result.map(|read| page(after, read)),
            }
        }
        read_pooled(&self.database, query).await.map(|read| page(after, read))
    }
}

fn page(after: Offset, read: Read) -> Page {
    let start = read.gap.map_or(after, |gap| gap.to);
    Page {
        gap: read.gap,
        events: number(start, read.events).into_iter().map(Seen::unjudged).collect(),
        until: read.until,
        caught_up: read.until >= read.head,
    }
}
