//! The hub and two connections as threads, in orders that a scheduler chooses: what [`super::flow_model`] takes apart into
//! steps happens here between any two locks and atomics.
//!
//! One thread commits and publishes, now and then over a hole. Each connection resumes or begins, has a queue that
//! overflows all the time, and reads pages from memory or from the log. In the end each has every event, once, in order.
//!
//! `cargo test --package realtime-sidecar --features shuttle --lib flow_threads`

use std::{ops::RangeInclusive, sync::Arc};

use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
    sync::Mutex,
    thread::{spawn, yield_now},
};

use super::{
    feed::Feed,
    flow::{Flow, Out},
    subscriptions::{Doubt, Subscription, Wish, form},
};
use crate::{
    hub::{Batch, Hub, Outbox, Page, PageLimits, Seen, number, tests::event},
    model::{Channel, Columns, Gap, GapReason, Grant, Offset, TableGrant, Topic},
    protocol::{Address, DialectId},
};

const TABLE: u32 = 1;
const START: i64 = 100;
const PAGE: PageLimits = PageLimits { events: 2, bytes: 100_000 };
/// Batches, with a hole before the last one.
const BATCHES: [RangeInclusive<i64>; 4] = [101..=101, 102..=104, 105..=106, 109..=111];
const HOLE: RangeInclusive<i64> = 107..=108;
const END: i64 = 111;
const RUNS: usize = 1_000;

/// What is committed, whether or not the hub has read it.
type Log = Arc<Mutex<Vec<i64>>>;

fn offset(number: i64) -> Offset {
    Offset::new(number).expect("small")
}

/// Commits and publishes everything, as the reader does: a batch is in the log before it is announced.
fn publish(hub: &Hub, log: &Log) {
    let mut after = START;
    for batch in BATCHES {
        log.lock().expect("nobody panicked").extend(batch.clone());
        if *batch.start() > after + 1 {
            let gap = Gap { reason: GapReason::Retention, from: offset(after + 1), to: offset(batch.start() - 1) };
            hub.publish_break(gap);
            after = gap.to.get();
        }
        let until = *batch.end();
        let events = batch.map(|number| event(number, TABLE)).collect();
        hub.publish(Batch { after: offset(after), events, until: offset(until) });
        after = until;
    }
}

/// One connection, and what it was sent.
struct Reader {
    hub: Arc<Hub>,
    log: Log,
    flow: Flow,
    start: i64,
    got: Vec<i64>,
    gaps: Vec<Gap>,
}

impl Reader {
    /// Subscribes from now on, or as somebody who has seen everything up to [`START`].
    fn new(hub: &Arc<Hub>, log: &Log, resumes: bool) -> Self {
        let outbox = Arc::new(Outbox::new(2, 1_000_000));
        let mut flow = Flow::new(Arc::clone(hub), outbox, DialectId::NATIVE, PAGE);
        let subscriber = hub.subscriber_id();
        let feed = if resumes {
            Feed::behind(offset(START))
        } else {
            flow.feed_from_now(subscriber, &Topic::Table(TABLE), None, None).expect("the hub has begun")
        };
        let start = feed.cursor().get();
        flow.subscriptions.insert(subscriber, subscription(feed));
        let (hub, log) = (Arc::clone(hub), Arc::clone(log));
        Self { hub, log, flow, start, got: Vec::new(), gaps: Vec::new() }
    }

    fn run(mut self) -> Self {
        while !self.has_all() {
            let mut out = Vec::new();
            self.flow.fall_behind();
            let moved = self.flow.step(&mut out);
            let asked = self.ask(&mut out);
            self.note(out);
            self.check_safe_cursor();
            if !moved && !asked {
                yield_now();
            }
        }
        self
    }

    fn has_all(&mut self) -> bool {
        let settled = self.flow.safe_cursor() == Some(offset(END));
        settled && self.hub.head() == Some(offset(END))
    }

    /// A page of the log, when one is needed.
    fn ask(&mut self, out: &mut Vec<Out>) -> bool {
        let Some(wanted) = self.flow.want_page() else {
            return false;
        };
        let page = page(&self.log.lock().expect("nobody panicked"), wanted.after);
        self.flow.take_page(wanted.subscriber, page, out);
        true
    }

    fn note(&mut self, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Event(frame) => {
                    let frame: serde_json::Value = serde_json::from_str(&frame).expect("frames are JSON");
                    self.got.push(frame["offset"].as_i64().expect("an offset"));
                }
                Out::Gap(_, gap) => self.gaps.push(gap),
            }
        }
    }

    /// What a heartbeat would say must not lie beyond anything that was not sent.
    fn check_safe_cursor(&mut self) {
        let safe = self.flow.safe_cursor().map_or(START, Offset::get);
        let due = BATCHES.into_iter().flatten().filter(|it| (self.start + 1..=safe).contains(it));
        let lost: Vec<i64> = due.filter(|it| !self.got.contains(it)).collect();
        assert!(lost.is_empty(), "the cursor {safe} lies beyond {lost:?}: {:?}", self.got);
    }

    fn check(&self) {
        let due: Vec<i64> = BATCHES.into_iter().flatten().filter(|it| *it > self.start).collect();
        assert_eq!(self.got, due, "from {}", self.start);
        let saw_hole = self.gaps.iter().any(|gap| gap.from.get() <= *HOLE.start() && gap.to.get() >= *HOLE.end());
        assert!(saw_hole || self.start >= *HOLE.start(), "the hole was not told: {:?}", self.gaps);
    }
}

/// The log after a cursor, as the database answers.
fn page(log: &[i64], after: Offset) -> Page {
    let hole = (offset(*HOLE.start() - 1)..offset(*HOLE.end())).contains(&after);
    let is_behind_hole = log.last().is_some_and(|last| last > HOLE.end());
    let gap = (hole && is_behind_hole).then(|| Gap {
        reason: GapReason::Retention,
        from: Offset::new(after.get() + 1).expect("small"),
        to: offset(*HOLE.end()),
    });
    let start = gap.map_or(after, |gap| gap.to);
    let later: Vec<i64> = log.iter().copied().filter(|number| *number > start.get()).collect();
    // A page ends before the hole: the next one begins with it.
    let before_hole = |number: &&i64| start.get() >= *HOLE.end() || **number < *HOLE.start();
    let numbers: Vec<i64> = later.iter().take(PAGE.events).take_while(before_hole).copied().collect();
    let until = numbers.last().map_or(start, |last| offset(*last));
    let events = numbers.iter().map(|number| event(*number, TABLE)).collect();
    let events = number(start, events).into_iter().map(Seen::unjudged).collect();
    Page { gap, events, until, caught_up: numbers.len() == later.len() }
}

fn subscription(feed: Feed) -> Subscription {
    let address = Address { id: "s".into(), channel: "table:s.t".into() };
    let (topic, columns) = (Topic::Table(TABLE), Columns::new(["id".into()]));
    let seen = TableGrant {
        comparable: [].into(),
        numbers: [].into(),
        columns: columns.clone(),
        types: [].into(),
        key: None,
        shape: Some(1),
        is_whole: false,
        is_judged: false,
        rights: 0,
    };
    Subscription {
        address_text: DialectId::NATIVE.dialect().address(&address),
        form: form(&topic, Some(columns)),
        channel: Channel::parse("table:s.t").expect("a name"),
        address,
        grant: Arc::new(Grant { topic, table: Some(seen) }),
        seat: None,
        wish: Wish::default(),
        feed,
        awaits_snapshot: false,
        page: None,
        watch: None,
        doubt: Doubt::default(),
    }
}

/// Whoever resumes asks memory first; with nothing in memory, the log.
fn everybody_gets_everything(memory_bytes_max: usize) {
    let (hub, log) = (Arc::new(Hub::new(memory_bytes_max)), Log::default());
    hub.start(offset(START), []);
    let readers = [true, false].map(|resumes| {
        let (hub, log) = (Arc::clone(&hub), Arc::clone(&log));
        spawn(move || Reader::new(&hub, &log, resumes).run())
    });
    publish(&hub, &log);
    for reader in readers {
        reader.join().expect("its checks hold").check();
    }
}

/// Runs the model so many times, each in another order. Frames and their checks need more than the scheduler's usual stack.
fn check(scheduler: impl Scheduler + 'static, memory_bytes_max: usize) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(scheduler, config).run(move || everybody_gets_everything(memory_bytes_max));
}

#[test]
fn in_random_orders_nothing_is_lost_or_repeated() {
    for memory_bytes_max in [1 << 20, 0] {
        check(RandomScheduler::new(RUNS), memory_bytes_max);
    }
}

#[test]
fn in_orders_with_few_switches_nothing_is_lost_or_repeated() {
    for memory_bytes_max in [1 << 20, 0] {
        check(PctScheduler::new(4, RUNS), memory_bytes_max);
    }
}
