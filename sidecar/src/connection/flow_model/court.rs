//! The part of the model where policies decide: courts that lag behind, fail, lose verdicts and let people go.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Random, World};
use crate::{
    court::{Case, Room, Rooms, Seat},
    hub::{Hub, Page, PageLimits},
    model::{Party, Verdict},
    postgres::judge::Judgement,
};

const PARTIES: u32 = 3;

/// All courts, each with what it is judging.
pub(super) struct Courts {
    hub: Arc<Hub>,
    rooms: Arc<Rooms>,
    sittings: Vec<Sitting>,
}

struct Sitting {
    room: Arc<Room>,
    closed: CancellationToken,
    case: Option<Case>,
    /// What the database said of it.
    judgement: Option<Judgement>,
}

/// The policy: two events of three.
pub(super) fn sees(eyes: u32, number: i64) -> bool {
    (number + i64::from(eyes)) % 3 != 0
}

fn party(eyes: u32) -> Party {
    Party { role: "r".into(), claims: eyes.to_string().into() }
}

/// Whose eyes a party has.
pub(super) fn eyes(party: &Party) -> u32 {
    party.claims.parse().expect("a number")
}

/// What is seen of a page.
pub(super) fn judge(page: &mut Page, eyes: u32) {
    for it in &mut page.events {
        let is_seen = sees(eyes, it.event.event().offset.get());
        it.verdict = Some(if is_seen { Verdict::OPEN } else { Verdict::BLIND });
    }
}

impl Courts {
    pub(super) fn new(hub: &Arc<Hub>, inbox_max: PageLimits) -> Self {
        let rooms = Arc::new(Rooms::new(Arc::clone(hub), inbox_max));
        Self { hub: Arc::clone(hub), rooms, sittings: Vec::new() }
    }

    pub(super) fn seat(&mut self, table: u32, eyes: Option<u32>) -> Option<Seat> {
        let (seat, opened) = self.rooms.seat(table, party(eyes?)).expect("started");
        if let Some(opened) = opened {
            self.sittings.push(Sitting { room: opened.room, closed: opened.closed, case: None, judgement: None });
        }
        Some(seat)
    }

    /// Whether something waits for a verdict.
    pub(super) fn is_busy(&self) -> bool {
        let head = self.hub.head();
        self.sittings.iter().any(|it| !it.closed.is_cancelled() && it.room.head() < head)
    }
}

impl Sitting {
    /// Takes a case, has it judged, or ends it.
    fn step(&mut self, random: &mut Random) {
        let Some(case) = self.case.take() else {
            self.case = self.room.take();
            return;
        };
        let Some(judgement) = self.judgement.take() else {
            self.judgement = Some(judgement(&self.room, &case, random));
            self.case = Some(case);
            return;
        };
        if random.one_in(8) {
            self.room.expel(i32::try_from(random.below(4)).expect("small"));
        }
        if random.one_in(8) {
            return self.room.adjourn(&case);
        }
        self.room.pronounce(case, &judgement);
    }
}

/// What the database says of a case. Now and then it does not know an event.
fn judgement(room: &Room, case: &Case, random: &mut Random) -> Judgement {
    let Some(range) = case.range else {
        return Judgement::default();
    };
    let mut places: Vec<i64> = (range.after.get() + 1..=range.until.get()).collect();
    if random.one_in(10) {
        places.pop();
    }
    let roster = room.roster();
    let letters = |party: &Party| -> String {
        places.iter().map(|&number| if sees(eyes(party), number) { "-1" } else { "-0" }).collect()
    };
    let verdicts: Vec<String> = roster.iter().map(|(_, party)| letters(party)).collect();
    let numbers: Vec<i32> = roster.iter().map(|(number, _)| *number).collect();
    let verdicts: Vec<&str> = verdicts.iter().map(String::as_str).collect();
    Judgement::new(places, &numbers, &verdicts).expect("an answer")
}

impl World {
    pub(super) fn random_eyes(&mut self) -> Option<u32> {
        let number = u32::try_from(self.random.below(u64::from(PARTIES) + 1)).expect("small");
        (number < PARTIES).then_some(number)
    }

    /// Each court goes a step.
    pub(super) fn sit(&mut self) {
        self.courts.sittings.retain(|it| !it.closed.is_cancelled());
        for sitting in &mut self.courts.sittings {
            sitting.step(&mut self.random);
        }
    }

    /// A token is renewed, or policies come and go: somebody sees with other eyes from here on.
    pub(super) fn change_eyes(&mut self) {
        let ids = self.flow.subscriptions.ids();
        if ids.is_empty() || !self.random.one_in(3) {
            return;
        }
        let index = usize::try_from(self.random.below(ids.len() as u64)).expect("small");
        let (subscriber, eyes) = (ids[index], self.random_eyes());
        let subscription = self.flow.subscriptions.get_mut(subscriber).expect("is open");
        let crate::model::Topic::Table(table) = *subscription.topic() else {
            return;
        };
        let seat = self.courts.seat(table, eyes);
        let mut out = Vec::new();
        self.flow.reseat(subscriber, seat, &mut out);
        let subscription = self.flow.subscriptions.get_mut(subscriber).expect("is open");
        let (name, at) = (subscription.address.id.to_string(), subscription.feed.cursor().get());
        self.records.get_mut(&name).expect("is open").eyes.push((at, eyes));
        self.note(out);
    }
}
