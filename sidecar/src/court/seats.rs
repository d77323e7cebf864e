//! Which rooms there are: one for each relation that somebody is judged for, open as long as somebody is.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::room::Room;
use crate::{
    hub::{Hub, Outbox, PageLimits, Position, SubscriberId},
    model::{Offset, Party},
};

/// All rooms.
pub struct Rooms {
    hub: Arc<Hub>,
    inbox_max: PageLimits,
    // Never held across an await.
    open: Mutex<HashMap<u32, Open>>,
}

struct Open {
    room: Arc<Room>,
    seats: usize,
    closed: CancellationToken,
}

/// A room that has just been opened and is to be served until it is closed.
pub(crate) struct Opened {
    pub(crate) room: Arc<Room>,
    pub(crate) closed: CancellationToken,
}

/// A party's place where a relation is judged. Without one no verdict of it is believed. Given back when dropped.
pub struct Seat {
    rooms: Weak<Rooms>,
    room: Arc<Room>,
    party: Party,
}

impl Rooms {
    /// No rooms yet, for what this hub gives. In each so much may wait to be judged; beyond that everybody is served from
    /// the log.
    #[must_use]
    pub fn new(hub: Arc<Hub>, inbox_max: PageLimits) -> Self {
        Self { hub, inbox_max, open: Mutex::default() }
    }

    /// A seat for a party, and the room when it was opened for that; `None` before the log was first read.
    pub(crate) fn seat(self: &Arc<Self>, relation: u32, party: Party) -> Option<(Seat, Option<Opened>)> {
        let mut open = self.open.lock();
        let (mut opened, rooms) = (None, Arc::downgrade(self));
        let entry = match open.entry(relation) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let inbox = Outbox::new(self.inbox_max.events, self.inbox_max.bytes);
                let (room, closed) = (Arc::new(Room::open(&self.hub, relation, inbox)?), CancellationToken::new());
                opened = Some(Opened { room: Arc::clone(&room), closed: closed.clone() });
                entry.insert(Open { room, seats: 0, closed })
            }
        };
        entry.seats += 1;
        Some((Seat { rooms, room: Arc::clone(&entry.room), party }, opened))
    }

    fn leave(&self, relation: u32) {
        let mut open = self.open.lock();
        let Some(entry) = open.get_mut(&relation) else {
            return;
        };
        entry.seats -= 1;
        if entry.seats == 0 {
            entry.room.close();
            entry.closed.cancel();
            open.remove(&relation);
        }
    }
}

impl Seat {
    /// Who sits here.
    #[must_use]
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// Registers for what the party sees, then says from where on it comes; `None` before the log was first read.
    #[must_use]
    pub fn join(&self, subscriber: SubscriberId, outbox: &Arc<Outbox>) -> Option<Position> {
        self.room.join(&self.party, subscriber, outbox)
    }

    /// Ends a registration.
    pub fn leave(&self, subscriber: SubscriberId) {
        self.room.leave(&self.party, subscriber);
    }

    /// Everything up to here is in the queues of those who are registered.
    #[must_use]
    pub fn head(&self) -> Option<Offset> {
        self.room.head()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(rooms) = self.rooms.upgrade() {
            rooms.leave(self.room.relation());
        }
    }
}
