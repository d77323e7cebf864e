//! Which frame comes next: from the queue when live, from pages when behind. No socket, clock or database, so that a
//! test can drive it through any order of things.

use std::sync::Arc;

use super::{
    feed::{Feed, Next},
    subscriptions::{Remedy, Subscription, Subscriptions},
};
use crate::{
    hub::{Delivery, Hub, Item, Outbox, Page, PageLimits, SubscriberId},
    model::{Gap, GapReason, Offset, Topic},
    protocol::{Address, DialectId, Published},
};

/// Everything that a connection listens to, and how far it is with each.
pub(super) struct Flow {
    pub(super) subscriptions: Subscriptions,
    hub: Arc<Hub>,
    outbox: Arc<Outbox>,
    dialect: DialectId,
    page_limits: PageLimits,
    /// Everything up to here was taken from the queue.
    safe: Offset,
    /// Whose page is being asked of the log.
    page_for: Option<SubscriberId>,
    last_replayed: Option<SubscriberId>,
}

/// Something to send.
#[derive(Debug)]
pub(super) enum Out {
    /// An event, as the subscription's frame.
    Event(String),
    /// A hole.
    Gap(Address, Gap),
}

/// A page that is to be asked of the log.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) subscriber: SubscriberId,
    pub(super) topic: Topic,
    pub(super) after: Offset,
    /// The grant is to be judged anew before the log is read.
    pub(super) verdict: bool,
}

impl Flow {
    pub(super) fn new(hub: Arc<Hub>, outbox: Arc<Outbox>, dialect: DialectId, page_limits: PageLimits) -> Self {
        Self {
            subscriptions: Subscriptions::default(),
            hub,
            outbox,
            dialect,
            page_limits,
            safe: Offset::ZERO,
            page_for: None,
            last_replayed: None,
        }
    }

    /// Puts what comes next into `out`: one event of a page and one of the queue, or less. Gives whether anything was
    /// done.
    pub(super) fn step(&mut self, out: &mut Vec<Out>) -> bool {
        let paged = self.step_page(out);
        let live = self.takes_queue() && self.step_queue(out);
        paged || live
    }

    /// Whether the queue may be taken from now.
    pub(super) fn takes_queue(&self) -> bool {
        !self.subscriptions.any_closing()
    }

    /// When the queue has overflowed, serves everything from the log until it has caught up. Gives whether it had.
    pub(super) fn fall_behind(&mut self) -> bool {
        if !self.outbox.take_overflow() {
            return false;
        }
        for subscriber in self.subscriptions.ids() {
            if let Some(subscription) = self.subscriptions.get_mut(subscriber) {
                self.hub.leave(subscription.topic(), subscriber);
                subscription.feed.step_back(self.safe);
            }
        }
        self.subscriptions.recount();
        true
    }

    fn step_queue(&mut self, out: &mut Vec<Out>) -> bool {
        let Some(Delivery { subscriber, item }) = self.outbox.pop() else {
            return false;
        };
        self.safe = match &item {
            Item::Event(event) => event.previous(),
            // Others may still have theirs in the queue, so it never moves forward.
            Item::Break(it) => self.safe.min(it.gap.to),
        };
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return true;
        };
        match item {
            Item::Event(event) if !subscription.feed.wants_live(event.event().offset) => (),
            Item::Event(event) if subscription.fits(event.event()) => {
                subscription.feed.sent(event.event().offset);
                out.extend(frame(subscription, &event, self.dialect));
            }
            Item::Event(event) => {
                subscription.doubt(event.event().offset);
                self.step_back(subscriber);
            }
            Item::Break(it) => {
                if subscription.feed.broke(&it) {
                    out.push(Out::Gap(subscription.address.clone(), it.gap));
                }
            }
        }
        true
    }

    fn step_page(&mut self, out: &mut Vec<Out>) -> bool {
        let Some(subscriber) = self.subscriptions.next_with_page(self.last_replayed) else {
            return self.take_recent_page();
        };
        self.last_replayed = Some(subscriber);
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return false;
        };
        if let Some(event) = subscription.page.as_mut().and_then(|page| page.events.pop_front()) {
            self.step_replayed(subscriber, &event, out);
            return true;
        }
        let Some(page) = subscription.page.take() else {
            return false;
        };
        if subscription.feed.page_sent(page.until, page.caught_up) == Next::Join {
            self.join(subscriber);
        }
        self.subscriptions.recount();
        true
    }

    fn step_replayed(&mut self, subscriber: SubscriberId, event: &Published, out: &mut Vec<Out>) {
        let offset = event.event().offset;
        let Some(subscription) = self.subscriptions.get_mut(subscriber).filter(|it| it.feed.wants_replayed(offset))
        else {
            return;
        };
        if subscription.fits(event.event()) {
            out.extend(frame(subscription, event, self.dialect));
        } else if subscription.doubt(offset) {
            return self.step_back(subscriber);
        } else {
            let gap = Gap { reason: GapReason::Unjudged, from: offset, to: offset };
            out.push(Out::Gap(subscription.address.clone(), gap));
        }
        subscription.feed.sent(offset);
    }

    /// Takes a subscription off the queue, so that nothing else waits with it, and serves it from the log again when
    /// its doubt is resolved.
    fn step_back(&mut self, subscriber: SubscriberId) {
        if let Some(subscription) = self.subscriptions.get_mut(subscriber) {
            self.hub.leave(subscription.topic(), subscriber);
            subscription.feed.step_back(self.safe);
            subscription.page = None;
        }
        self.subscriptions.recount();
    }

    /// Registers a feed that has caught up: it is live, or has a little more to replay.
    fn join(&mut self, subscriber: SubscriberId) {
        let nobody_live = !self.subscriptions.any_live();
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return;
        };
        let Some(position) = self.hub.join(subscription.topic(), subscriber, &self.outbox) else {
            return;
        };
        subscription.feed.joined(position);
        if nobody_live {
            // What the queue said before has no meaning for a feed that joined after it.
            self.safe = position.begun;
        }
    }

    /// The next page from memory, for the first that needs one and that memory can serve.
    fn take_recent_page(&mut self) -> bool {
        if !self.subscriptions.any_replaying() {
            return false;
        }
        for subscriber in self.subscriptions.ids() {
            let is_asked_for = self.page_for == Some(subscriber);
            let Some(subscription) =
                self.subscriptions.get_mut(subscriber).filter(|it| !is_asked_for && it.takes_memory())
            else {
                continue;
            };
            let recent = self.hub.recent(subscription.topic(), subscription.feed.cursor(), self.page_limits);
            if recent.as_ref().is_some_and(|page| page.events.iter().any(|it| !subscription.fits(it.event()))) {
                subscription.doubt.remedy = Remedy::Log;
            } else if recent.is_some() {
                subscription.page = recent;
                return true;
            }
        }
        false
    }

    /// The page that must be asked of the log next, when there is one and none is being asked for. To be answered with
    /// [`Flow::take_page`] or [`Flow::no_page`].
    pub(super) fn want_page(&mut self) -> Option<Wanted> {
        if self.page_for.is_some() || !self.subscriptions.any_replaying() {
            return None;
        }
        let (subscriber, subscription) = self.subscriptions.iter().find(|(_, it)| it.needs_page())?;
        let (topic, after) = (subscription.topic().clone(), subscription.feed.cursor());
        let verdict = subscription.doubt.remedy == Remedy::Verdict;
        self.page_for = Some(subscriber);
        Some(Wanted { subscriber, topic, after, verdict })
    }

    /// The page that was asked for has come.
    pub(super) fn take_page(&mut self, subscriber: SubscriberId, page: Page, out: &mut Vec<Out>) {
        self.page_for = None;
        let Some(subscription) = self.subscriptions.get_mut(subscriber).filter(|it| it.needs_page()) else {
            return;
        };
        subscription.take_first_page(page, out);
    }

    /// All rows of a snapshot were sent, as of `offset`: the changes after it follow.
    pub(super) fn snapshot_sent(&mut self, subscriber: SubscriberId, offset: Offset) {
        if let Some(subscription) = self.subscriptions.get_mut(subscriber) {
            subscription.awaits_snapshot = false;
            subscription.feed.skipped(offset);
        }
    }

    /// The page that was asked for cannot be had now.
    pub(super) fn no_page(&mut self) {
        self.page_for = None;
    }

    /// A feed for a new subscription that wants what comes from now on; `None` before the log was first read.
    ///
    /// When it replaces one to the same topic, it goes on where that stands: subscribing twice must not lose what is on
    /// its way.
    pub(super) fn feed_from_now(
        &mut self,
        subscriber: SubscriberId,
        topic: &Topic,
        replaced: Option<SubscriberId>,
    ) -> Option<Feed> {
        let safe = self.safe;
        let old = replaced.and_then(|replaced| self.subscriptions.get_mut(replaced));
        if let Some(old) = old.filter(|old| old.topic() == topic) {
            return Some(Feed::behind(old.feed.safe_cursor(safe)));
        }
        let nobody_live = !self.subscriptions.any_live();
        let position = self.hub.join(topic, subscriber, &self.outbox)?;
        if nobody_live {
            self.safe = position.begun;
        }
        Some(Feed::live(position))
    }

    /// Ends a subscription.
    pub(super) fn end(&mut self, subscriber: SubscriberId) -> Option<Box<Subscription>> {
        let subscription = self.subscriptions.remove(subscriber)?;
        self.hub.leave(subscription.topic(), subscriber);
        Some(subscription)
    }

    /// A cursor that is safe for everything that this connection listens to.
    pub(super) fn safe_cursor(&mut self) -> Option<Offset> {
        // The head first: what is pushed after reading it is found in the queue, or lies behind it.
        let head = self.hub.head()?;
        if self.subscriptions.len() == 0 {
            return Some(head);
        }
        if self.outbox.is_empty() {
            self.safe = self.safe.max(head);
        }
        self.subscriptions.iter().map(|(_, it)| it.feed.safe_cursor(self.safe)).min()
    }
}

fn frame(subscription: &Subscription, event: &Published, dialect: DialectId) -> Option<Out> {
    subscription.frame(event, dialect).map(Out::Event)
}
