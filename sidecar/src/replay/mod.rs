//! Pages of what a subscription has not seen, from the log: for those whom the hub's memory cannot serve.

mod shared;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use shared::SharedPages;

use crate::{
    hub::{Hub, Page, PageLimits, Seen, number},
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
    hub: Arc<Hub>,
    // Replays may never take all connections: publishing and judging need some too.
    permits: Semaphore,
    // Never held across an await.
    shared: Mutex<SharedPages>,
}

impl Replay {
    /// Uses at most a quarter of the pool, and about so many bytes for pages that others may want too.
    #[must_use]
    pub fn new(database: Arc<Database>, hub: &Arc<Hub>, pool_size: usize, shared_bytes_max: usize) -> Self {
        Self {
            database,
            hub: Arc::clone(hub),
            permits: Semaphore::new((pool_size / 4).max(1)),
            shared: Mutex::new(SharedPages::new(shared_bytes_max)),
        }
    }

    /// A page after a cursor, which also says what cannot be had. Somebody else may have read it just now.
    ///
    /// # Errors
    ///
    /// Why the log could not be read.
    pub async fn page(&self, topic: &Topic, after: Offset) -> Result<Page, ReadError> {
        if let Some(page) = self.shared(topic, after) {
            return Ok(page);
        }
        let _permit = self.permits.acquire().await;
        // It may have been read while others had their turn.
        match self.shared(topic, after) {
            Some(page) => Ok(page),
            None => self.read(topic, after).await,
        }
    }

    /// A page as the log has it at this moment, for those who doubt what was read before.
    ///
    /// # Errors
    ///
    /// Why the log could not be read.
    pub async fn fresh_page(&self, topic: &Topic, after: Offset) -> Result<Page, ReadError> {
        let _permit = self.permits.acquire().await;
        self.read(topic, after).await
    }

    fn shared(&self, topic: &Topic, after: Offset) -> Option<Page> {
        self.shared.lock().after(topic, after, self.hub.epoch())
    }

    async fn read(&self, topic: &Topic, after: Offset) -> Result<Page, ReadError> {
        // Before the log is read: what is read before a break must not be kept behind it.
        let epoch = self.hub.epoch();
        let page = page(after, self.read_log(topic, after).await?);
        self.shared.lock().keep(topic, after, &page, epoch);
        Ok(page)
    }

    async fn read_log(&self, topic: &Topic, after: Offset) -> Result<Read, ReadError> {
        let query = Query { after, events_max: PAGE.events, bytes_max: PAGE.bytes, topic: Some(topic) };
        for _ in 1..ATTEMPTS {
            match read_pooled(&self.database, query).await {
                Err(ReadError::Moved) => tokio::task::yield_now().await,
                result => return result,
            }
        }
        read_pooled(&self.database, query).await
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
