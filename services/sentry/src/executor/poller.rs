//! Watches host fds (container stdio, donated ones) with one thread in epoll_wait, which starts with the first fd.

use std::{
    collections::HashMap,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{Readiness, WaitQueue};

/// A queue, and what its waiters wait for.
type Waiting = (Readiness, Arc<WaitQueue>);

struct Poller {
    epoll: OwnedFd,
    waiting: Mutex<HashMap<RawFd, Vec<Waiting>>>,
}

static POLLER: OnceLock<Option<Poller>> = OnceLock::new();

/// Watches host fds (container stdio, donated ones) and wakes a queue when they become ready.
pub struct HostPoller {}

impl HostPoller {
    /// Wakes `queue` whenever `fd` may have become ready for `interest` (one shot: call again after each would-block).
    pub fn arm(fd: RawFd, interest: Readiness, queue: Arc<WaitQueue>) {
        let Some(poller) = POLLER.get_or_init(Poller::start) else {
            // Without a poller every wait becomes a retry: wasteful, but nothing hangs.
            queue.wake(interest);
            return;
        };
        let mut waiting = poller.waiting.lock();
        let entries = waiting.entry(fd).or_default();
        match entries.iter_mut().find(|(_, known)| Arc::ptr_eq(known, &queue)) {
            Some((known, _)) => *known |= interest,
            None => entries.push((interest, queue)),
        }
        let wanted = entries.iter().fold(Readiness::empty(), |sum, (interest, _)| sum | *interest);
        if !poller.watch(fd, wanted) {
            // A regular file, or closed meanwhile: always ready.
            let entries = waiting.remove(&fd).unwrap_or_default();
            drop(waiting);
            entries.iter().for_each(|(interest, queue)| queue.wake(*interest));
        }
    }
}

impl Poller {
    fn start() -> Option<Poller> {
        // SAFETY: plain system call; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return None;
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        std::thread::Builder::new().name("poller".into()).stack_size(128 * 1024).spawn(Poller::run).ok()?;
        Some(Poller { epoll, waiting: Mutex::default() })
    }

    fn watch(&self, fd: RawFd, interest: Readiness) -> bool {
        // poll(2)'s bits are epoll(7)'s.
        let mut event = libc::epoll_event { events: interest.bits() | libc::EPOLLONESHOT as u32, u64: fd as u64 };
        [libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD].into_iter().any(|operation| {
            // SAFETY: `event` is valid; a closed fd is an error that is checked.
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) == 0 }
        })
    }

    fn run() {
        super::worker::unpin_thread();
        let Some(poller) = POLLER.wait() else { return };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 32];
        loop {
            // SAFETY: the array is valid for its length.
            let count = unsafe { libc::epoll_wait(poller.epoll.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, -1) };
            for event in &events[..usize::try_from(count).unwrap_or(0)] {
                let (fd, ready) = (event.u64 as RawFd, Readiness::from_bits_truncate(event.events));
                let entries = poller.waiting.lock().remove(&fd).unwrap_or_default();
                for (_, queue) in &entries {
                    queue.wake(ready);
                }
                // One shot disarmed the fd: those who wait for something else need it armed again.
                for (interest, queue) in entries {
                    if !interest.intersects(ready) && !ready.intersects(Readiness::HUP | Readiness::ERR) {
                        HostPoller::arm(fd, interest, queue);
                    }
                }
            }
        }
    }
}
