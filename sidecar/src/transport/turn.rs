//! A connection's place among those whose requests are being read or answered, which a request that waits long gives back.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// One connection's place. Clones are the same place.
#[derive(Clone)]
pub(super) struct Turn {
    room: Arc<Semaphore>,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    leaving: CancellationToken,
}

impl Turn {
    /// A place that is taken.
    pub(super) fn new(room: &Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Self {
        let permit = Arc::new(Mutex::new(Some(permit)));
        Self { room: Arc::clone(room), permit, leaving: CancellationToken::new() }
    }

    /// Gives the place back: the request that waits is counted by its session.
    pub(super) fn pause(&self) {
        self.permit.lock().take();
    }

    /// Takes a place again; `false` when there is none, and the connection should not go on with requests.
    pub(super) fn resume(&self) -> bool {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok();
        let resumed = permit.is_some();
        *self.permit.lock() = permit;
        resumed
    }

    /// Fires when the connection may not grow older: what waits should be answered.
    pub(super) fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_and_taken_again_only_when_there_is_one() {
        let room = Arc::new(Semaphore::new(1));
        let turn = Turn::new(&room, Arc::clone(&room).try_acquire_owned().expect("there is one"));
        assert_eq!(room.available_permits(), 0);
        turn.pause();
        let other = Arc::clone(&room).try_acquire_owned().expect("it was given back");
        assert!(!turn.resume());
        drop(other);
        assert!(turn.clone().resume());
        assert_eq!(room.available_permits(), 0);
        drop(turn);
        assert_eq!(room.available_permits(), 1);
    }
}
