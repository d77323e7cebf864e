//! InsForge's protocol: Engine.IO packets, Socket.IO packets in them, and the events of the InsForge SDK.

mod codec;
mod encode;
pub mod engine;
mod packet;
mod wire;

use super::{Address, Body, Codec, Dialect, Form, json::push_text};
use crate::{
    error::Code,
    model::{Event, Member, PresenceChange},
};

/// What servers of this protocol do not agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insforge {
    /// Codes of errors are those of the live system, not those of its documentation.
    pub live_codes: bool,
    /// `meta.channel` of events begins with `realtime:`.
    pub prefixes_channel: bool,
}

impl Insforge {
    fn channel_prefix(self) -> &'static str {
        if self.prefixes_channel { "realtime:" } else { "" }
    }

    /// The word for a code. For what is passing there is none of its own: applications know three, and one is for faults
    /// of the server.
    fn code(self, code: Code) -> &'static str {
        if code == Code::Unavailable {
            return Code::InternalError.label();
        }
        if !self.live_codes {
            return code.label();
        }
        match code {
            Code::Unauthorized | Code::ChannelDisabled => "REALTIME_UNAUTHORIZED",
            Code::NotSubscribed => "REALTIME_NOT_SUBSCRIBED",
            Code::InvalidMessage => "REALTIME_INVALID_EVENT",
            Code::InvalidChannel => "REALTIME_INVALID_CHANNEL_REQUEST",
            Code::TableDropped => "REALTIME_CHANNEL_NOT_FOUND",
            other => other.label(),
        }
    }
}

impl Dialect for Insforge {
    fn name(&self) -> &'static str {
        "insforge"
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(codec::InsforgeCodec::new(*self))
    }

    fn encode(&self, event: &Event, form: &Form) -> Option<Body> {
        encode::event(event, form, self.channel_prefix())
    }

    fn presence(&self, change: &PresenceChange) -> Option<String> {
        codec::presence(change)
    }

    fn member(&self, member: &Member) -> Option<String> {
        Some(codec::member_text(member))
    }

    fn counts_subscribers(&self) -> bool {
        true
    }

    fn address(&self, address: &Address) -> Box<str> {
        let mut channel = String::new();
        push_text(&mut channel, &address.channel);
        // The opening quote stands in the body, where a prefix may follow it.
        channel[1..].into()
    }
}
