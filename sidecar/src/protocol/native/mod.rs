//! The native protocol, version 1 (`docs/protocol.md`).

mod codec;
mod encode;
mod wire;

use super::{Address, Body, Codec, Dialect, Form};
use crate::{
    model::{Event, Member, PresenceChange},
    protocol::json::Members,
};

/// The native protocol, version 1.
pub(super) struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(codec::NativeCodec)
    }

    fn encode(&self, event: &Event, form: &Form) -> Option<Body> {
        encode::event(event, form)
    }

    fn presence(&self, change: &PresenceChange) -> Option<String> {
        Some(encode::presence_change(change))
    }

    fn member(&self, member: &Member) -> Option<String> {
        Some(encode::member(member))
    }

    fn address(&self, address: &Address) -> Box<str> {
        let mut members = String::new();
        Members(&mut members).text("id", &address.id).text("channel", &address.channel);
        // They follow the frame's type.
        [",", &members].concat().into_boxed_str()
    }
}
