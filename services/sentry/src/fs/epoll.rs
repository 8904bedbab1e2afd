//! epoll(7): a set of files, and those of them that may be ready.
//!
//! Every file in the set has an [`Item`], which watches the file's queue and puts itself on the ready list when that is woken.
//! Whoever waits takes items off the list and asks each file anew: the list says "may be ready" only.
//!
//! Invariants:
//! - An item is on the ready list at most once (`listed`), and a wake-up after it was taken off puts it back.
//! - A set holds its files weakly: a file that was closed everywhere leaves it.
//! - The list's lock is a leaf: no file is asked, and nobody woken, under it.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;

use super::{FileOps, OpenFile, anonymous};
use crate::{
    executor::{Readiness, Registration, WaitQueue, Watcher},
    task::Thread,
};

bitflags::bitflags! {
    /// EPOLL*, as epoll_ctl(2) has them. The low bits are poll(2)'s.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct EpollEvents: u32 {
        /// EPOLLEXCLUSIVE.
        const EXCLUSIVE = 1 << 28;
        /// EPOLLWAKEUP.
        const WAKEUP = 1 << 29;
        /// EPOLLONESHOT.
        const ONE_SHOT = 1 << 30;
        /// EPOLLET.
        const EDGE = 1 << 31;
        /// What poll(2) knows.
        const _ = 0xffff;
    }
}

impl EpollEvents {
    /// What is looked for: what was asked, and errors always.
    fn interest(self) -> Readiness {
        Readiness::from_bits_truncate(self.bits()) | Readiness::ERR | Readiness::HUP
    }
}

/// How deep sets may be nested.
const DEEPEST: usize = 5;

/// A ready file, as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadyEvent {
    /// What it is ready for.
    pub events: u32,
    /// What epoll_ctl(2) gave to tell.
    pub data: u64,
}

/// A set.
pub struct Epoll {
    items: Mutex<Items>,
    ready: Arc<ReadyList>,
}

#[derive(Default)]
struct Items {
    /// By descriptor and number of the open file description.
    by_file: HashMap<(i32, u64), Arc<Item>>,
    /// How many there may be before closed files are looked for.
    sweep_at: usize,
}

struct ReadyList {
    list: Mutex<VecDeque<Arc<Item>>>,
    queue: Arc<WaitQueue>,
}

struct Item {
    file: Weak<OpenFile>,
    list: Weak<ReadyList>,
    setting: Mutex<Setting>,
    listed: AtomicBool,
    /// Taken out of the set.
    gone: AtomicBool,
    registration: Mutex<Option<Registration>>,
}

#[derive(Clone, Copy)]
struct Setting {
    events: EpollEvents,
    data: u64,
    /// A one-shot item that was told: silent until it is set anew.
    spent: bool,
}

/// An item that watches, as the file's queue holds it: weakly, because the set owns it.
struct ItemWatcher(Weak<Item>);

impl Watcher for ItemWatcher {
    fn notify(&self, _: Readiness) {
        if let Some(item) = self.0.upgrade() {
            item.list_and_wake();
        }
    }
}

impl Item {
    /// Puts it on the ready list, and wakes whoever waits.
    fn list_and_wake(self: &Arc<Self>) {
        let Some(ready) = self.list.upgrade() else { return };
        if !self.gone.load(SeqCst) && !self.setting.lock().spent && ready.push(self) {
            ready.queue.wake(Readiness::IN | Readiness::RDNORM);
        }
    }

    /// What it is ready for now; `None` when the file is gone or it is not to be told.
    fn check(&self) -> Option<(Readiness, Setting)> {
        let setting = *self.setting.lock();
        if self.gone.load(SeqCst) || setting.spent {
            return None;
        }
        let file = self.file.upgrade()?;
        let interest = setting.events.interest();
        let mut ready = file.ops.poll(&file) & interest;
        if ready.is_empty() {
            file.ops.prepare_wait(interest);
            // It may have become ready before a watch on the host was armed.
            ready = file.ops.poll(&file) & interest;
        }
        (!ready.is_empty()).then_some((ready, setting))
    }
}

impl ReadyList {
    /// Adds an item; false when it is on the list already.
    fn push(&self, item: &Arc<Item>) -> bool {
        let mut list = self.list.lock();
        if item.listed.swap(true, SeqCst) {
            return false;
        }
        list.push_back(item.clone());
        true
    }
    fn pop(&self) -> Option<Arc<Item>> {
        let mut list = self.list.lock();
        let item = list.pop_front()?;
        item.listed.store(false, SeqCst);
        Some(item)
    }
    fn length(&self) -> usize {
        self.list.lock().len()
    }
}

impl Default for Epoll {
    fn default() -> Self {
        Epoll {
            items: Mutex::default(),
            ready: Arc::new(ReadyList { list: Mutex::default(), queue: Arc::new(WaitQueue::new()) }),
        }
    }
}

impl Epoll {
    /// EPOLL_CTL_ADD.
    pub fn add(&self, fd: i32, file: &Arc<OpenFile>, events: EpollEvents, data: u64) -> Result<(), Errno> {
        let queue = file.ops.wait_queue().ok_or(Errno::EPERM)?.clone();
        if let Some(inner) = file.downcast::<Epoll>() {
            self.check_nesting(inner)?;
        }
        let item = Arc::new(Item {
            file: Arc::downgrade(file),
            list: Arc::downgrade(&self.ready),
            setting: Mutex::new(Setting { events, data, spent: false }),
            listed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            registration: Mutex::new(None),
        });
        {
            let mut items = self.items.lock();
            items.sweep();
            match items.by_file.entry((fd, file.id)) {
                std::collections::hash_map::Entry::Occupied(_) => return Err(Errno::EEXIST),
                std::collections::hash_map::Entry::Vacant(slot) => slot.insert(item.clone()),
            };
        }
        *item.registration.lock() = Some(queue.watch(events.interest(), Arc::new(ItemWatcher(Arc::downgrade(&item)))));
        self.look(&item);
        Ok(())
    }

    /// EPOLL_CTL_MOD.
    pub fn modify(&self, fd: i32, file: &Arc<OpenFile>, events: EpollEvents, data: u64) -> Result<(), Errno> {
        let item = self.items.lock().by_file.get(&(fd, file.id)).cloned().ok_or(Errno::ENOENT)?;
        {
            let mut setting = item.setting.lock();
            if setting.events.contains(EpollEvents::EXCLUSIVE) {
                return Err(Errno::EINVAL);
            }
            *setting = Setting { events, data, spent: false };
        }
        if let Some(queue) = file.ops.wait_queue() {
            let watch = queue.watch(events.interest(), Arc::new(ItemWatcher(Arc::downgrade(&item))));
            let old = item.registration.lock().replace(watch);
            drop(old);
        }
        self.look(&item);
        Ok(())
    }

    /// EPOLL_CTL_DEL.
    pub fn remove(&self, fd: i32, file: &Arc<OpenFile>) -> Result<(), Errno> {
        let item = self.items.lock().by_file.remove(&(fd, file.id)).ok_or(Errno::ENOENT)?;
        item.gone.store(true, SeqCst);
        let registration = item.registration.lock().take();
        drop(registration);
        Ok(())
    }

    /// Lists an item that is ready already.
    fn look(&self, item: &Arc<Item>) {
        if item.check().is_some() {
            item.list_and_wake();
        }
    }

    /// ELOOP when `inner` cannot be put into this set: a set must not contain itself, nor be nested too deeply.
    fn check_nesting(&self, inner: &Epoll) -> Result<(), Errno> {
        if std::ptr::eq(self, inner) {
            return Err(Errno::EINVAL);
        }
        // A set whose descendants cannot be followed in time has too many of them.
        if inner.contains(self, DEEPEST - 1)? { Err(Errno::ELOOP) } else { Ok(()) }
    }

    fn contains(&self, wanted: &Epoll, deeper: usize) -> Result<bool, Errno> {
        let files: Vec<_> = self.items.lock().by_file.values().filter_map(|item| item.file.upgrade()).collect();
        for file in files {
            if let Some(inner) = file.downcast::<Epoll>() {
                if std::ptr::eq(inner, wanted) {
                    return Ok(true);
                }
                if deeper == 0 {
                    return Err(Errno::ELOOP);
                }
                if inner.contains(wanted, deeper - 1)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Takes up to `most` events; those of level-triggered items stay on the list.
    pub fn take(&self, most: usize) -> Vec<ReadyEvent> {
        let mut events = Vec::new();
        let mut again = Vec::new();
        // Each once: a file that becomes ready meanwhile is for the next call.
        for _ in 0..self.ready.length() {
            if events.len() == most {
                break;
            }
            let Some(item) = self.ready.pop() else { break };
            let Some((ready, setting)) = item.check() else { continue };
            events.push(ReadyEvent { events: ready.bits(), data: setting.data });
            if setting.events.contains(EpollEvents::ONE_SHOT) {
                item.setting.lock().spent = true;
            } else if setting.events.contains(EpollEvents::EDGE) {
                if let Some(file) = item.file.upgrade() {
                    file.ops.prepare_wait(setting.events.interest());
                }
            } else {
                again.push(item);
            }
        }
        for item in again {
            self.ready.push(&item);
        }
        events
    }

    /// Whether any file is ready; takes those off the list that are not.
    fn any_ready(&self) -> bool {
        for _ in 0..self.ready.length() {
            let Some(item) = self.ready.pop() else { break };
            if item.check().is_some() {
                self.ready.push(&item);
                return true;
            }
        }
        false
    }

    /// Woken when a file may have become ready.
    pub fn queue(&self) -> &Arc<WaitQueue> {
        &self.ready.queue
    }
}

impl Items {
    /// Drops items of closed files, now and then.
    fn sweep(&mut self) {
        if self.by_file.len() >= self.sweep_at.max(64) {
            self.by_file.retain(|_, item| item.file.strong_count() > 0);
            self.sweep_at = self.by_file.len() * 2;
        }
    }
}

impl FileOps for Epoll {
    fn poll(&self, _: &OpenFile) -> Readiness {
        if self.any_ready() { Readiness::IN | Readiness::RDNORM } else { Readiness::empty() }
    }
    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.ready.queue)
    }
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(anonymous::attributes())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventpoll]".to_vec()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::eventfd::EventFd;

    const IN: EpollEvents = EpollEvents::from_bits_retain(1);

    fn file(ops: impl FileOps) -> Arc<OpenFile> {
        OpenFile::new(Arc::new(ops), libc::O_RDWR as u32, None)
    }
    fn told(epoll: &Epoll) -> Vec<u64> {
        epoll.take(10).iter().map(|event| event.data).collect()
    }

    #[test]
    fn level_is_told_again_and_edge_once_and_one_shot_until_it_is_set_anew() {
        let epoll = Epoll::default();
        let ready = file(EventFd::new(1, false));
        epoll.add(1, &ready, IN, 1).unwrap();
        epoll.add(2, &ready, IN | EpollEvents::EDGE, 2).unwrap();
        epoll.add(3, &ready, IN | EpollEvents::ONE_SHOT, 3).unwrap();
        assert_eq!(epoll.add(3, &ready, IN, 3), Err(Errno::EEXIST));
        assert_eq!(told(&epoll), [1, 2, 3]);
        assert_eq!(told(&epoll), [1]);
        epoll.modify(3, &ready, IN | EpollEvents::ONE_SHOT, 33).unwrap();
        assert_eq!(told(&epoll), [1, 33]);
        epoll.remove(1, &ready).unwrap();
        assert!(told(&epoll).is_empty());
        assert_eq!(epoll.remove(1, &ready), Err(Errno::ENOENT));
    }

    #[test]
    fn a_closed_file_leaves_the_set() {
        let epoll = Epoll::default();
        let ready = file(EventFd::new(1, false));
        epoll.add(1, &ready, IN, 1).unwrap();
        drop(ready);
        assert!(told(&epoll).is_empty());
    }

    #[test]
    fn sets_nest_but_not_in_a_circle() {
        let (outer, inner) = (file(Epoll::default()), file(Epoll::default()));
        let (outer_set, inner_set) = (outer.downcast::<Epoll>().unwrap(), inner.downcast::<Epoll>().unwrap());
        outer_set.add(1, &inner, IN, 1).unwrap();
        assert_eq!(inner_set.add(2, &outer, IN, 2), Err(Errno::ELOOP));
        assert_eq!(inner_set.add(2, &inner, IN, 2), Err(Errno::EINVAL));
        assert!(told(outer_set).is_empty());
        let ready = file(EventFd::new(1, false));
        inner_set.add(3, &ready, IN, 3).unwrap();
        assert_eq!(told(outer_set), [1]);
    }

    #[test]
    fn files_without_a_queue_cannot_be_watched() {
        let epoll = Epoll::default();
        struct Always;
        impl FileOps for Always {
            fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
                Ok(anonymous::attributes())
            }
            fn describe(&self) -> Vec<u8> {
                Vec::new()
            }
            fn as_any(&self) -> &dyn Any {
                self
            }
        }
        assert_eq!(epoll.add(1, &file(Always), IN, 1), Err(Errno::EPERM));
    }
}
