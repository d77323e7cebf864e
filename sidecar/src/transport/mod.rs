//! Sockets: accepting, the opening request, frames.

mod socket;

pub use socket::{Incoming, Socket};
