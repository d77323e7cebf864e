//! Accepting connections, and the opening request of a WebSocket.

mod accept;
mod admission;
mod engine;
mod opening;
mod origin;
mod turn;
mod upgrade;

pub use accept::{Listener, ListenerLimits};
pub use admission::Admission;
pub use engine::engine_router;
pub use opening::{OpeningState, realtime_router};
pub(crate) use origin::is_allowed as is_allowed_origin;
