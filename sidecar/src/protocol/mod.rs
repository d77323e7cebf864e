//! The protocols: pure code. No socket, clock, task or database is named below this folder.
//!
//! A protocol is a folder with a [`Codec`] for each connection and a [`Dialect`] whose encoding of events is shared by
//! all connections that speak it. Adding one is a folder and a line in [`DIALECTS`].

mod announced;
mod insforge;
mod json;
mod message;
mod native;
mod published;
mod roster;
mod row;
mod seed;

#[cfg(test)]
mod golden;

use std::sync::Arc;

use crate::{
    error::CommandError,
    model::{Columns, Credential, Event, Gap, Identity, Member, Offset, PresenceChange, TableGrant},
};

pub use announced::Announced;
pub use insforge::{Insforge, engine};
pub use published::{Body, Form, Matches, Published};
pub use roster::{Attendee, NOBODY, Roster};

/// Every dialect that is spoken here. [`DialectId`] is an index of it.
pub static DIALECTS: [&dyn Dialect; 6] =
    [&native::Native, &seed::Seed, &INSFORGE[0], &INSFORGE[1], &INSFORGE[2], &INSFORGE[3]];

/// Each is a dialect of its own, so that what is encoded for one is never sent to another.
static INSFORGE: [Insforge; 4] = [
    Insforge { live_codes: false, prefixes_channel: false },
    Insforge { live_codes: true, prefixes_channel: false },
    Insforge { live_codes: false, prefixes_channel: true },
    Insforge { live_codes: true, prefixes_channel: true },
];

/// Which dialect a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectId(usize);

impl DialectId {
    /// The native protocol, version 1.
    pub const NATIVE: Self = Self(0);
    /// The frames of the Fluxbase seed.
    pub const SEED: Self = Self(1);
    /// InsForge's protocol as it is documented.
    pub const INSFORGE: Self = Self(2);

    /// InsForge's protocol with these switches.
    #[must_use]
    pub fn insforge(switches: Insforge) -> Self {
        Self(Self::INSFORGE.0 + usize::from(switches.live_codes) + 2 * usize::from(switches.prefixes_channel))
    }

    /// The dialect itself.
    #[must_use]
    pub fn dialect(self) -> &'static dyn Dialect {
        DIALECTS[self.0]
    }
}

/// The half of a protocol that belongs to one connection.
pub trait Codec: Send {
    /// Turns a frame of the client into a command.
    ///
    /// # Errors
    ///
    /// The frame is not one of the protocol's; the error is what the client is to be told.
    fn decode(&mut self, text: &str) -> Result<Command, DecodeError>;

    /// As [`Codec::decode`], for a frame of bytes. What is in it means nothing to any protocol here.
    ///
    /// # Errors
    ///
    /// As [`Codec::decode`].
    fn decode_binary(&mut self) -> Result<Command, DecodeError> {
        let error = CommandError::invalid("binary frames are not part of the protocol: send text frames");
        Err(DecodeError { error, reference: None, ends: false })
    }

    /// Words what the client is told, or gives `None` where the protocol has no word for it.
    fn encode(&mut self, notice: &Notice<'_>) -> Option<String>;
}

/// The half that is the same for every connection speaking the protocol, so that its work is shared.
pub trait Dialect: Sync {
    /// The name in logs and metrics.
    fn name(&self) -> &'static str;

    /// The state of a new connection.
    fn codec(&self) -> Box<dyn Codec>;

    /// Encodes an event in a form, or gives `None` when there is nothing to send in this form. Called at most once per
    /// event and form, however many subscriptions have it.
    fn encode(&self, event: &Event, form: &Form) -> Option<Body>;

    /// Encodes news of who is on a channel, or gives `None` when there is no word for them. Called at most once for each.
    fn presence(&self, change: &PresenceChange) -> Option<String> {
        let _ = change;
        None
    }

    /// Encodes somebody who is on a channel, as a part of a list, or gives `None` when there is no word for members. Called
    /// at most once for each.
    fn member(&self, member: &Member) -> Option<String> {
        let _ = member;
        None
    }

    /// Whether whoever subscribes to a channel is on it.
    fn counts_subscribers(&self) -> bool {
        false
    }

    /// What differs per subscription, ready to be put into each [`Body`]. Called once per subscription.
    fn address(&self, address: &Address) -> Box<str>;
}

/// What a client may ask.
#[derive(Debug)]
pub enum Command {
    /// Says who is there, in protocols where the opening request does not. It comes first and once.
    Connect {
        /// What is shown.
        credentials: Credentials,
    },
    /// Leaves.
    Leave,
    /// Wants what the protocol answers by itself.
    Reply {
        /// The answer.
        frame: String,
    },
    /// Wants the events of a channel.
    Subscribe(Subscribe),
    /// Wants no more events of a subscription.
    Unsubscribe {
        /// What answers repeat.
        reference: Option<Reference>,
        /// The subscription.
        id: Arc<str>,
    },
    /// Publishes a message.
    Publish(Publish),
    /// Says whether it is on a channel, and wants to hear who is.
    Presence {
        /// What answers repeat.
        reference: Option<Reference>,
        /// The channel, as the client wrote it.
        channel: Arc<str>,
        /// How it stands to the channel.
        standing: Standing,
    },
    /// Brings a new token.
    AccessToken {
        /// What answers repeat.
        reference: Option<Reference>,
        /// The token. Never logged.
        token: Token,
    },
    /// Wants a [`Notice::Pong`].
    Ping {
        /// What answers repeat.
        reference: Option<Reference>,
    },
    /// Says that it lives; never answered.
    Heartbeat,
}

/// How somebody stands to a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Hears who is there, and is as it was.
    Watching,
    /// Is there.
    There {
        /// What it says of itself: JSON text.
        state: Box<str>,
    },
    /// Is not there any more, and goes on hearing who is.
    Gone,
}

/// Wants the events of a channel.
#[derive(Debug)]
pub struct Subscribe {
    /// What answers repeat.
    pub reference: Option<Reference>,
    /// The subscription's name; a subscription with the same name is replaced.
    pub id: Arc<str>,
    /// The channel, as the client wrote it.
    pub channel: Arc<str>,
    /// Where to begin; `None` begins now.
    pub since: Option<Since>,
    /// The row operations or message events wanted; `None` wants all.
    pub events: Option<Vec<String>>,
    /// The columns wanted; `None` wants all that may be read.
    pub columns: Option<Vec<String>>,
    /// Which rows of a table are wanted; `None` wants all.
    pub filter: Option<Box<str>>,
    /// The table's rows are wanted first, unless the place to begin can be resumed from.
    pub snapshot: bool,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// After this offset.
    After(Offset),
    /// With the oldest event that the log has.
    Oldest,
}

/// Publishes a message.
#[derive(Debug)]
pub struct Publish {
    /// What answers repeat.
    pub reference: Option<Reference>,
    /// The channel, as the client wrote it.
    pub channel: Arc<str>,
    /// The event's name.
    pub event: String,
    /// The payload as JSON text.
    pub payload: Box<str>,
    /// The message's uuid; the same one again makes no second event.
    pub message_id: Option<String>,
}

/// A client's name for a command: JSON text of a string or a number, repeated in the answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(pub Box<str>);

/// What somebody shows to be let in.
#[derive(Debug)]
pub enum Credentials {
    /// Nothing.
    Nothing,
    /// A token, or a key where a token may stand.
    Token(Token),
    /// The key of a server.
    ApiKey(Token),
}

/// A token or a key, which Debug does not show.
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A frame that is not one of the protocol's.
#[derive(Debug)]
pub struct DecodeError {
    /// What the client is told.
    pub error: CommandError,
    /// Its name for the command, where that could be read.
    pub reference: Option<Reference>,
    /// The protocol has no way to go on after it: the connection ends without a word.
    pub ends: bool,
}

/// The names of a subscription.
#[derive(Clone, Debug)]
pub struct Address {
    /// The subscription's name.
    pub id: Arc<str>,
    /// The channel, as the client wrote it.
    pub channel: Arc<str>,
}

/// What the server tells one client, events apart.
#[derive(Debug)]
pub enum Notice<'a> {
    /// The connection is open.
    Hello(Hello<'a>),
    /// There is no connection, in protocols where the opening request does not say who is there.
    Refused {
        /// What was shown.
        credential: Credential,
        /// Why it is not enough.
        error: &'a CommandError,
    },
    /// A subscription has begun.
    Subscribed {
        /// The client's name for the command.
        reference: Option<&'a Reference>,
        /// The subscription.
        address: &'a Address,
        /// Where it stands: later events will come.
        offset: Offset,
        /// Whether nothing is missing since the offset that the client asked for.
        recovered: bool,
        /// For table channels: the columns that will come, and what the role may read.
        table: Option<(&'a Columns, &'a TableGrant)>,
        /// Who is there, in protocols where whoever subscribes is: the [`Roster`] in JSON.
        members: &'a str,
    },
    /// It stands to a channel as it wished; who is there follows.
    Attending {
        /// The client's name for the command.
        reference: Option<&'a Reference>,
        /// The channel.
        channel: &'a str,
    },
    /// Who is on a channel.
    Members {
        /// The channel.
        channel: &'a str,
        /// All of them: the [`Roster`] in JSON.
        members: &'a str,
    },
    /// A subscription has ended as the client wished.
    Unsubscribed {
        /// The client's name for the command.
        reference: Option<&'a Reference>,
        /// The subscription.
        address: &'a Address,
    },
    /// A message is committed.
    Published {
        /// The client's name for the command.
        reference: Option<&'a Reference>,
        /// The message's uuid.
        message_id: &'a str,
        /// It had been committed before.
        duplicate: bool,
    },
    /// A new token is in force.
    Identified {
        /// The client's name for the command.
        reference: Option<&'a Reference>,
        /// Who it is.
        identity: &'a Identity,
    },
    /// The answer to a ping, with a cursor that is safe for all subscriptions.
    Pong {
        /// The client's name for the command.
        reference: Option<&'a Reference>,
        /// Everything up to here was sent.
        offset: Option<Offset>,
    },
    /// A sign of life, with a cursor that is safe for all subscriptions.
    Heartbeat {
        /// Everything up to here was sent.
        offset: Option<Offset>,
    },
    /// A range of events cannot be had.
    Gap {
        /// The subscription.
        address: &'a Address,
        /// Which, and why.
        gap: &'a Gap,
    },
    /// A part of a table as of an offset.
    Snapshot {
        /// The subscription.
        address: &'a Address,
        /// Rows as the database wrote them: JSON objects.
        rows: &'a [Box<str>],
        /// The columns of them that are sent.
        columns: &'a Columns,
        /// With the last part: the offset that all parts are as of.
        end: Option<Offset>,
    },
    /// The database went or came back.
    Status {
        /// It is back.
        up: bool,
        /// Everything up to here was sent.
        offset: Option<Offset>,
    },
    /// A command was refused, or a subscription ended.
    Error {
        /// Why.
        error: &'a CommandError,
        /// The client's name for the command.
        reference: Option<&'a Reference>,
        /// The subscription that it is about.
        address: Option<&'a Address>,
    },
}

/// The first frame of the server.
#[derive(Debug)]
pub struct Hello<'a> {
    /// The head of the log, when the log was read before.
    pub offset: Option<Offset>,
    /// The connection's name, for logs on both sides.
    pub connection: &'a str,
    /// Who the client is.
    pub identity: &'a Identity,
    /// How often the server gives a sign of life, in milliseconds.
    pub heartbeat_ms: u64,
    /// What the client should stay within.
    pub limits: ClientLimits,
}

/// The limits that a client is told.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct ClientLimits {
    /// The largest frame, in bytes.
    pub frame_bytes: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Commands in a second, in the long run.
    pub messages_per_second: u32,
    /// Commands at once, after a pause.
    pub messages_burst: u32,
}
