//! The frames of the Fluxbase seed, and no frame type that it does not know.

mod codec;
mod encode;
mod wire;

use super::{Address, Body, Codec, Dialect, Form, json::Members};
use crate::model::Event;

/// The frames of the Fluxbase seed.
pub(super) struct Seed;

impl Dialect for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn codec(&self) -> Box<dyn Codec> {
        Box::new(codec::SeedCodec)
    }

    fn encode(&self, event: &Event, form: &Form) -> Option<Body> {
        encode::event(event, form)
    }

    fn address(&self, address: &Address) -> Box<str> {
        let mut members = String::new();
        Members(&mut members).text("channel", &address.channel);
        // They follow the frame's type.
        [",", &members].concat().into_boxed_str()
    }
}
