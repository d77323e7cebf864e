//! Waiting for a condition, bounded, never for a time.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must happen. Long: it is only ever used up by a failure, and machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
///
/// # Panics
///
/// When there is nothing within [`PATIENCE`]; `what` says what was waited for.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", PATIENCE.as_secs());
        sleep(LOOK_AGAIN).await;
    }
}

/// Waits for something that must end by itself.
///
/// # Panics
///
/// When it does not within `limit`; `what` says what was waited for.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    match timeout(limit, work).await {
        Ok(output) => output,
        Err(_) => panic!("waited {} ms in vain: {what}", limit.as_millis()),
    }
}
