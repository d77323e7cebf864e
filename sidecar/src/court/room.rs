//! Where the events of one relation wait for their verdicts, and those who want them: no task, clock or database.
//!
//! A room is a subscriber of its relation. What the hub gives it is taken in [cases](Case), judged by whoever serves the
//! room, and pronounced: each event goes to those who see something of it, and to nobody else. Joining is as exact as
//! with the hub: who joins registers *before* the room's position is read, and a case takes its end as the room's
//! position *before* it is known who is judged in it. So an event either is behind that position, and is replayed, or
//! comes with a verdict.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    hub::{Delivery, Hub, Item, Outbox, Position, Seen, SubscriberId},
    model::{EventKind, Offset, Party, Relation, Topic},
    postgres::judge::{Judgement, Range},
};

/// What is judged at once: a slow policy should not make a thousand events wait for each other.
const CASE_MAX: usize = 500;

/// Events of one relation, on their way through a judgement.
pub(crate) struct Room {
    hub: Arc<Hub>,
    relation: u32,
    registration: SubscriberId,
    inbox: Arc<Outbox>,
    // Never held across an await: all that is done under it is pushing to queues.
    state: Mutex<State>,
}

struct State {
    /// Events after this one are judged for whoever is registered now.
    position: Position,
    /// Everything up to here is in the queues.
    done: Offset,
    /// A case was taken and is not closed yet.
    at_work: bool,
    numbers: HashMap<Party, i32>,
    benches: HashMap<i32, Bench>,
    /// Numbers that nobody has any more, and that no case knows.
    free: Vec<i32>,
    came: Vec<i32>,
    went: Vec<i32>,
}

/// Those who are one to the policies.
struct Bench {
    party: Party,
    subscribers: HashMap<SubscriberId, Arc<Outbox>>,
}

/// What is judged at once.
pub(crate) struct Case {
    items: Vec<Item>,
    /// The events that need a verdict; `None` when there is none among them.
    pub(crate) range: Option<Range>,
    until: Offset,
    /// Who came and went since the case before.
    pub(crate) roster: Roster,
}

impl Case {
    /// What the relation is called in these events.
    pub(crate) fn relation(&self, oid: u32) -> Option<&Relation> {
        self.items.iter().find_map(|item| match item {
            Item::Event(event) => event.event().relation(oid),
            _ => None,
        })
    }
}

/// Who is judged, by number.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) went: Vec<i32>,
    pub(crate) came: Vec<(i32, Party)>,
}

impl Roster {
    pub(crate) fn is_empty(&self) -> bool {
        self.went.is_empty() && self.came.is_empty()
    }
}

impl Room {
    /// A room that gets the events of a relation from now on, as many as the inbox holds; `None` before the log was first
    /// read.
    pub(crate) fn open(hub: &Arc<Hub>, relation: u32, inbox: Outbox) -> Option<Self> {
        let inbox = Arc::new(inbox);
        let registration = hub.subscriber_id();
        let position = hub.join(&Topic::Table(relation), registration, &inbox)?;
        let state = State {
            position,
            done: position.begun,
            at_work: false,
            numbers: HashMap::new(),
            benches: HashMap::new(),
            free: Vec::new(),
            came: Vec::new(),
            went: Vec::new(),
        };
        Some(Self { hub: Arc::clone(hub), relation, registration, inbox, state: Mutex::new(state) })
    }

    /// The relation whose events these are.
    pub(crate) fn relation(&self) -> u32 {
        self.relation
    }

    /// Waits until there may be a case. For whoever serves the room.
    pub(crate) async fn ready(&self) {
        self.inbox.ready().await;
    }

    /// No more events come.
    pub(crate) fn close(&self) {
        self.hub.leave(&Topic::Table(self.relation), self.registration);
    }

    /// Registers for what a party sees, then says from where on it comes.
    pub(crate) fn join(&self, party: &Party, subscriber: SubscriberId, outbox: &Arc<Outbox>) -> Option<Position> {
        let head = self.hub.head()?;
        let mut state = self.state.lock();
        state.bench(party).subscribers.insert(subscriber, Arc::clone(outbox));
        // What lies between the position and the head is in the inbox, and nobody who joins now waits for it.
        Some(Position { begun: state.position.begun.max(head), ..state.position })
    }

    /// Ends a registration.
    pub(crate) fn leave(&self, party: &Party, subscriber: SubscriberId) {
        self.state.lock().leave(party, subscriber);
    }

    /// Everything up to here is in the queues of those who are registered.
    pub(crate) fn head(&self) -> Option<Offset> {
        let head = self.hub.head()?;
        let state = self.state.lock();
        Some(if self.is_idle(&state) { head } else { state.done })
    }

    /// Whether nothing waits: then everything that the hub had given out before is in the queues.
    fn is_idle(&self, state: &State) -> bool {
        !state.at_work && self.inbox.is_empty()
    }

    /// The next case, when something waits. To be closed with [`Room::pronounce`] or [`Room::adjourn`].
    pub(crate) fn take(&self) -> Option<Case> {
        let mut state = self.state.lock();
        // Before anything is taken from the inbox: nobody may find it empty and believe that all is done.
        state.at_work = true;
        if self.inbox.take_overflow() {
            self.begin_anew(&mut state);
        }
        let items: Vec<Item> = std::iter::from_fn(|| self.inbox.pop()).map(|it| it.item).take(CASE_MAX).collect();
        if items.is_empty() {
            state.at_work = false;
            return None;
        }
        state.follow(&items);
        let (until, roster) = (state.position.begun, state.roster_changes());
        Some(Case { range: self.range(&items), items, until, roster })
    }

    /// The inbox has lost something: what everybody misses, the log has.
    fn begin_anew(&self, state: &mut State) {
        if let Some(position) = self.hub.join(&Topic::Table(self.relation), self.registration, &self.inbox) {
            state.position = position;
        }
        state.push_to_all(&Item::Missed);
    }

    fn range(&self, items: &[Item]) -> Option<Range> {
        let mut rows = items.iter().filter_map(row_at);
        let first = rows.next()?;
        let until = rows.next_back().unwrap_or(first);
        Some(Range { relation: self.relation, after: first.before(), until })
    }

    /// Who has this number.
    pub(crate) fn party(&self, number: i32) -> Option<Party> {
        self.state.lock().benches.get(&number).map(|bench| bench.party.clone())
    }

    /// Whether anybody would hear what is pronounced now.
    pub(crate) fn has_listeners(&self) -> bool {
        !self.state.lock().benches.is_empty()
    }

    /// Everybody who is judged, for a session that knows nobody yet.
    pub(crate) fn roster(&self) -> Vec<(i32, Party)> {
        self.state.lock().benches.iter().map(|(&number, bench)| (number, bench.party.clone())).collect()
    }

    /// Gives each event to those who see something of it, and closes the case.
    pub(crate) fn pronounce(&self, case: Case, judgement: &Judgement) {
        let mut state = self.state.lock();
        for item in case.items {
            match item {
                Item::Event(event) => state.serve(Seen::unjudged(event), judgement),
                item => state.push_to_all(&item),
            }
        }
        state.close(case.until);
    }

    /// Nobody can judge the case now: everybody turns to the log.
    pub(crate) fn adjourn(&self, case: &Case) {
        let mut state = self.state.lock();
        state.push_to_all(&Item::Missed);
        state.close(case.until);
    }

    /// Has a party judged no more: it turns to the log. Gives who it was.
    pub(crate) fn expel(&self, number: i32) -> Option<Party> {
        let mut state = self.state.lock();
        let bench = state.benches.remove(&number)?;
        bench.push(&Item::Missed);
        state.numbers.remove(&bench.party);
        state.give_back(number);
        Some(bench.party)
    }
}

impl State {
    fn bench(&mut self, party: &Party) -> &mut Bench {
        let number = self.numbers.get(party).copied().unwrap_or_else(|| self.number(party));
        let bench = || Bench { party: party.clone(), subscribers: HashMap::new() };
        self.benches.entry(number).or_insert_with(bench)
    }

    fn number(&mut self, party: &Party) -> i32 {
        // Numbers are given back at the next case, so there are never more than parties at one time.
        let fresh = i32::try_from(self.benches.len() + self.went.len() + 1).unwrap_or(i32::MAX);
        let number = self.free.pop().unwrap_or(fresh);
        self.numbers.insert(party.clone(), number);
        self.came.push(number);
        number
    }

    fn leave(&mut self, party: &Party, subscriber: SubscriberId) {
        let Some(&number) = self.numbers.get(party) else {
            return;
        };
        let Some(bench) = self.benches.get_mut(&number) else {
            return;
        };
        bench.subscribers.remove(&subscriber);
        if bench.subscribers.is_empty() {
            self.benches.remove(&number);
            self.numbers.remove(party);
            self.give_back(number);
        }
    }

    /// The number is free when no case is open that may name it: at the next one.
    fn give_back(&mut self, number: i32) {
        self.came.retain(|&it| it != number);
        self.went.push(number);
    }

    fn roster_changes(&mut self) -> Roster {
        let went = std::mem::take(&mut self.went);
        self.free.extend(&went);
        let came = std::mem::take(&mut self.came);
        let party = |number: i32| self.benches.get(&number).map(|bench| (number, bench.party.clone()));
        Roster { went, came: came.into_iter().filter_map(party).collect() }
    }

    /// Takes the end of these as the position, before anybody learns who is judged in them.
    fn follow(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Event(event) => self.position.begun = self.position.begun.max(event.event().offset),
                Item::Break(it) => self.position = Position { begun: it.gap.to, epoch: it.epoch },
                Item::Judged(_) | Item::Missed => (),
            }
        }
    }

    fn close(&mut self, until: Offset) {
        self.done = until;
        self.at_work = false;
    }

    fn serve(&self, seen: Seen, judgement: &Judgement) {
        if !seen.can_be_judged() {
            return self.push_to_all(&Item::Judged(seen));
        }
        let Some(verdicts) = judgement.seen_at(seen.event.event().offset) else {
            return self.push_to_all(&Item::Missed);
        };
        for &(number, verdict) in verdicts {
            if let Some(bench) = self.benches.get(&number) {
                bench.push(&Item::Judged(Seen { event: Arc::clone(&seen.event), verdict: Some(verdict) }));
            }
        }
    }

    fn push_to_all(&self, item: &Item) {
        self.benches.values().for_each(|bench| bench.push(item));
    }
}

impl Bench {
    fn push(&self, item: &Item) {
        for (&subscriber, outbox) in &self.subscribers {
            outbox.push(Delivery { subscriber, item: item.clone() });
        }
    }
}

fn row_at(item: &Item) -> Option<Offset> {
    match item {
        Item::Event(event) if matches!(event.event().kind, EventKind::Row(_)) => Some(event.event().offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{Batch, tests::event},
        model::Verdict,
    };

    fn offset(number: i64) -> Offset {
        Offset::new(number).expect("small")
    }

    fn party(name: &str) -> Party {
        Party { role: "r".into(), claims: name.into() }
    }

    struct Court {
        hub: Arc<Hub>,
        room: Room,
        at: i64,
    }

    impl Court {
        fn new() -> Self {
            let hub = Arc::new(Hub::new(1 << 20));
            hub.start(offset(10), []);
            let room = Room::open(&hub, 1, Outbox::new(10, 1 << 20)).expect("started");
            Self { hub, room, at: 10 }
        }

        fn publish(&mut self) {
            let after = offset(self.at);
            self.at += 1;
            self.hub.publish(Batch { after, events: vec![event(self.at, 1)], until: offset(self.at) });
        }

        fn join(&self, name: &str) -> (SubscriberId, Arc<Outbox>, Position) {
            let (subscriber, outbox) = (self.hub.subscriber_id(), Arc::new(Outbox::new(10, 1 << 20)));
            let position = self.room.join(&party(name), subscriber, &outbox).expect("started");
            (subscriber, outbox, position)
        }
    }

    fn numbers(roster: &Roster) -> (Vec<i32>, Vec<i32>) {
        (roster.went.clone(), roster.came.iter().map(|(number, _)| *number).collect())
    }

    #[test]
    fn who_is_alike_is_judged_once_and_who_goes_gives_the_number_back_at_the_next_case() {
        let mut court = Court::new();
        let (ada, ..) = court.join("ada");
        court.join("grace");
        court.join("grace");
        court.publish();
        let case = court.room.take().expect("an event");
        assert_eq!(numbers(&case.roster), (vec![], vec![1, 2]));
        court.room.leave(&party("ada"), ada);
        court.join("eve");
        court.room.adjourn(&case);
        court.publish();
        let case = court.room.take().expect("an event");
        assert_eq!(numbers(&case.roster), (vec![1], vec![3]), "no case may take one for another");
        court.room.adjourn(&case);
        court.join("ann");
        court.publish();
        assert_eq!(numbers(&court.room.take().expect("an event").roster), (vec![], vec![1]));
    }

    #[test]
    fn an_event_goes_to_those_who_see_it_and_what_was_not_judged_sends_everybody_to_the_log() {
        let mut court = Court::new();
        let ((_, ada, _), (_, grace, _)) = (court.join("ada"), court.join("grace"));
        court.publish();
        court.publish();
        let case = court.room.take().expect("events");
        assert_eq!(case.range, Some(Range { relation: 1, after: offset(10), until: offset(12) }));
        assert_eq!(court.room.head(), Some(offset(10)));
        let (_, _, late) = court.join("late");
        assert_eq!(late.begun, offset(12), "what is being judged is behind who joins now");
        court.room.pronounce(case, &Judgement::new(vec![11], &[1], &["-1"]).expect("an answer"));
        let items = |outbox: &Outbox| std::iter::from_fn(|| outbox.pop()).map(|it| it.item).collect::<Vec<_>>();
        let (ada, grace) = (items(&ada), items(&grace));
        assert!(matches!(&ada[..], [Item::Judged(seen), Item::Missed] if seen.verdict == Verdict::parse(b'-', b'1')));
        assert!(matches!(&grace[..], [Item::Missed]));
        assert_eq!(court.room.head(), Some(offset(12)));
    }
}
