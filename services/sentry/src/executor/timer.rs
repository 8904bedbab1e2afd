//! Timers: each worker has a sorted list of deadlines and sleeps no longer than to the first.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, Waker},
};

use parking_lot::{Mutex, MutexGuard};

use super::{now, worker};

/// What is due at a deadline.
enum Due {
    Wake(Waker),
    Fire(Arc<Callback>),
}

/// A deadline's place in a worker's list. The number tells those of one nanosecond apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    deadline: u64,
    number: u64,
}

/// One worker's deadlines.
pub(super) struct Deadlines {
    list: Mutex<List>,
    /// The first of them, for a look without the lock; `u64::MAX` when there is none.
    first: AtomicU64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines { list: Mutex::default(), first: AtomicU64::new(u64::MAX) }
    }
}

#[derive(Default)]
struct List {
    next: u64,
    due: BTreeMap<Key, Due>,
}

impl Deadlines {
    /// Inserts; the second value says that it is the first deadline now.
    fn insert(&self, deadline: u64, due: Due) -> (Key, bool) {
        let mut list = self.list.lock();
        let key = Key { deadline, number: list.next };
        list.next += 1;
        list.due.insert(key, due);
        self.note(&list);
        (key, list.due.first_key_value().is_some_and(|(first, _)| *first == key))
    }

    fn remove(&self, key: Key) {
        let mut list = self.list.lock();
        let due = list.due.remove(&key);
        self.note(&list);
        drop(list);
        drop(due);
    }

    fn note(&self, list: &MutexGuard<'_, List>) {
        let first = list.due.first_key_value().map_or(u64::MAX, |(key, _)| key.deadline);
        self.first.store(first, Relaxed);
    }

    /// The next deadline.
    pub(super) fn first(&self) -> Option<u64> {
        self.list.lock().due.first_key_value().map(|(key, _)| key.deadline)
    }

    /// Whether there is anything to do at `time`: a quick look, which may miss what another thread has just added.
    pub(super) fn due_at(&self, time: u64) -> bool {
        self.first.load(Relaxed) <= time
    }

    /// Does what is due; whether there was anything.
    pub(super) fn run(&self) -> bool {
        if self.first.load(Relaxed) == u64::MAX || self.first().is_none_or(|deadline| deadline > now()) {
            return false;
        }
        let late = Key { deadline: now().saturating_add(1), number: 0 };
        let due = {
            let mut list = self.list.lock();
            let later = list.due.split_off(&late);
            let due = std::mem::replace(&mut list.due, later);
            self.note(&list);
            due
        };
        for (key, due) in due {
            match due {
                Due::Wake(waker) => waker.wake(),
                Due::Fire(callback) => callback.run(key),
            }
        }
        true
    }
}

/// An inserted deadline: which worker has it.
#[derive(Clone, Copy)]
struct Armed {
    worker: usize,
    key: Key,
}

fn insert(deadline: u64, due: Due) -> Armed {
    let worker = worker::current().unwrap_or(0);
    let (key, first) = worker::deadlines(worker).insert(deadline, due);
    if first && worker::current() != Some(worker) {
        worker::wake(worker);
    }
    Armed { worker, key }
}

fn remove(armed: Armed) {
    worker::deadlines(armed.worker).remove(armed.key);
}

/// A place in a list that is given up when it goes out of scope.
#[derive(Default)]
struct Place(Option<(Armed, Waker)>);

impl Place {
    fn clear(&mut self) {
        if let Some((armed, _)) = self.0.take() {
            remove(armed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Completes when [`now`] has reached `deadline` (nanoseconds).
pub async fn sleep_until(deadline: u64) {
    let mut place = Place::default();
    poll_fn(move |cx| {
        if now() >= deadline {
            return Poll::Ready(());
        }
        if !place.0.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            place.clear();
            place.0 = Some((insert(deadline, Due::Wake(cx.waker().clone())), cx.waker().clone()));
        }
        Poll::Pending
    })
    .await;
}

struct Callback {
    fire: Box<dyn Fn() + Send + Sync>,
    armed: Mutex<Option<Armed>>,
}

impl Callback {
    fn run(&self, key: Key) {
        let mut armed = self.armed.lock();
        // Armed anew or disarmed since it was taken off the list: not this time.
        if armed.is_none_or(|armed| armed.key != key) {
            return;
        }
        *armed = None;
        drop(armed);
        (self.fire)();
    }
}

/// A timer that calls back on a worker. Re-armed at will; dropping it disarms.
pub struct Timer {
    callback: Arc<Callback>,
}

impl Timer {
    /// Disarmed. `fire` runs on a worker and must not block.
    pub fn new(fire: impl Fn() + Send + Sync + 'static) -> Timer {
        Timer { callback: Arc::new(Callback { fire: Box::new(fire), armed: Mutex::new(None) }) }
    }

    /// Fires once when [`now`] reaches `deadline`; replaces an earlier one.
    pub fn arm(&self, deadline: u64) {
        let mut armed = self.callback.armed.lock();
        if let Some(old) = armed.take() {
            remove(old);
        }
        *armed = Some(insert(deadline, Due::Fire(self.callback.clone())));
    }

    /// Disarms. A call-back that has begun goes on.
    pub fn disarm(&self) {
        if let Some(old) = self.callback.armed.lock().take() {
            remove(old);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::executor::{Executor, deadline_after};

    #[test]
    fn a_sleep_ends_when_its_time_has_come() {
        let start = Instant::now();
        Executor::block_on(sleep_until(deadline_after(Duration::from_millis(20))));
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_timer_fires_once_and_not_when_disarmed() {
        let (sender, receiver) = mpsc::channel();
        let timer = Timer::new(move || sender.send(()).unwrap_or(()));
        timer.arm(deadline_after(Duration::from_millis(5)));
        timer.arm(deadline_after(Duration::from_millis(10)));
        assert!(receiver.recv_timeout(Duration::from_secs(5)).is_ok());
        timer.arm(deadline_after(Duration::from_millis(20)));
        timer.disarm();
        assert!(receiver.recv_timeout(Duration::from_millis(60)).is_err());
    }
}
