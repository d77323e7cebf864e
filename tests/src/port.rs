//! Free ports on the loopback address.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports of private Postgres servers, and below those that Linux takes for outgoing connections: a port stays
/// free while its owner restarts.
const RANGE: Range<u16> = 10_000..20_000;

/// An address that nobody listens on.
///
/// # Panics
///
/// When there is none.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = RANGE.end - RANGE.start;
    // Processes that run at the same time begin at different places.
    let start = u16::try_from(std::process::id() * 53 % u32::from(count)).unwrap();
    (0..count)
        .map(|_| RANGE.start + (start + NEXT.fetch_add(1, Ordering::Relaxed) % count) % count)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("some port is free")
}
