//! Free ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that Linux takes outgoing ports from: a client's socket never sits on a server's port, not even while
/// the server restarts.
pub(super) const RANGE: Range<u16> = 20_000..32_000;

/// A port that nobody listens on. Somebody may take it before the caller does: try again then.
pub(super) fn free() -> Option<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = RANGE.end - RANGE.start;
    // Processes that start at the same time begin at different places.
    let start = u16::try_from(std::process::id() * 37 % u32::from(count)).unwrap_or(0);
    (0..count)
        .map(|_| RANGE.start + (start + NEXT.fetch_add(1, Ordering::Relaxed) % count) % count)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}
