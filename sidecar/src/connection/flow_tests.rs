//! How a flow goes about it, which its model does not see: that nothing is sent by a detour or asked for twice.

use std::sync::Arc;

use super::{
    feed::Feed,
    flow::{Flow, Out},
    flow_model::{change, offset, subscription},
};
use crate::{
    hub::{Batch, Hub, Outbox, Page, PageLimits, Seen, SubscriberId, number},
    model::Topic,
    protocol::DialectId,
};

const TABLE: u32 = 0;
/// What the subscriptions know of the table's columns.
const SHAPE: i64 = 1;

struct Fixture {
    hub: Arc<Hub>,
    flow: Flow,
}

impl Fixture {
    /// Three changes are in memory, from 101 on, all of a table of this shape.
    fn new(shape: i64) -> Self {
        let hub = Arc::new(Hub::new(100_000));
        hub.start(offset(100), []);
        let limits = PageLimits { events: 3, bytes: 100_000 };
        let outbox = Arc::new(Outbox::new(10, 1_000_000));
        let flow = Flow::new(Arc::clone(&hub), outbox, DialectId::NATIVE, limits);
        let fixture = Self { hub, flow };
        fixture.publish(100, shape);
        fixture
    }

    fn publish(&self, after: i64, shape: i64) {
        let events = (after + 1..=after + 3).map(|number| change(number, TABLE, shape)).collect();
        self.hub.publish(Batch { after: offset(after), events, until: offset(after + 3) });
    }

    /// A subscription that has seen everything up to here.
    fn resume(&mut self, name: &str, after: i64) -> SubscriberId {
        let subscriber = self.hub.subscriber_id();
        let feed = Feed::behind(offset(after));
        self.flow.subscriptions.insert(subscriber, subscription(name, TABLE, SHAPE, feed));
        subscriber
    }

    fn listen(&mut self, name: &str) -> SubscriberId {
        let subscriber = self.hub.subscriber_id();
        let feed = self.flow.feed_from_now(subscriber, &Topic::Table(TABLE), None, None).expect("the hub has begun");
        self.flow.subscriptions.insert(subscriber, subscription(name, TABLE, SHAPE, feed));
        subscriber
    }

    fn is_live(&mut self, subscriber: SubscriberId) -> bool {
        self.flow.subscriptions.get_mut(subscriber).is_some_and(|it| it.feed.is_live())
    }

    /// Everything that comes without asking the log.
    fn sent(&mut self) -> usize {
        let mut out = Vec::new();
        while self.flow.step(&mut out) {
            assert!(self.flow.want_page().is_none(), "the log is asked for what memory has");
        }
        out.iter().filter(|it| matches!(it, Out::Event(_))).count()
    }
}

/// A page of the log with changes of another shape than is known.
fn renamed_page() -> Page {
    let events = number(offset(100), vec![change(101, TABLE, SHAPE + 1)]).into_iter().map(Seen::unjudged).collect();
    Page { gap: None, events, until: offset(101), caught_up: false }
}

#[test]
fn who_is_live_is_served_from_the_queue_and_stays_live() {
    let mut fixture = Fixture::new(SHAPE);
    let subscriber = fixture.listen("a");
    assert!(!fixture.flow.step(&mut Vec::new()), "there is nothing to do");
    fixture.publish(103, SHAPE);
    assert_eq!(fixture.sent(), 3);
    assert!(fixture.is_live(subscriber));
}

#[test]
fn who_resumes_is_served_from_memory_and_becomes_live() {
    let mut fixture = Fixture::new(SHAPE);
    let subscriber = fixture.resume("a", 100);
    assert_eq!(fixture.sent(), 3);
    assert!(fixture.is_live(subscriber));
}

#[test]
fn changes_with_other_names_are_asked_of_the_log_then_judged_anew() {
    let mut fixture = Fixture::new(SHAPE + 1);
    let subscriber = fixture.resume("a", 100);
    assert_eq!(fixture.sent(), 0);
    let wanted = fixture.flow.want_page().expect("the log is asked");
    assert_eq!(
        (wanted.subscriber, wanted.after, wanted.verdict, wanted.takes_memory),
        (subscriber, offset(100), false, false)
    );
    let mut out = Vec::new();
    fixture.flow.take_page(subscriber, renamed_page(), &mut out);
    while fixture.flow.step(&mut out) {}
    assert!(out.is_empty(), "{out:?}");
    let wanted = fixture.flow.want_page().expect("the log is asked again");
    assert!(wanted.verdict && !wanted.takes_memory);
}

#[test]
fn one_page_is_asked_for_at_a_time() {
    let mut fixture = Fixture::new(SHAPE);
    assert!(fixture.flow.want_page().is_none(), "nobody needs one");
    let subscriber = fixture.resume("a", 50);
    fixture.resume("b", 50);
    let wanted = fixture.flow.want_page().expect("memory does not go back so far");
    assert!(wanted.takes_memory && !wanted.verdict);
    assert!(fixture.flow.want_page().is_none());
    assert!(!fixture.flow.no_page());
    assert!(fixture.flow.want_page().is_some());
    let page = Page { gap: None, events: [].into(), until: offset(60), caught_up: false };
    fixture.flow.take_page(wanted.subscriber, page, &mut Vec::new());
    assert!(fixture.flow.subscriptions.get_mut(subscriber).is_some_and(|it| it.page.is_some()));
    assert_ne!(fixture.flow.want_page().expect("another needs one").subscriber, subscriber);
}

#[test]
fn a_page_for_other_rights_is_of_no_use() {
    let mut fixture = Fixture::new(SHAPE);
    let (first, second) = (fixture.resume("a", 50), fixture.resume("b", 50));
    let asked = fixture.flow.want_page().expect("a page").subscriber;
    let other = if asked == first { second } else { first };
    fixture.flow.reseat(other, None, &mut Vec::new());
    assert!(!fixture.flow.no_page(), "it was another's rights that changed");
    fixture.flow.want_page().expect("the page again");
    fixture.flow.reseat(asked, None, &mut Vec::new());
    fixture.flow.reseat(other, None, &mut Vec::new());
    assert!(fixture.flow.no_page());
    assert!(!fixture.flow.no_page(), "that was said");
}

#[test]
fn who_is_nearly_there_stays_so_when_a_page_cannot_be_had() {
    let mut fixture = Fixture::new(SHAPE);
    let subscriber = fixture.resume("a", 50);
    fixture.flow.want_page().expect("memory does not go back so far");
    let page = Page { gap: None, events: [].into(), until: offset(102), caught_up: true };
    fixture.flow.take_page(subscriber, page, &mut Vec::new());
    assert!(fixture.flow.step(&mut Vec::new()), "the page is taken");
    let is_closing =
        |fixture: &mut Fixture| fixture.flow.subscriptions.get_mut(subscriber).is_some_and(|it| it.feed.is_closing());
    assert!(is_closing(&mut fixture), "it has joined, and lacks one event");
    fixture.flow.want_page().expect("what is between");
    fixture.flow.no_page();
    assert!(is_closing(&mut fixture));
}

#[test]
fn who_replaces_a_subscription_goes_on_where_it_stands() {
    let mut fixture = Fixture::new(SHAPE);
    let old = fixture.listen("a");
    let new = fixture.hub.subscriber_id();
    let mut feed = |table| fixture.flow.feed_from_now(new, &Topic::Table(table), None, Some(old)).expect("begun");
    assert!(!feed(TABLE).is_live());
    assert!(feed(TABLE + 1).is_live());
}

#[test]
fn nothing_comes_for_who_has_left() {
    let mut fixture = Fixture::new(SHAPE);
    assert_eq!(fixture.flow.safe_cursor(), Some(offset(103)), "with nothing to listen to, the head is safe");
    let subscriber = fixture.listen("a");
    assert!(fixture.flow.end(subscriber).is_some());
    fixture.publish(103, SHAPE);
    assert!(!fixture.flow.step(&mut Vec::new()));
}
