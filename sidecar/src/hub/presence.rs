//! Who is on which channel, for all protocols: members, those who watch them, and the news that some have not heard yet.
//!
//! News are kept once per channel, until every watcher has taken them; a watcher's queue holds only a mark that there are
//! some. Whoever is too far behind is told to begin anew. Nothing here is in the log, and other sidecars have their own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::{Note, Outbox, SubscriberId};
use crate::{
    model::{ChannelName, Member, Move, PresenceChange, Timestamp, Who},
    protocol::{Announced, Attendee, Roster},
};

/// News of a channel that are kept for those who are slow.
const NEWS_MAX: usize = 1024;

/// All channels that somebody watches.
pub struct Presence {
    members_max: usize,
    /// How many there are, of all channels.
    members: Gauge,
    // Taken before the lock of a room; never held across an await.
    rooms: Mutex<HashMap<ChannelName, Arc<Mutex<Room>>>>,
}

/// Somebody's place on a channel: watching from the beginning, a member when it says so. Given back when dropped.
pub struct Attendance {
    presence: Arc<Presence>,
    channel: ChannelName,
    room: Arc<Mutex<Room>>,
    id: SubscriberId,
    who: Option<Who>,
}

/// The channel has as many members as are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel has as many members as are kept")]
pub struct Full;

/// What a watcher has not heard yet.
#[derive(Debug)]
pub enum News {
    /// These, in order.
    Changes(Vec<Arc<Announced>>),
    /// More than was kept: the members are to be told anew.
    Lost,
}

#[derive(Default)]
struct Room {
    // Never held across an await: all that is done under it is counting and pushing marks.
    members: BTreeMap<Who, Present>,
    /// The members as they were asked for last, as long as they are the same.
    roster: Option<Arc<Roster>>,
    watchers: HashMap<SubscriberId, Watcher>,
    news: VecDeque<Pending>,
    /// The number of the first of them.
    first: u64,
}

struct Present {
    attendee: Arc<Attendee>,
    attendances: BTreeSet<SubscriberId>,
}

struct Watcher {
    outbox: Arc<Outbox>,
    /// The number of the first news that it has not heard.
    next: u64,
    /// It was told that there are some, and has not asked yet.
    is_marked: bool,
}

struct Pending {
    announced: Arc<Announced>,
    /// How many have not heard it.
    watchers: usize,
}

impl Presence {
    /// Nobody is anywhere. A channel has at most `members_max` members; `members` is kept at how many all channels have.
    #[must_use]
    pub fn new(members_max: usize, members: Gauge) -> Self {
        Self { members_max, members, rooms: Mutex::default() }
    }

    /// Begins to watch a channel, as nobody.
    #[must_use]
    pub fn watch(self: &Arc<Self>, channel: &ChannelName, id: SubscriberId, outbox: &Arc<Outbox>) -> Attendance {
        let mut rooms = self.rooms.lock();
        let room = Arc::clone(rooms.entry(channel.clone()).or_default());
        let mut inner = room.lock();
        let next = inner.end();
        inner.watchers.insert(id, Watcher { outbox: Arc::clone(outbox), next, is_marked: false });
        drop(inner);
        Attendance { presence: Arc::clone(self), channel: channel.clone(), room, id, who: None }
    }

    /// Channels that somebody watches.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.rooms.lock().len()
    }
}

impl Attendance {
    /// What marks in the queue are called by.
    #[must_use]
    pub fn id(&self) -> SubscriberId {
        self.id
    }

    /// Whether it is a member.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.who.is_some()
    }

    /// What the member says of itself.
    #[must_use]
    pub fn state(&self) -> Option<Box<str>> {
        let room = self.room.lock();
        self.who.as_ref().and_then(|who| room.members.get(who)?.member().state.clone())
    }

    /// Becomes a member, under another name than before perhaps; a state replaces the one that the member had.
    ///
    /// # Errors
    ///
    /// The channel has as many members as are kept.
    pub fn join(&mut self, who: Who, state: Option<Box<str>>, now: SystemTime) -> Result<(), Full> {
        if self.who.as_ref().is_some_and(|before| *before != who) {
            self.leave(now);
        }
        let mut room = self.room.lock();
        let step = room.join(&who, self.id, state, self.presence.members_max, now)?;
        self.who = Some(who.clone());
        if step == Some(Move::Join) {
            self.presence.members.inc();
        }
        if let (Some(step), Some(present)) = (step, room.members.get(&who)) {
            let member = Arc::clone(present.member());
            room.announce(change(&self.channel, step, member, now), self.id);
        }
        Ok(())
    }

    /// Is no member any more, and goes on watching.
    pub fn leave(&mut self, now: SystemTime) {
        let Some(who) = self.who.take() else {
            return;
        };
        self.leave_room(&mut self.room.lock(), &who, now);
    }

    fn leave_room(&self, room: &mut Room, who: &Who, now: SystemTime) {
        if let Some(member) = room.leave(who, self.id) {
            self.presence.members.dec();
            room.announce(change(&self.channel, Move::Leave, member, now), self.id);
        }
    }

    /// Who is there, the same list for all who ask until somebody comes, changes or goes; everything up to now counts as
    /// heard.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        let mut room = self.room.lock();
        room.take_news(self.id, usize::MAX);
        room.roster()
    }

    /// What was not heard yet, at most `limit` of it.
    #[must_use]
    pub fn news(&self, limit: usize) -> News {
        self.room.lock().take_news(self.id, limit)
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let mut rooms = self.presence.rooms.lock();
        let mut room = self.room.lock();
        room.take_news(self.id, usize::MAX);
        room.watchers.remove(&self.id);
        if let Some(who) = &self.who {
            self.leave_room(&mut room, who, SystemTime::now());
        }
        if room.watchers.is_empty() {
            rooms.remove(&self.channel);
        }
    }
}

impl Room {
    /// The number that the next news will have.
    fn end(&self) -> u64 {
        self.first + self.news.len() as u64
    }

    /// Gives what others are to hear of it.
    fn join(
        &mut self,
        who: &Who,
        id: SubscriberId,
        state: Option<Box<str>>,
        members_max: usize,
        now: SystemTime,
    ) -> Result<Option<Move>, Full> {
        if let Some(present) = self.members.get_mut(who) {
            present.attendances.insert(id);
            if state.is_none() || present.member().state == state {
                return Ok(None);
            }
            let joined_at = present.member().joined_at;
            present.attendee = attendee(who, joined_at, state);
            self.roster = None;
            return Ok(Some(Move::Change));
        }
        if self.members.len() >= members_max {
            return Err(Full);
        }
        let attendee = attendee(who, Timestamp(now), state);
        self.members.insert(who.clone(), Present { attendee, attendances: BTreeSet::from([id]) });
        self.roster = None;
        Ok(Some(Move::Join))
    }

    /// Gives the member when that was its last attendance.
    fn leave(&mut self, who: &Who, id: SubscriberId) -> Option<Arc<Member>> {
        let present = self.members.get_mut(who)?;
        present.attendances.remove(&id);
        if !present.attendances.is_empty() {
            return None;
        }
        self.roster = None;
        self.members.remove(who).map(|present| Arc::clone(present.member()))
    }

    fn roster(&mut self) -> Arc<Roster> {
        let members = &self.members;
        let list = || Arc::new(Roster::new(members.values().map(|present| Arc::clone(&present.attendee)).collect()));
        Arc::clone(self.roster.get_or_insert_with(list))
    }

    /// Leaves news for every watcher but the one that they are about.
    fn announce(&mut self, change: PresenceChange, about: SubscriberId) {
        self.take_news(about, usize::MAX);
        let number = self.end();
        let mut watchers = 0;
        for (&id, watcher) in self.watchers.iter_mut().filter(|(id, _)| **id != about) {
            watchers += 1;
            if !std::mem::replace(&mut watcher.is_marked, true) {
                watcher.outbox.note(Note::Presence { attendance: id });
            }
        }
        self.news.push_back(Pending { announced: Arc::new(Announced::new(change)), watchers });
        if let Some(watcher) = self.watchers.get_mut(&about) {
            watcher.next = number + 1;
        }
        if self.news.len() > NEWS_MAX {
            self.drop_first();
        }
        self.drop_heard();
    }

    fn take_news(&mut self, id: SubscriberId, limit: usize) -> News {
        let (first, end) = (self.first, self.end());
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return News::Changes(Vec::new());
        };
        let is_lost = watcher.next < first;
        let begin = index(watcher.next.saturating_sub(first));
        let taken = begin..begin.saturating_add(limit).min(self.news.len());
        watcher.next = first + taken.end as u64;
        watcher.is_marked = watcher.next < end;
        let mut changes = Vec::with_capacity(taken.len());
        for pending in self.news.range_mut(taken) {
            pending.watchers = pending.watchers.saturating_sub(1);
            changes.push(Arc::clone(&pending.announced));
        }
        self.drop_heard();
        if is_lost { News::Lost } else { News::Changes(changes) }
    }

    fn drop_heard(&mut self) {
        while self.news.front().is_some_and(|pending| pending.watchers == 0) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        self.news.pop_front();
        self.first += 1;
    }
}

impl Present {
    fn member(&self) -> &Arc<Member> {
        self.attendee.member()
    }
}

fn attendee(who: &Who, joined_at: Timestamp, state: Option<Box<str>>) -> Arc<Attendee> {
    Arc::new(Attendee::new(Arc::new(Member { who: who.clone(), joined_at, state })))
}

/// A place among what is kept, which is little.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn change(channel: &ChannelName, step: Move, member: Arc<Member>, now: SystemTime) -> PresenceChange {
    let id = uuid::Uuid::new_v4().to_string().into_boxed_str();
    PresenceChange { channel: channel.clone(), step, member, id, at: Timestamp(now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Offset,
        protocol::{Address, Codec, DialectId, Notice, Reference},
    };

    fn room() -> ChannelName {
        ChannelName::parse("room:1").expect("a name")
    }

    fn user(name: &str) -> Who {
        Who::User(name.into())
    }

    /// Somebody who watches, with its queue.
    fn watcher(presence: &Arc<Presence>, id: u64) -> (Attendance, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::new(1, 1));
        (presence.watch(&room(), SubscriberId(id), &outbox), outbox)
    }

    fn heard(attendance: &Attendance) -> Vec<(Move, String)> {
        match attendance.news(usize::MAX) {
            News::Changes(news) => {
                news.iter().map(|it| (it.change().step, it.change().member.who.name().to_owned())).collect()
            }
            News::Lost => vec![(Move::Change, "lost".to_owned())],
        }
    }

    #[test]
    fn a_user_comes_once_and_goes_with_the_last_connection() {
        let members = Gauge::default();
        let presence = Arc::new(Presence::new(10, members.clone()));
        let (watching, outbox) = watcher(&presence, 1);
        let ((mut one, _), (mut two, _)) = (watcher(&presence, 2), watcher(&presence, 3));
        let now = SystemTime::now();
        assert_eq!(one.join(user("ann"), None, now), Ok(()));
        assert_eq!(two.join(user("ann"), None, now), Ok(()));
        assert_eq!((one.roster().members().len(), members.get()), (1, 1));
        assert!(matches!(outbox.pop_note(), Some(Note::Presence { attendance: SubscriberId(1) })));
        assert!(outbox.pop_note().is_none(), "one mark is enough");
        assert_eq!(heard(&watching), [(Move::Join, "ann".to_owned())]);
        assert_eq!(heard(&one), [], "nobody hears of itself");
        drop(one);
        assert_eq!(heard(&watching), []);
        drop(two);
        assert_eq!(heard(&watching), [(Move::Leave, "ann".to_owned())]);
        drop(watching);
        assert_eq!((presence.channels(), members.get()), (0, 0));
    }

    #[test]
    fn who_is_there_is_listed_anew_only_when_it_changes() {
        let presence = Arc::new(Presence::new(10, Gauge::default()));
        let ((mut ann, _), (mut bob, _)) = (watcher(&presence, 1), watcher(&presence, 2));
        let now = SystemTime::now();
        ann.join(user("ann"), None, now).expect("room");
        let mut lists = vec![ann.roster()];
        assert!((0..100).all(|_| Arc::ptr_eq(&bob.roster(), &lists[0])));
        ann.join(user("ann"), None, now).expect("room");
        assert!(Arc::ptr_eq(&ann.roster(), &lists[0]), "it was there already");
        bob.join(user("bob"), None, now).expect("room");
        lists.push(bob.roster());
        bob.join(user("bob"), Some("1".into()), now).expect("room");
        lists.push(bob.roster());
        bob.leave(now);
        lists.push(bob.roster());
        let names = |list: &Arc<Roster>| list.members().map(|it| it.who.name().to_owned()).collect::<Vec<_>>();
        let names: Vec<_> = lists.iter().map(names).collect();
        assert_eq!(names, [vec!["ann"], vec!["ann", "bob"], vec!["ann", "bob"], vec!["ann"]]);
        assert!(lists.windows(2).all(|pair| !Arc::ptr_eq(&pair[0], &pair[1])));
    }

    #[test]
    fn what_everybody_has_heard_is_not_kept() {
        let presence = Arc::new(Presence::new(10, Gauge::default()));
        let ((watching, _), (slow, _), (mut ann, _)) =
            (watcher(&presence, 1), watcher(&presence, 2), watcher(&presence, 3));
        ann.join(user("ann"), Some("1".into()), SystemTime::now()).expect("room");
        ann.join(user("ann"), Some("2".into()), SystemTime::now()).expect("room");
        assert_eq!(heard(&watching).len(), 2);
        assert_eq!(ann.room.lock().news.len(), 2);
        drop(slow);
        assert_eq!(ann.room.lock().news.len(), 0);
    }

    #[test]
    fn whoever_is_far_behind_begins_anew_and_a_channel_can_be_full() {
        let presence = Arc::new(Presence::new(1, Gauge::default()));
        let ((watching, _), (mut ann, _), (mut bob, _)) =
            (watcher(&presence, 1), watcher(&presence, 2), watcher(&presence, 3));
        let now = SystemTime::now();
        for number in 0..=NEWS_MAX {
            ann.join(user("ann"), Some(number.to_string().into()), now).expect("room");
        }
        assert_eq!(ann.room.lock().news.len(), NEWS_MAX);
        assert_eq!(bob.join(user("bob"), None, now), Err(Full));
        assert!(matches!(watching.news(usize::MAX), News::Lost));
        assert_eq!(heard(&watching), []);
        ann.join(user("zoe"), None, now).expect("the place is free again");
        assert_eq!(presence.members.get(), 1);
        assert_eq!(heard(&watching), [(Move::Leave, "ann".to_owned()), (Move::Join, "zoe".to_owned())]);
    }

    /// 5,000 who come back into one room, each told who is there; then 5,000 answers while nobody comes or goes.
    #[test]
    #[ignore = "measures; says what it measured"]
    fn a_crowd_comes_back_into_one_room() {
        const CROWD: u64 = 5_000;
        let presence = Arc::new(Presence::new(10_000, Gauge::default()));
        let mut crowd: Vec<_> = (0..CROWD).map(|id| watcher(&presence, id)).collect();
        let mut codec = DialectId::INSFORGE.dialect().codec();
        let began = std::time::Instant::now();
        let mut bytes = 0;
        for (id, (attendance, _)) in crowd.iter_mut().enumerate() {
            attendance.join(user(&format!("8f14e45f-ceea-467f-a0e6-{id:012}")), None, SystemTime::now()).expect("room");
            bytes += answer(&mut *codec, attendance);
        }
        println!("storm: {bytes} bytes in {:?}", began.elapsed());
        let began = std::time::Instant::now();
        let bytes: usize = crowd.iter().map(|(attendance, _)| answer(&mut *codec, attendance)).sum();
        println!("calm: {bytes} bytes in {:?}", began.elapsed());
    }

    fn answer(codec: &mut dyn Codec, attendance: &Attendance) -> usize {
        let address = Address { id: "room:1".into(), channel: "room:1".into() };
        let reference = Reference("1".into());
        let roster = attendance.roster();
        let subscribed = Notice::Subscribed {
            reference: Some(&reference),
            address: &address,
            offset: Offset::ZERO,
            recovered: true,
            table: None,
            members: roster.json(DialectId::INSFORGE),
        };
        codec.encode(&subscribed).expect("a word for it").len()
    }
}
