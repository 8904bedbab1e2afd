//! Wait queues: who waits for a kernel object to change.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
};

use parking_lot::Mutex;

use super::Readiness;

/// Somebody who wants to be told of every wake-up of a queue (epoll).
pub trait Watcher: Send + Sync {
    /// The queue was woken with these events. Called without the queue's lock; must not block.
    fn notify(&self, events: Readiness);
}

#[derive(Clone)]
enum Waiter {
    Task(Waker),
    Watcher(Arc<dyn Watcher>),
}

struct Entry {
    interest: Readiness,
    waiter: Waiter,
}

#[derive(Default)]
struct Entries {
    next: u64,
    /// In the order of registration, which is the order of waking.
    waiting: BTreeMap<u64, Entry>,
}

/// Those who wait for something to change. Whoever changes it does so first and wakes then; whoever waits registers first and
/// looks then: the queue's lock between the two orders them, so no wake-up is lost.
#[derive(Default)]
pub struct WaitQueue {
    entries: Mutex<Entries>,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        WaitQueue { entries: Mutex::new(Entries { next: 0, waiting: BTreeMap::new() }) }
    }

    /// Wakes everybody who waits for any of these events (HUP and ERR wake all).
    pub fn wake(&self, events: Readiness) {
        let everybody = events.intersects(Readiness::HUP | Readiness::ERR);
        let woken: Vec<Waiter> = {
            let entries = self.entries.lock();
            if entries.waiting.is_empty() {
                return;
            }
            entries
                .waiting
                .values()
                .filter(|entry| everybody || entry.interest.intersects(events))
                .map(|entry| entry.waiter.clone())
                .collect()
        };
        for waiter in woken {
            match waiter {
                Waiter::Task(waker) => waker.wake(),
                Waiter::Watcher(watcher) => watcher.notify(events),
            }
        }
    }

    /// Registers a waker until the registration is dropped.
    pub fn register(self: &Arc<Self>, interest: Readiness, waker: &Waker) -> Registration {
        self.insert(interest, Waiter::Task(waker.clone()))
    }

    /// Registers a watcher until the registration is dropped.
    pub fn watch(self: &Arc<Self>, interest: Readiness, watcher: Arc<dyn Watcher>) -> Registration {
        self.insert(interest, Waiter::Watcher(watcher))
    }

    fn insert(self: &Arc<Self>, interest: Readiness, waiter: Waiter) -> Registration {
        let mut entries = self.entries.lock();
        let id = entries.next;
        entries.next += 1;
        entries.waiting.insert(id, Entry { interest, waiter });
        Registration { queue: self.clone(), id }
    }
}

/// Keeps a place in a [`WaitQueue`].
pub struct Registration {
    queue: Arc<WaitQueue>,
    id: u64,
}

impl Registration {
    /// The future moved to another task: wake this one from now on.
    fn replace_waker(&self, waker: &Waker) {
        let replaced = self.queue.entries.lock().waiting.get_mut(&self.id).and_then(|entry| match &entry.waiter {
            Waiter::Task(old) if old.will_wake(waker) => None,
            _ => Some(std::mem::replace(&mut entry.waiter, Waiter::Task(waker.clone()))),
        });
        drop(replaced);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Taken out under the lock, dropped after it: a waker's drop may run a task's destructor.
        let entry = self.queue.entries.lock().waiting.remove(&self.id);
        drop(entry);
    }
}

/// Waits until `check` gives a value; it is called first at once, and again after every wake-up of the queue with one of the
/// events of `interest`. No wake-up is lost.
pub async fn wait_for<T>(queue: &Arc<WaitQueue>, interest: Readiness, mut check: impl FnMut() -> Option<T>) -> T {
    let mut registration: Option<Registration> = None;
    poll_fn(|cx| {
        if let Some(value) = check() {
            return Poll::Ready(value);
        }
        match &registration {
            Some(registration) => registration.replace_waker(cx.waker()),
            None => registration = Some(queue.register(interest, cx.waker())),
        }
        // It may have changed before we were registered.
        check().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn ready_now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_the_queue() {
        let queue = Arc::new(WaitQueue::new());
        assert_eq!(ready_now(wait_for(&queue, Readiness::IN, || None::<()>)), None);
        assert!(queue.entries.lock().waiting.is_empty());
        assert_eq!(ready_now(wait_for(&queue, Readiness::IN, || Some(7))), Some(7));
    }

    #[test]
    fn only_those_interested_are_told_and_a_hang_up_tells_all() {
        struct Count(AtomicU32);
        impl Watcher for Count {
            fn notify(&self, _: Readiness) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let queue = Arc::new(WaitQueue::new());
        let count = Arc::new(Count(AtomicU32::new(0)));
        let registration = queue.watch(Readiness::IN, count.clone());
        queue.wake(Readiness::OUT);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        queue.wake(Readiness::IN);
        queue.wake(Readiness::HUP);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        drop(registration);
        queue.wake(Readiness::IN);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
