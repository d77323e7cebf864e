//! Who is on a channel at this moment. Nothing of it is in the log.

use std::sync::Arc;

use super::{ChannelName, Timestamp};

/// Somebody on a channel: a user however often they are connected, or one connection of those who showed no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub who: Who,
    /// Since when.
    pub joined_at: Timestamp,
    /// What it says of itself: JSON text, where its protocol has a word for it.
    pub state: Option<Box<str>>,
}

/// The name of a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// The user of a token.
    User(Arc<str>),
    /// A connection without one.
    Connection(Arc<str>),
}

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It came.
    Join,
    /// It says something else of itself.
    Change,
    /// Its last connection went.
    Leave,
}

/// A member came, changed or went.
#[derive(Clone, Debug)]
pub struct PresenceChange {
    /// Where.
    pub channel: ChannelName,
    /// What happened.
    pub step: Move,
    /// To whom.
    pub member: Arc<Member>,
    /// A uuid of its own.
    pub id: Box<str>,
    /// When.
    pub at: Timestamp,
}

impl Who {
    /// The name without its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::Connection(name) => name,
        }
    }

    /// The word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Connection(_) => "anonymous",
        }
    }
}
