//! Events to the socket: from the queue when live, from pages when behind, as much as the socket takes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::{Connection, feed::Next};
use crate::{
    hub::{Delivery, Item, Page, SubscriberId},
    model::{Gap, Offset},
    postgres::log::ReadError,
    protocol::{Notice, Published},
};

/// When a page that could not be had is asked for again.
const PAGE_RETRY: Duration = Duration::from_millis(500);
/// After so many events another connection gets a turn.
const TURN: usize = 256;

impl Connection {
    /// Gives the socket what it takes, news first; pages and the queue take turns.
    pub(super) fn fill(&mut self) {
        self.take_notes();
        if self.outbox.take_overflow() {
            self.fall_behind();
        }
        self.more = true;
        for _ in 0..TURN {
            self.more = self.closing.is_none() && self.socket.has_room() && self.send_some();
            if !self.more {
                break;
            }
        }
        self.ask_for_page();
        if !self.socket.has_room() {
            self.watch_progress();
        }
    }

    /// Sends one event of a page and one of the queue. Gives whether there was any.
    fn send_some(&mut self) -> bool {
        let paged = self.send_from_page();
        let live = !self.subscriptions.any_closing() && self.send_from_queue();
        paged || live
    }

    fn watch_progress(&mut self) {
        self.clock.look_in(Duration::from_millis(self.services.timing.no_progress_ms) / 4, Instant::now());
    }

    /// The queue overflowed: everything is served from the log until the client has caught up.
    fn fall_behind(&mut self) {
        self.services.metrics.overflows.inc();
        debug!(connection = self.name, "the queue overflowed: replaying from the log");
        for subscriber in self.subscriptions.ids() {
            let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
                continue;
            };
            self.services.hub.leave(subscription.topic(), subscriber);
            subscription.feed.overflowed(self.safe);
        }
        self.subscriptions.recount();
    }

    fn send_from_queue(&mut self) -> bool {
        let Some(Delivery { subscriber, item }) = self.outbox.pop() else {
            return false;
        };
        match item {
            Item::Event(event) => {
                self.safe = event.previous();
                self.send_live(subscriber, &event);
            }
            Item::Break(it) => {
                self.safe = it.gap.to;
                let subscription = self.subscriptions.get_mut(subscriber);
                if subscription.is_some_and(|subscription| subscription.feed.broke(&it)) {
                    self.send_gap(subscriber, &it.gap);
                }
            }
        }
        true
    }

    fn send_live(&mut self, subscriber: SubscriberId, event: &Published) {
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return;
        };
        if !subscription.feed.take_live(event.event().offset) {
            return;
        }
        let frame = subscription.frame(event, self.dialect);
        self.send_event(frame);
    }

    fn send_event(&mut self, frame: Option<String>) {
        if let Some(frame) = frame {
            self.services.metrics.deliveries.inc();
            self.services.metrics.delivered_bytes.inc_by(frame.len() as u64);
            self.socket.send(frame);
        }
    }

    pub(super) fn send_gap(&mut self, subscriber: SubscriberId, gap: &Gap) {
        self.services.metrics.gaps.inc(gap.reason.as_str());
        let address = self.subscriptions.get_mut(subscriber).map(|it| it.address.clone());
        if let Some(address) = address {
            self.send_notice(&Notice::Gap { address: &address, gap });
        }
    }

    /// Sends one event of one page, or moves a feed on at the end of its page. Gives whether anything was done.
    fn send_from_page(&mut self) -> bool {
        let Some(subscriber) = self.subscriptions.next_replaying(self.last_replayed) else {
            return false;
        };
        self.last_replayed = Some(subscriber);
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return false;
        };
        let Some(page) = &mut subscription.page else {
            return self.take_recent_page(subscriber);
        };
        if let Some(event) = page.events.pop_front() {
            let is_new = subscription.feed.take_replayed(event.event().offset);
            let frame = if is_new { subscription.frame(&event, self.dialect) } else { None };
            self.send_event(frame);
            return true;
        }
        let (until, caught_up) = (page.until, page.caught_up);
        subscription.page = None;
        let next = subscription.feed.page_sent(until, caught_up);
        self.go_on(subscriber, next);
        true
    }

    fn go_on(&mut self, subscriber: SubscriberId, next: Next) {
        if next == Next::Join {
            self.join(subscriber);
        }
        self.subscriptions.recount();
    }

    /// Registers a feed that has caught up; it is live, or has a little more to replay.
    fn join(&mut self, subscriber: SubscriberId) {
        let nobody_live = !self.subscriptions.any_live();
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return;
        };
        let Some(position) = self.services.hub.join(subscription.topic(), subscriber, &self.outbox) else {
            return;
        };
        subscription.feed.joined(position);
        if nobody_live {
            // What the queue said before has no meaning for a feed that joined after it.
            self.safe = position.begun;
        }
    }

    /// The next page from memory, when it has it. Gives whether there is one.
    fn take_recent_page(&mut self, subscriber: SubscriberId) -> bool {
        if self.page_for == Some(subscriber) {
            return false;
        }
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return false;
        };
        let recent = self.services.replay.recent(subscription.topic(), subscription.feed.cursor());
        let found = recent.is_some();
        subscription.page = recent;
        found
    }

    /// Asks the log for the page that is needed next, one at a time.
    fn ask_for_page(&mut self) {
        let waits = self.page.is_some() || !self.socket.has_room() || Instant::now() < self.page_retry_at;
        if waits {
            return;
        }
        let needs_page =
            |(_, it): &(SubscriberId, &super::subscriptions::Subscription)| !it.feed.is_live() && it.page.is_none();
        let Some((subscriber, subscription)) = self.subscriptions.iter().find(needs_page) else {
            return;
        };
        let (topic, after) = (subscription.topic().clone(), subscription.feed.cursor());
        let services = Arc::clone(&self.services);
        self.page_for = Some(subscriber);
        self.page = Some(Box::pin(async move { (subscriber, services.replay.page(&topic, after).await) }));
    }

    /// A page came from the log.
    pub(super) fn paged(&mut self, subscriber: SubscriberId, page: Result<Page, ReadError>) {
        self.page_for = None;
        match page {
            Ok(page) => self.take_page(subscriber, page),
            Err(error) => {
                if matches!(error, ReadError::Broken(_)) {
                    self.services.metrics.read_errors.inc();
                }
                warn!(connection = self.name, error = error.chain(), "a replay waits for the log");
                let now = Instant::now();
                self.page_retry_at = now + PAGE_RETRY;
                self.clock.look_in(PAGE_RETRY, now);
            }
        }
    }

    fn take_page(&mut self, subscriber: SubscriberId, page: Page) {
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return;
        };
        if subscription.feed.is_live() || subscription.page.is_some() {
            return;
        }
        let gap = page.gap;
        subscription.page = Some(page);
        if let Some(gap) = gap {
            self.skip(subscriber, &gap);
        }
    }

    /// A cursor that is safe for everything that this connection listens to.
    pub(super) fn safe_cursor(&mut self) -> Option<Offset> {
        // The head first: what is pushed after reading it is found in the queue, or lies behind it.
        let head = self.services.hub.head()?;
        if self.subscriptions.len() == 0 {
            return Some(head);
        }
        if self.outbox.is_empty() {
            self.safe = self.safe.max(head);
        }
        self.subscriptions.iter().map(|(_, it)| it.feed.safe_cursor(self.safe)).min()
    }
}
