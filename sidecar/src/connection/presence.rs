//! Who is on the channels of a connection: what it says of itself, and what it hears of others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use super::Connection;
use crate::{
    error::{CloseReason, Code, CommandError},
    hub::{Attendance, News, SubscriberId},
    model::{Channel, ChannelName, Who},
    protocol::{Notice, Reference, Roster, Standing},
};

/// News of one channel that are sent at once; others get a turn after them.
const TURN: usize = 256;

/// The channels of which a connection hears who is there, by the name that the client uses.
#[derive(Default)]
pub(super) struct Attendances {
    by_channel: BTreeMap<Arc<str>, Attendance>,
    /// Those of which there is something to hear.
    marked: BTreeSet<SubscriberId>,
}

impl Attendances {
    /// Gives it back by dropping it.
    pub(super) fn take(&mut self, channel: &str) -> Option<Attendance> {
        self.by_channel.remove(channel)
    }

    pub(super) fn put(&mut self, channel: &Arc<str>, attendance: Attendance) {
        self.by_channel.insert(Arc::clone(channel), attendance);
    }

    pub(super) fn mark(&mut self, attendance: SubscriberId) {
        self.marked.insert(attendance);
    }

    fn find(&self, id: SubscriberId) -> Option<(Arc<str>, &Attendance)> {
        self.by_channel.iter().find(|(_, it)| it.id() == id).map(|(channel, it)| (Arc::clone(channel), it))
    }
}

impl Connection {
    /// In protocols where whoever subscribes is there, joins the channel; gives who is there, oneself among them.
    pub(super) fn attend(&mut self, name: &Arc<str>, channel: &Channel) -> Option<Arc<Roster>> {
        let Channel::Messages(channel) = channel else {
            return None;
        };
        if !self.dialect.dialect().counts_subscribers() {
            return None;
        }
        let who = self.who();
        let attendance = self.attendance(name, channel);
        // A channel that has as many members as are kept is listened to all the same.
        let _ = attendance.join(who, None, SystemTime::now());
        Some(attendance.roster())
    }

    fn attendance(&mut self, name: &Arc<str>, channel: &ChannelName) -> &mut Attendance {
        let (services, outbox) = (&self.services, &self.outbox);
        let watch = || services.presence.watch(channel, services.hub.subscriber_id(), outbox);
        self.attendances.by_channel.entry(Arc::clone(name)).or_insert_with(watch)
    }

    /// The user, or this connection when it showed no token.
    fn who(&self) -> Who {
        match &self.identity.user {
            Some(user) => Who::User(Arc::clone(user)),
            None => Who::Connection(self.name.as_str().into()),
        }
    }

    /// Somebody else has taken over the connection: it is there under its new name.
    pub(super) fn attend_anew(&mut self) {
        let who = self.who();
        let now = SystemTime::now();
        for attendance in self.attendances.by_channel.values_mut().filter(|it| it.is_member()) {
            let state = attendance.state();
            let _ = attendance.join(who.clone(), state, now);
        }
    }

    /// A subscription has ended. The last one of a channel takes its attendance with it.
    pub(super) fn attend_no_more(&mut self, channel: &str) {
        if !self.flow.subscriptions.has_channel(channel) {
            self.attendances.take(channel);
        }
    }

    pub(super) fn presence(&mut self, reference: Option<&Reference>, name: &Arc<str>, standing: Standing) {
        match self.stand(name, standing) {
            Ok(()) => {
                self.send_notice(&Notice::Attending { reference, channel: name });
                self.send_members(name);
            }
            Err(error) => self.send_notice(&Notice::Error { error: &error, reference, address: None }),
        }
    }

    fn stand(&mut self, name: &Arc<str>, standing: Standing) -> Result<(), CommandError> {
        let Channel::Messages(channel) = Channel::parse(name)? else {
            return Err(CommandError::new(Code::InvalidChannel, "nobody is on a table channel: use a message channel"));
        };
        if !self.flow.subscriptions.has_channel(name) {
            let text = "who is there is for subscribers of the channel: subscribe first";
            return Err(CommandError::new(Code::NotSubscribed, text));
        }
        let (who, now) = (self.who(), SystemTime::now());
        let state_bytes_max = self.services.limits.presence_state_bytes_max;
        let attendance = self.attendance(name, &channel);
        match standing {
            Standing::Watching => Ok(()),
            Standing::Gone => {
                attendance.leave(now);
                Ok(())
            }
            Standing::There { state } if state.len() > state_bytes_max => {
                let text = "the state is larger than a member's may be: keep it small and publish the rest";
                Err(CommandError::new(Code::PayloadTooLarge, text))
            }
            Standing::There { state } => attendance.join(who, Some(state), now).map_err(|_| {
                let text = "the channel has as many members as are kept: watch it without a state";
                CommandError::new(Code::Unavailable, text)
            }),
        }
    }

    /// Gives the socket what was not heard yet, as long as it takes it.
    pub(super) fn send_presence(&mut self) {
        while self.closing.is_none() && self.link.has_room() {
            let Some(id) = self.attendances.marked.pop_first() else {
                return;
            };
            let Some((channel, attendance)) = self.attendances.find(id) else {
                continue;
            };
            match attendance.news(TURN) {
                News::Changes(changes) => {
                    // There may be more.
                    if changes.len() == TURN {
                        self.attendances.marked.insert(id);
                    }
                    let frames = changes.iter().filter_map(|change| change.frame(self.dialect));
                    frames.for_each(|frame| self.link.send(frame.as_ref().to_owned()));
                }
                News::Lost => self.send_members(&channel),
            }
        }
    }

    /// Tells who is there. A client whose protocol has no word for it gets that by coming back.
    fn send_members(&mut self, channel: &str) {
        let Some(attendance) = self.attendances.by_channel.get(channel) else {
            return;
        };
        let roster = attendance.roster();
        match self.codec.encode(&Notice::Members { channel, members: roster.json(self.dialect) }) {
            Some(frame) => self.link.send(frame),
            None => self.closing = Some(CloseReason::TooSlow),
        }
    }
}
