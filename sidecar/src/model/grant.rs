//! What the database answered when it was asked whether somebody may listen.

use std::sync::Arc;

use super::{ChannelName, Columns, Event, EventKind};

/// What a subscription listens to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The changes of a table or partitioned table, by oid.
    Table(u32),
    /// The messages of a channel.
    Channel(ChannelName),
}

/// The right to listen to a topic. Only the database gives one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be listened to.
    pub topic: Topic,
    /// For tables: what may be read of them.
    pub table: Option<TableGrant>,
}

/// What an identity may read of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableGrant {
    /// The columns, in table order.
    pub columns: Columns,
    /// Their numbers, in table order: a column that is dropped and made again is another one.
    pub numbers: Arc<[i16]>,
    /// Their names and types, in table order.
    pub types: Arc<[(Arc<str>, Arc<str>)]>,
    /// Their names and how their values are compared, in table order; empty unless that was asked for.
    pub comparable: Arc<[(Arc<str>, Arc<str>)]>,
    /// The key columns; `None` when the table has no key or the identity may not read all of it.
    pub key: Option<Arc<[Arc<str>]>>,
    /// Which name stood for which column when this was judged: an event with another shape must not be shown by these
    /// names, because one of them may stand for another column there.
    pub shape: Option<i64>,
    /// The whole table may be read, columns that come later too.
    pub is_whole: bool,
    /// Policies decide on each row.
    pub is_judged: bool,
    /// Changes whenever verdicts of these policies may: those that were given before are not worth anything any more.
    pub rights: i64,
}

/// Why something is refused. The caller is told less: missing and forbidden look alike to a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such table.
    NoTable,
    /// The table is not enabled.
    NotEnabled,
    /// No enabled channel has this name.
    NoChannel,
    /// A grant is missing.
    NoPrivilege,
    /// The policies say no.
    Policies,
    /// A policy raised an error with this code.
    PolicyFailed(Arc<str>),
    /// The policies had no end.
    TooSlow,
    /// The token has ended.
    TokenExpired,
    /// The role is gone.
    NoRole,
    /// The sidecar may not assume the role.
    RoleNotGranted,
    /// It is not known why.
    Forbidden,
}

impl Refusal {
    /// One word for people and counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoTable => "no_table",
            Self::NotEnabled => "not_enabled",
            Self::NoChannel => "no_channel",
            Self::NoPrivilege => "no_privilege",
            Self::Policies => "policies",
            Self::PolicyFailed(_) => "policy_failed",
            Self::TooSlow => "too_slow",
            Self::TokenExpired => "token_expired",
            Self::NoRole => "no_role",
            Self::RoleNotGranted => "role_not_granted",
            Self::Forbidden => "forbidden",
        }
    }

    /// The code of the error that a policy raised.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::PolicyFailed(sqlstate) => Some(sqlstate),
            _ => None,
        }
    }
}

impl Grant {
    /// Whether each event is to be judged before it is sent.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.is_judged)
    }

    /// Whether verdicts given under the one hold under the other.
    #[must_use]
    pub fn keeps_verdicts_of(&self, other: &Self) -> bool {
        let rights = |grant: &Self| grant.table.as_ref().filter(|it| it.is_judged).map(|it| it.rights);
        rights(self) == rights(other)
    }

    /// Whether the event's columns are called as they were when this was judged.
    #[must_use]
    pub fn knows_columns_of(&self, event: &Event) -> bool {
        let (Some(table), Topic::Table(oid), EventKind::Row(change)) = (&self.table, &self.topic, &event.kind) else {
            return true;
        };
        let relation = change.relations.iter().find(|it| it.oid == *oid);
        relation.is_some_and(|it| it.shape.is_some() && it.shape == table.shape)
    }
}

impl TableGrant {
    /// Whether a client sees no difference between the two.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        self.numbers == other.numbers
            && self.columns == other.columns
            && self.types == other.types
            && self.key == other.key
    }
}

impl Topic {
    /// Whether the event belongs to it.
    #[must_use]
    pub fn has(&self, event: &Event) -> bool {
        event.is_for_all() || self.names(event)
    }

    fn names(&self, event: &Event) -> bool {
        match self {
            Self::Table(oid) => event.relations().iter().any(|relation| relation.oid == *oid),
            Self::Channel(name) => matches!(&event.kind, EventKind::Message(message) if message.channel == *name),
        }
    }
}

impl Event {
    /// Calls `serve` for every topic that the event names. One that [is for all](Event::is_for_all) names none.
    pub fn for_each_topic(&self, mut serve: impl FnMut(Topic)) {
        if let EventKind::Message(message) = &self.kind {
            serve(Topic::Channel(message.channel.clone()));
        }
        for relation in self.relations() {
            serve(Topic::Table(relation.oid));
        }
    }
}
