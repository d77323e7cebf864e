//! The words of the domain, before any protocol has touched them.

mod admin;
mod channel;
mod columns;
mod event;
mod grant;
mod identity;
mod offset;
mod presence;
mod timestamp;
mod verdict;

pub use admin::{ChannelRecord, EventCount, MessageCounts, MessageRecord, PolicyRecord};
pub use channel::{Channel, ChannelName, ChannelNameError, TableName};
pub use columns::Columns;
pub use event::{Event, EventKind, Gap, GapReason, Message, Op, Relation, RowChange, SenderType};
pub use grant::{Grant, Refusal, TableGrant, Topic};
pub use identity::{Credential, Identity, Party, USER_CLAIMS};
pub use offset::Offset;
pub use presence::{Member, Move, PresenceChange, Who};
pub use timestamp::Timestamp;
pub use verdict::{Effect, Sight, Verdict, View};
