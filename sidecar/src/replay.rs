//! Pages of what a subscription has not seen: from memory where that reaches back far enough, else from the log.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    hub::{Hub, Page, PageLimits, number},
    model::{Offset, Topic},
    postgres::{
        Database,
        log::{Query, Read, ReadError, read_pooled},
    },
};

/// What one page may hold: enough to keep a socket busy, little enough that a thousand slow clients fit into memory.
const PAGE: PageLimits = PageLimits { events: 200, bytes: 128 * 1024 };
/// How often a page is asked for again when retention moves under it.
const ATTEMPTS: usize = 5;

/// Serves pages.
pub struct Replay {
    hub: Arc<Hub>,
    database: Arc<Database>,
    // Replays may never take all connections: publishing and judging need some too.
    permits: Semaphore,
}

impl Replay {
    /// Uses at most half of the pool.
    #[must_use]
    pub fn new(hub: Arc<Hub>, database: Arc<Database>, pool_size: usize) -> Self {
        Self { hub, database, permits: Semaphore::new((pool_size / 2).max(1)) }
    }

    /// A page from memory, or `None` when the log must be asked.
    #[must_use]
    pub fn recent(&self, topic: &Topic, after: Offset) -> Option<Page> {
        self.hub.recent(topic, after, PAGE)
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
        events: number(start, read.events).into(),
        until: read.until,
        caught_up: read.until >= read.head,
    }
}
