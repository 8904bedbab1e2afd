//! How a worker goes to sleep, and how others wake it. Whoever gives it something to do does so first and looks second whether it sleeps;
//! the worker says first that it sleeps and looks second whether there is something to do: one of the two sees the other.
//!
//! It says so twice: in `asleep` for those inside the sentry, and in `word`, the futex, for guest threads, which can write it (what
//! they do is in the stub's code). The model checker's tests run these functions on its own atomics.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, Ordering::SeqCst, fence};

/// An atomic.
pub(super) trait Atomic<T> {
    /// Reads it.
    fn load(&self, order: Ordering) -> T;
    /// Writes it.
    fn store(&self, value: T, order: Ordering);
    /// Writes it and gives what it was.
    fn swap(&self, value: T, order: Ordering) -> T;
    /// A fence between accesses of this and others of its kind.
    fn fence();
}

macro_rules! atomic {
    ($atomic:ty, $value:ty, $fence:path) => {
        impl Atomic<$value> for $atomic {
            fn load(&self, order: Ordering) -> $value {
                <$atomic>::load(self, order)
            }
            fn store(&self, value: $value, order: Ordering) {
                <$atomic>::store(self, value, order);
            }
            fn swap(&self, value: $value, order: Ordering) -> $value {
                <$atomic>::swap(self, value, order)
            }
            fn fence() {
                $fence(SeqCst);
            }
        }
    };
}

atomic!(AtomicBool, bool, fence);
atomic!(AtomicU32, u32, fence);

/// Says that the worker sleeps and, if `idle` says then that there is nothing to do, sleeps: `wait` sleeps on the word while it is 1.
pub(super) fn sleep<W: Atomic<u32>>(asleep: &impl Atomic<bool>, word: &W, idle: impl FnOnce() -> bool, wait: impl FnOnce()) {
    asleep.store(true, SeqCst);
    word.store(1, SeqCst);
    W::fence();
    if idle() {
        wait();
    }
    asleep.store(false, SeqCst);
    word.store(0, SeqCst);
}

/// Wakes the worker if it sleeps, after it was given something to do: `wake` wakes who sleeps on the word.
pub(super) fn wake<W: Atomic<u32>>(asleep: &impl Atomic<bool>, word: &W, wake: impl FnOnce()) {
    W::fence();
    if asleep.load(Ordering::Relaxed) && asleep.swap(false, SeqCst) {
        word.store(0, SeqCst);
        wake();
    }
}

#[cfg(test)]
mod model;
