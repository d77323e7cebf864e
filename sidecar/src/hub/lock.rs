//! The locks and atomics of what many threads share: the usual ones, or with the feature `shuttle` those of that
//! library, which runs a model test's threads in every order that it can think of.

#[cfg(not(feature = "shuttle"))]
mod usual {
    pub(crate) use std::sync::atomic;

    pub(crate) use parking_lot::{Mutex, RwLock};
}

#[cfg(feature = "shuttle")]
mod modelled {
    use std::sync::PoisonError;

    pub(crate) use shuttle::sync::atomic;
    use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    /// As that of `parking_lot`: a panic while it is held ends the model anyway.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// As that of `parking_lot`.
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(feature = "shuttle")]
pub(crate) use modelled::{Mutex, RwLock, atomic};
#[cfg(not(feature = "shuttle"))]
pub(crate) use usual::{Mutex, RwLock, atomic};
