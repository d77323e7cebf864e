//! Why a command was refused and why a connection ends, before any protocol has worded it.

use std::{borrow::Cow, time::Duration};

use crate::model::ChannelNameError;

/// The codes that clients are written against (`docs/errors.md`). The set is open: clients ignore what they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The identity may not do this, or the channel does not exist: both look alike to a stranger.
    Unauthorized,
    /// The command needs a subscription that the connection does not have.
    NotSubscribed,
    /// The frame is not one of the protocol's.
    InvalidMessage,
    /// The channel's name breaks a rule.
    InvalidChannel,
    /// The filter cannot be used.
    FilterInvalid,
    /// A snapshot's rows and later changes could not be told apart.
    NoKey,
    /// The connection has as many subscriptions as it may have.
    TooManySubscriptions,
    /// Too many commands in too short a time.
    RateLimited,
    /// The frame or its payload is too large.
    PayloadTooLarge,
    /// The token has ended.
    TokenExpired,
    /// The table is gone, or no longer enabled.
    TableDropped,
    /// The columns that the identity may read have changed.
    SchemaChanged,
    /// The channel was disabled, or its policies no longer show it.
    ChannelDisabled,
    /// The database cannot be asked now.
    Unavailable,
    /// Something failed that should not have.
    InternalError,
}

impl Code {
    /// The word in frames, and for counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unauthorized => "UNAUTHORIZED",
            Self::NotSubscribed => "NOT_SUBSCRIBED",
            Self::InvalidMessage => "INVALID_MESSAGE",
            Self::InvalidChannel => "INVALID_CHANNEL",
            Self::FilterInvalid => "FILTER_INVALID",
            Self::NoKey => "NO_KEY",
            Self::TooManySubscriptions => "TOO_MANY_SUBSCRIPTIONS",
            Self::RateLimited => "RATE_LIMITED",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::TableDropped => "TABLE_DROPPED",
            Self::SchemaChanged => "SCHEMA_CHANGED",
            Self::ChannelDisabled => "CHANNEL_DISABLED",
            Self::Unavailable => "UNAVAILABLE",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// When a database that cannot be asked may be asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a command was refused, or why a subscription ended. The text is a sentence with a remedy, safe for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CommandError {
    /// What clients decide by.
    pub code: Code,
    /// What people read.
    pub text: Cow<'static, str>,
    /// When trying again makes sense, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The character of a filter at which the mistake is, counted from 1.
    pub position: Option<usize>,
    /// The subscription has ended with this.
    pub is_final: bool,
}

impl CommandError {
    /// An error that leaves everything else as it was.
    #[must_use]
    pub fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), retry_after_ms: None, position: None, is_final: false }
    }

    /// The same, telling when trying again makes sense.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
        self
    }

    /// The same, ending the subscription that it is about.
    #[must_use]
    pub fn ending(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// The frame is not one of the protocol's.
    #[must_use]
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidMessage, text)
    }

    /// The identity may not see the channel, or there is none: the two look alike.
    #[must_use]
    pub fn no_such_channel() -> Self {
        Self::new(
            Code::Unauthorized,
            "no such channel, or your role may not subscribe to it: check its name and grants",
        )
    }

    /// The filter cannot be used; `position` is the character at which the mistake is, counted from 1.
    #[must_use]
    pub fn bad_filter(text: impl Into<Cow<'static, str>>, position: Option<usize>) -> Self {
        Self { position, ..Self::new(Code::FilterInvalid, text) }
    }

    /// The table has no key, or the identity may not read it, or does not want it.
    #[must_use]
    pub fn no_key() -> Self {
        const TEXT: &str = "a snapshot needs the table's key: give the table a primary key, or ask for its columns too";
        Self::new(Code::NoKey, TEXT)
    }

    /// A snapshot was not sent to its end.
    #[must_use]
    pub fn no_snapshot() -> Self {
        const TEXT: &str = "the snapshot could not be sent to its end: forget its rows and subscribe again";
        Self::new(Code::Unavailable, TEXT).retry_after(RETRY)
    }

    /// The database cannot be asked now.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(Code::Unavailable, "the database cannot be reached now: try again shortly").retry_after(RETRY)
    }

    /// The token has ended.
    #[must_use]
    pub fn token_expired() -> Self {
        Self::new(Code::TokenExpired, "token has expired: connect again with a new one")
    }
}

impl From<ChannelNameError> for CommandError {
    fn from(error: ChannelNameError) -> Self {
        Self::new(Code::InvalidChannel, error.to_string())
    }
}

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The server stops: connect again after a while.
    Restart,
    /// A frame was larger than allowed.
    TooLarge,
    /// A text frame was not UTF-8.
    NotText,
    /// The peer broke RFC 6455.
    Protocol,
    /// The client said that it leaves.
    Left,
    /// The client did not say in time who it is.
    NoGreeting,
    /// A packet under the protocol's frames was none.
    BadPacket,
    /// Too many bad frames.
    Abuse,
    /// The token has ended.
    Token,
    /// The client does not read: connect again and resume.
    TooSlow,
    /// More connections than allowed.
    Limit,
    /// The peer was silent for too long.
    Dead,
    /// The role is gone, or may no longer be assumed.
    RightsGone,
}

impl CloseReason {
    /// The number in the close frame.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Restart => 1012,
            Self::TooLarge => 1009,
            Self::NotText => 1007,
            Self::Protocol => 1002,
            Self::Left => 1000,
            Self::NoGreeting | Self::BadPacket | Self::Abuse => 4400,
            Self::Token => 4401,
            Self::RightsGone => 4403,
            Self::TooSlow | Self::Dead => 4408,
            Self::Limit => 4429,
        }
    }

    /// One word for counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Restart => "1012",
            Self::TooLarge => "1009",
            Self::NotText => "1007",
            Self::Protocol => "1002",
            Self::Left => "1000",
            Self::NoGreeting => "4400_greeting",
            Self::BadPacket => "4400_packet",
            Self::Abuse => "4400",
            Self::Token => "4401",
            Self::RightsGone => "4403",
            Self::TooSlow => "4408",
            Self::Dead => "4408_dead",
            Self::Limit => "4429",
        }
    }

    /// The text in the close frame; RFC 6455 allows 123 bytes.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Restart => "server restarts: connect again and resume",
            Self::TooLarge => "message too large",
            Self::NotText => "text frames must be UTF-8",
            Self::Protocol => "not a valid websocket frame",
            Self::Left => "goodbye",
            Self::NoGreeting => "no CONNECT packet came in time",
            Self::BadPacket => "not a packet of the protocol",
            Self::Abuse => "too many invalid messages",
            Self::Token => "token has expired: connect again with a new one",
            Self::TooSlow => "too slow: connect again and resume",
            Self::Limit => "too many connections",
            Self::Dead => "no sign of life: connect again and resume",
            Self::RightsGone => "your role is no longer accepted here",
        }
    }
}
