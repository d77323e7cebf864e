//! A model of everything that can happen between a log, its reader, the hub and one connection, in random order.
//!
//! Publishing is taken apart into its steps, replays lag behind, queues and memory are tiny, parts of the log vanish,
//! tables rename their columns. At the end every subscription must have got exactly what it asked for: nothing lost
//! unless a gap said so, nothing twice, offsets growing, no column by the name of another.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

mod court;
mod record;

use court::Courts;
use record::Record;

use super::{
    feed::Feed,
    flow::{Flow, Out, Wanted},
    subscriptions::{Doubt, Subscription, Wish, form},
};
use crate::{
    court::Seat,
    hub::{Batch, Hub, Outbox, Page, PageLimits, Seen, SubscriberId, number, tests::event},
    model::{Channel, Columns, Event, EventKind, Gap, GapReason, Grant, Offset, Relation, TableGrant, Topic},
    protocol::{Address, DialectId, Form, Published},
};

const TABLES: u32 = 3;
const PAGE: PageLimits = PageLimits { events: 3, bytes: 100_000 };

/// xorshift: the same seed, the same story.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

struct World {
    random: Random,
    hub: Arc<Hub>,
    /// Everything that ever happened: offset and table.
    history: Vec<(i64, u32)>,
    /// How often each table has renamed its only column.
    shapes: [i64; TABLES as usize],
    /// The cursor before the oldest event that the log still has.
    floor: i64,
    end: i64,
    cursor: i64,
    serving: VecDeque<Arc<Published>>,
    settles_at: Option<i64>,
    flow: Flow,
    outbox: Arc<Outbox>,
    courts: Courts,
    asked: Option<Wanted>,
    records: BTreeMap<String, Record>,
    finished: Vec<Record>,
    names: u32,
}

pub(super) fn offset(number: i64) -> Offset {
    Offset::new(number).expect("small")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let hub = Arc::new(Hub::new(usize::try_from(random.below(10) * 300).expect("small")));
        hub.start(offset(100), []);
        let frames_max = usize::try_from(2 + random.below(6)).expect("small");
        let outbox = Arc::new(Outbox::new(frames_max, 1_000_000));
        let flow = Flow::new(Arc::clone(&hub), Arc::clone(&outbox), DialectId::NATIVE, PAGE);
        let inbox_max = PageLimits { events: usize::try_from(1 + random.below(8)).expect("small"), bytes: 1_000_000 };
        Self {
            courts: Courts::new(&hub, inbox_max),
            random,
            hub,
            history: Vec::new(),
            shapes: [1; TABLES as usize],
            floor: 100,
            end: 100,
            cursor: 100,
            serving: VecDeque::new(),
            settles_at: None,
            flow,
            outbox,
            asked: None,
            records: BTreeMap::new(),
            finished: Vec::new(),
            names: 0,
        }
    }

    fn act(&mut self) {
        match self.random.below(18) {
            0 | 1 => self.commit(),
            2 => self.read(),
            3..=5 => self.serve(),
            6..=8 => self.step(),
            9 => self.ask(),
            10 => self.answer(),
            11 => self.subscribe(),
            12 if self.random.one_in(4) => self.rename(),
            12 => self.judge_all(),
            14..=16 => self.sit(),
            17 => self.change_eyes(),
            _ if self.random.one_in(6) => self.forget(),
            _ if self.random.one_in(3) => self.unsubscribe(),
            _ if self.random.one_in(2) => self.send_snapshots(),
            _ => self.step(),
        }
    }

    fn commit(&mut self) {
        // Now and then the server restarted, which leaves a hole in the numbers.
        if self.random.one_in(20) {
            self.end += 50;
        }
        for _ in 0..=self.random.below(4) {
            self.end += 1;
            let table = u32::try_from(self.random.below(u64::from(TABLES))).expect("small");
            self.history.push((self.end, table));
        }
    }

    fn rename(&mut self) {
        let table = usize::try_from(self.random.below(u64::from(TABLES))).expect("small");
        self.shapes[table] += 1;
    }

    /// Grants are judged again now and then, whatever happens.
    fn judge_all(&mut self) {
        for subscriber in self.flow.subscriptions.ids() {
            self.judge(subscriber);
        }
    }

    fn judge(&mut self, subscriber: SubscriberId) {
        let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) else {
            return;
        };
        if let Topic::Table(table) = *subscription.topic() {
            (subscription.grant, subscription.form) = grant(table, self.shapes[table as usize]);
        }
    }

    /// Retention takes the oldest part away, perhaps before it was read.
    fn forget(&mut self) {
        let older: Vec<i64> = self.history.iter().map(|(number, _)| *number).filter(|it| *it > self.floor).collect();
        if !older.is_empty() {
            let index = usize::try_from(self.random.below(older.len() as u64)).expect("small");
            self.floor = older[index];
        }
    }

    /// The log after a cursor, as the database answers.
    fn log(&self, after: i64, events_max: usize, table: Option<u32>) -> (Option<Gap>, Vec<Event>, i64, i64) {
        let gap = (after < self.floor).then(|| Gap {
            reason: GapReason::Retention,
            from: offset(after + 1),
            to: offset(self.floor),
        });
        let from = after.max(self.floor);
        let (mut events, mut until) = (Vec::new(), from);
        for &(number, of) in self.history.iter().filter(|(number, _)| *number > from) {
            if events.len() == events_max {
                break;
            }
            until = number;
            if table.is_none_or(|table| table == of) {
                events.push(change(number, of, self.shapes[of as usize]));
            }
        }
        let head = self.history.last().map_or(from, |(number, _)| *number).max(from);
        (gap, events, until, head)
    }

    /// The reader's next batch is announced; serving it comes later.
    fn read(&mut self) {
        if !self.serving.is_empty() || self.settles_at.is_some() {
            return;
        }
        let events_max = usize::try_from(1 + self.random.below(6)).expect("small");
        let (gap, events, until, _) = self.log(self.cursor, events_max, None);
        let mut after = self.cursor;
        if let Some(gap) = gap {
            self.hub.publish_break(gap);
            after = gap.to.get();
        }
        let batch = Batch { after: offset(after), events, until: offset(until) };
        self.serving = self.hub.announce(batch).into();
        self.settles_at = Some(until);
        self.cursor = until;
    }

    fn serve(&mut self) {
        match self.serving.pop_front() {
            Some(event) => {
                self.hub.serve(&event);
            }
            None => {
                if let Some(until) = self.settles_at.take() {
                    self.hub.settle(offset(until));
                }
            }
        }
    }

    fn step(&mut self) {
        self.flow.fall_behind();
        let mut out = Vec::new();
        let moved = self.flow.step(&mut out);
        assert!(moved || out.is_empty(), "something was done and not said: nobody would ask for more");
        self.note(out);
        if self.random.one_in(8) {
            self.check_safe_cursor();
        }
    }

    fn note(&mut self, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Event(frame) => {
                    let frame: serde_json::Value = serde_json::from_str(&frame).expect("frames are JSON");
                    let shown: Vec<_> = frame["payload"]["record"].as_object().expect("a row").values().collect();
                    assert_eq!(shown, [1], "a column came by the name of another: {frame}");
                    let record = self.records.get_mut(frame["id"].as_str().expect("an id")).expect("is open");
                    record.got.push(frame["offset"].as_i64().expect("an offset"));
                }
                Out::Gap(address, gap) => self.records.get_mut(&*address.id).expect("is open").gaps.push(gap),
            }
        }
    }

    /// A heartbeat's cursor must not lie beyond anything that has not been sent.
    fn check_safe_cursor(&mut self) {
        let Some(safe) = self.flow.safe_cursor().map(Offset::get) else {
            return;
        };
        for record in self.records.values() {
            record.check(&self.history, safe.min(self.cursor));
        }
    }

    fn ask(&mut self) {
        if self.asked.is_none() {
            self.asked = self.flow.want_page();
        }
    }

    fn answer(&mut self) {
        let Some(wanted) = self.asked.take() else {
            return;
        };
        let Wanted { subscriber, topic: Topic::Table(table), after, verdict, .. } = wanted else {
            return;
        };
        if self.random.one_in(5) {
            self.flow.no_page();
            return;
        }
        if verdict {
            self.judge(subscriber);
        }
        if self.random.one_in(5) {
            self.shapes[table as usize] += 1;
        }
        let recent = wanted.judged_as.as_ref().filter(|_| wanted.takes_memory);
        let recent = recent.and_then(|_| self.hub.recent(&wanted.topic, after, PAGE));
        let mut page = recent.unwrap_or_else(|| self.page(table, after));
        if let Some(party) = &wanted.judged_as {
            court::judge(&mut page, court::eyes(party));
        }
        let mut out = Vec::new();
        self.flow.take_page(subscriber, page, &mut out);
        self.note(out);
    }

    fn page(&self, table: u32, after: Offset) -> Page {
        let (gap, events, until, head) = self.log(after.get(), PAGE.events, Some(table));
        let start = gap.map_or(after, |gap| gap.to);
        let events = number(start, events).into_iter().map(Seen::unjudged).collect();
        Page { gap, events, until: offset(until), caught_up: until >= head }
    }

    fn subscribe(&mut self) {
        if self.records.len() > 4 {
            return self.unsubscribe();
        }
        // Sometimes an open name is taken again, which replaces it.
        let again = self.records.keys().next().filter(|_| self.names.is_multiple_of(5)).cloned();
        self.names += 1;
        let name = again.unwrap_or_else(|| format!("s{}", self.names));
        let table = u32::try_from(self.random.below(u64::from(TABLES))).expect("small");
        let subscriber = self.hub.subscriber_id();
        let replaced = self.flow.subscriptions.find(&name);
        let eyes = self.random_eyes();
        let seat = self.courts.seat(table, eyes);
        let awaits_snapshot = self.random.one_in(5);
        let (feed, page) = if awaits_snapshot {
            (Feed::behind(self.hub.head().expect("started")), None)
        } else if self.random.one_in(2) {
            let feed = self.flow.feed_from_now(subscriber, &Topic::Table(table), seat.as_ref(), replaced);
            (feed.expect("started"), None)
        } else {
            let (feed, page) = self.resume(table, eyes);
            (feed, Some(page))
        };
        if let Some(replaced) = replaced {
            self.close(replaced, &name);
        }
        self.open(subscriber, &name, (table, seat), feed, page);
        if let Some(subscription) = self.flow.subscriptions.get_mut(subscriber) {
            subscription.awaits_snapshot = awaits_snapshot;
        }
    }

    /// Snapshots that are waited for have been sent: as of the newest commit, which nobody may have read yet.
    fn send_snapshots(&mut self) {
        let newest = self.history.last().map_or(100, |(number, _)| *number);
        let waiting = |(subscriber, it): (SubscriberId, &Subscription)| {
            it.awaits_snapshot.then(|| (subscriber, it.address.id.to_string()))
        };
        let waiting: Vec<_> = self.flow.subscriptions.iter().filter_map(waiting).collect();
        for (subscriber, name) in waiting {
            let record = self.records.get_mut(&name).expect("is open");
            assert!(record.got.is_empty() && record.gaps.is_empty(), "something came before its snapshot: {record:?}");
            record.start = newest;
            self.flow.snapshot_sent(subscriber, offset(newest));
        }
    }

    /// From an offset that was seen before, and perhaps is gone from the log, or is not even read yet.
    fn resume(&mut self, table: u32, eyes: Option<u32>) -> (Feed, Page) {
        let known: Vec<i64> = [100].into_iter().chain(self.history.iter().map(|(number, _)| *number)).collect();
        let index = usize::try_from(self.random.below(known.len() as u64)).expect("small");
        let cursor = offset(known[index]);
        let mut page = self.hub.recent(&Topic::Table(table), cursor, PAGE).unwrap_or_else(|| self.page(table, cursor));
        if let Some(eyes) = eyes {
            court::judge(&mut page, eyes);
        }
        (Feed::behind(cursor), page)
    }

    fn open(
        &mut self,
        subscriber: SubscriberId,
        name: &str,
        (table, seat): (u32, Option<Seat>),
        feed: Feed,
        page: Option<Page>,
    ) {
        let start = feed.cursor().get();
        let eyes = vec![(0, seat.as_ref().map(|seat| court::eyes(seat.party())))];
        let record = Record { table, start, eyes, got: Vec::new(), gaps: Vec::new() };
        self.records.insert(name.to_owned(), record);
        // What is known may be a little old.
        let known = self.shapes[table as usize] - i64::from(self.random.one_in(4));
        let mut subscription = subscription(name, table, known, feed);
        subscription.seat = seat;
        let mut out = Vec::new();
        if let Some(page) = page {
            subscription.take_first_page(page, &mut out);
        }
        self.flow.subscriptions.insert(subscriber, subscription);
        self.note(out);
    }

    fn unsubscribe(&mut self) {
        let Some(name) = self.records.keys().next().cloned() else {
            return;
        };
        let subscriber = self.flow.subscriptions.find(&name).expect("is open");
        self.close(subscriber, &name);
    }

    fn close(&mut self, subscriber: SubscriberId, name: &str) {
        self.flow.end(subscriber);
        self.finished.extend(self.records.remove(name));
    }

    fn is_moving(&self) -> bool {
        let is_read = self.cursor == self.end && self.serving.is_empty() && self.settles_at.is_none();
        !is_read || self.flow.subscriptions.any_replaying() || self.courts.is_busy() || !self.outbox.is_empty()
    }

    /// Everything comes to rest, then everything is compared.
    fn finish(mut self) {
        self.send_snapshots();
        while self.is_moving() {
            self.read();
            while !self.serving.is_empty() || self.settles_at.is_some() {
                self.serve();
            }
            self.sit();
            self.ask();
            self.answer();
            self.step();
        }
        for record in self.records.values() {
            record.check(&self.history, self.cursor);
        }
        for record in &self.finished {
            record.check_order();
        }
    }
}

/// An insert as it is read when the table has this shape. The column that may be seen holds 1; at each renaming the one
/// that may not takes the name that the other had.
pub(super) fn change(number: i64, table: u32, shape: i64) -> Event {
    let mut event = event(number, table);
    if let EventKind::Row(row) = &mut event.kind {
        row.relations = row.relations.iter().map(|it| Relation { shape: Some(shape), ..it.clone() }).collect();
        row.record = Some(format!(r#"{{"{}":1,"{}":2}}"#, name(shape), name(shape - 1)).into());
    }
    event
}

fn name(shape: i64) -> Arc<str> {
    format!("c{shape}").into()
}

fn grant(table: u32, shape: i64) -> (Arc<Grant>, Form) {
    let columns = Columns::new([name(shape)]);
    let seen = TableGrant {
        comparable: [].into(),
        numbers: [].into(),
        columns: columns.clone(),
        types: [].into(),
        key: None,
        shape: Some(shape),
        is_whole: false,
        is_judged: false,
        rights: 0,
    };
    let topic = Topic::Table(table);
    let form = form(&topic, Some(columns));
    (Arc::new(Grant { topic, table: Some(seen) }), form)
}

pub(super) fn subscription(name: &str, table: u32, shape: i64, feed: Feed) -> Subscription {
    let address = Address { id: name.into(), channel: "table:s.t".into() };
    let (grant, form) = grant(table, shape);
    Subscription {
        address_text: DialectId::NATIVE.dialect().address(&address),
        form,
        channel: Channel::parse("table:s.t").expect("a name"),
        address,
        grant,
        seat: None,
        wish: Wish::default(),
        feed,
        awaits_snapshot: false,
        page: None,
        watch: None,
        doubt: Doubt::default(),
    }
}

#[test]
fn whatever_happens_nothing_is_lost_or_repeated() {
    for seed in 1..=300 {
        eprintln!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.act();
        }
        world.finish();
    }
}
