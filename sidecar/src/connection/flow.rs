//! Which frame comes next: from the queue when live, from pages when behind. No socket, clock or database, so that a
//! test can drive it through any order of things.

use std::sync::Arc;

use super::{
    feed::{Feed, Next},
    subscriptions::{Remedy, Subscription, Subscriptions},
};
use crate::{
    court::Seat,
    hub::{Delivery, Hub, Item, Outbox, Page, PageLimits, Position, Seen, SubscriberId},
    model::{Gap, GapReason, Offset, Party, Topic},
    protocol::{Address, DialectId},
};

/// Everything that a connection listens to, and how far it is with each.
pub(super) struct Flow {
    pub(super) subscriptions: Subscriptions,
    hub: Arc<Hub>,
    outbox: Arc<Outbox>,
    dialect: DialectId,
    page_limits: PageLimits,
    /// Everything of the hub's up to here was taken from the queue. What was judged comes in another order: each judged
    /// feed has only its own cursor.
    safe: Offset,
    /// Whose page is being asked of the log.
    page_for: Option<SubscriberId>,
    /// That page was asked for under other rights.
    page_is_stale: bool,
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
    /// Its events are to be judged as this party.
    pub(super) judged_as: Option<Party>,
    /// Memory may have it.
    pub(super) takes_memory: bool,
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
            page_is_stale: false,
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
                leave(&self.hub, subscriber, subscription);
                subscription.step_back(self.safe);
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
            Item::Judged(_) | Item::Missed => self.safe,
        };
        match item {
            Item::Event(event) => self.step_live(subscriber, &Seen::unjudged(event), out),
            Item::Judged(seen) => self.step_live(subscriber, &seen, out),
            Item::Missed => self.miss(subscriber),
            Item::Break(it) => {
                if let Some(subscription) = self.subscriptions.get_mut(subscriber)
                    && subscription.feed.broke(&it)
                {
                    out.push(Out::Gap(subscription.address.clone(), it.gap));
                }
            }
        }
        true
    }

    fn step_live(&mut self, subscriber: SubscriberId, seen: &Seen, out: &mut Vec<Out>) {
        let offset = seen.event.event().offset;
        let Some(subscription) = self.subscriptions.get_mut(subscriber).filter(|it| it.feed.wants_live(offset)) else {
            return;
        };
        if !subscription.is_sure_of(seen) {
            self.step_back(subscriber);
        } else if subscription.fits(seen.event.event()) {
            subscription.feed.sent(offset);
            out.extend(subscription.out(seen, self.dialect));
        } else {
            subscription.doubt(offset);
            self.step_back(subscriber);
        }
    }

    /// Something was not judged: the log has it.
    fn miss(&mut self, subscriber: SubscriberId) {
        if self.subscriptions.get_mut(subscriber).is_some_and(|it| it.feed.is_live()) {
            self.step_back(subscriber);
        }
    }

    fn step_page(&mut self, out: &mut Vec<Out>) -> bool {
        let Some(subscriber) = self.subscriptions.next_with_page(self.last_replayed) else {
            return self.take_recent_page();
        };
        self.last_replayed = Some(subscriber);
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return false;
        };
        if let Some(seen) = subscription.page.as_mut().and_then(|page| page.events.pop_front()) {
            self.step_replayed(subscriber, &seen, out);
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

    fn step_replayed(&mut self, subscriber: SubscriberId, seen: &Seen, out: &mut Vec<Out>) {
        let offset = seen.event.event().offset;
        let Some(subscription) = self.subscriptions.get_mut(subscriber).filter(|it| it.feed.wants_replayed(offset))
        else {
            return;
        };
        if !subscription.is_sure_of(seen) {
            return self.step_back(subscriber);
        }
        if subscription.fits(seen.event.event()) {
            out.extend(subscription.out(seen, self.dialect));
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
            leave(&self.hub, subscriber, subscription);
            subscription.step_back(self.safe);
            subscription.page = None;
        }
        self.subscriptions.recount();
    }

    /// What was judged before is not worth anything any more: says so, and goes on from where it stands with what is
    /// judged from now on; without a seat, with what nobody has to judge.
    pub(super) fn reseat(&mut self, subscriber: SubscriberId, seat: Option<Seat>, out: &mut Vec<Out>) {
        self.step_back(subscriber);
        self.page_is_stale |= self.page_for == Some(subscriber);
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return;
        };
        subscription.seat = seat;
        if !subscription.awaits_snapshot {
            let at = subscription.feed.cursor();
            let gap = Gap { reason: GapReason::Unjudged, from: at, to: at };
            out.push(Out::Gap(subscription.address.clone(), gap));
        }
    }

    /// Registers a feed that has caught up: it is live, or has a little more to replay.
    fn join(&mut self, subscriber: SubscriberId) {
        let nobody_live = !self.subscriptions.any_live();
        let Some(subscription) = self.subscriptions.get_mut(subscriber) else {
            return;
        };
        let (topic, seat) = (subscription.topic(), subscription.seat.as_ref());
        let Some(position) = enter(&self.hub, topic, seat, subscriber, &self.outbox) else {
            return;
        };
        let is_judged = seat.is_some();
        subscription.feed.joined(position);
        if nobody_live && !is_judged {
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
            if recent.as_ref().is_some_and(|page| page.events.iter().any(|it| !subscription.fits(it.event.event()))) {
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
        let judged_as = subscription.seat.as_ref().map(|seat| seat.party().clone());
        let takes_memory = subscription.doubt.remedy == Remedy::None;
        self.page_for = Some(subscriber);
        self.page_is_stale = false;
        Some(Wanted { subscriber, topic, after, verdict, judged_as, takes_memory })
    }

    /// The page that was asked for has come.
    pub(super) fn take_page(&mut self, subscriber: SubscriberId, page: Page, out: &mut Vec<Out>) {
        self.page_for = None;
        let is_stale = std::mem::take(&mut self.page_is_stale);
        let subscription = self.subscriptions.get_mut(subscriber).filter(|it| it.needs_page() && !is_stale);
        let Some(subscription) = subscription else {
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

    /// The page that was asked for cannot be had now. Gives whether it was asked for under other rights.
    pub(super) fn no_page(&mut self) -> bool {
        let is_stale = std::mem::take(&mut self.page_is_stale);
        let Some(subscriber) = self.page_for.take() else {
            return is_stale;
        };
        // The others' events do not wait for somebody's policies.
        if self.subscriptions.get_mut(subscriber).is_some_and(|it| it.feed.is_closing() && it.seat.is_some()) {
            self.step_back(subscriber);
        }
        is_stale
    }

    /// A feed for a new subscription that wants what comes from now on; `None` before the log was first read.
    ///
    /// When it replaces one to the same topic, it goes on where that stands: subscribing twice must not lose what is on
    /// its way.
    pub(super) fn feed_from_now(
        &mut self,
        subscriber: SubscriberId,
        topic: &Topic,
        seat: Option<&Seat>,
        replaced: Option<SubscriberId>,
    ) -> Option<Feed> {
        let safe = self.safe;
        let old = replaced.and_then(|replaced| self.subscriptions.get_mut(replaced));
        if let Some(old) = old.filter(|old| old.topic() == topic) {
            return Some(Feed::behind(old.safe_cursor(safe)));
        }
        let nobody_live = !self.subscriptions.any_live();
        let position = enter(&self.hub, topic, seat, subscriber, &self.outbox)?;
        if nobody_live && seat.is_none() {
            self.safe = position.begun;
        }
        Some(Feed::live(position))
    }

    /// Ends a subscription.
    pub(super) fn end(&mut self, subscriber: SubscriberId) -> Option<Box<Subscription>> {
        let subscription = self.subscriptions.remove(subscriber)?;
        leave(&self.hub, subscriber, &subscription);
        Some(subscription)
    }

    /// A cursor that is safe for everything that this connection listens to.
    pub(super) fn safe_cursor(&mut self) -> Option<Offset> {
        // The head first: what is pushed after reading it is found in the queue, or lies behind it.
        let head = self.hub.head()?;
        if self.subscriptions.len() == 0 {
            return Some(head);
        }
        let judged = self.subscriptions.judged_heads();
        if self.outbox.is_empty() {
            self.safe = self.safe.max(head);
            self.subscriptions.all_judged_up_to(&judged);
        }
        self.subscriptions.iter().map(|(_, it)| it.safe_cursor(self.safe)).min()
    }
}

/// Registers for the events of a topic: for all of them, or for what is seen of them from a seat.
fn enter(
    hub: &Hub,
    topic: &Topic,
    seat: Option<&Seat>,
    subscriber: SubscriberId,
    outbox: &Arc<Outbox>,
) -> Option<Position> {
    match seat {
        Some(seat) => seat.join(subscriber, outbox),
        None => hub.join(topic, subscriber, outbox),
    }
}

fn leave(hub: &Hub, subscriber: SubscriberId, subscription: &Subscription) {
    match &subscription.seat {
        Some(seat) => seat.leave(subscriber),
        None => hub.leave(subscription.topic(), subscriber),
    }
}
