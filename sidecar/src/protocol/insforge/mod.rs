//! InsForge's protocol: Engine.IO packets, Socket.IO packets in them, and the events of the InsForge SDK.

pub mod engine;
