//! Files on their way between processes (SCM_RIGHTS).
//!
//! Owns how many there are of each user, which of them are sockets of this family, and the collector of those that can never be
//! received: a socket that is only in its own queue, say. A socket is garbage when all references to it are on their way, and all
//! of those in the queues of garbage.
//!
//! Invariants: files get on their way, leave it and are copied from it (MSG_PEEK) only under [`Flight`]'s lock, so that the collector sees
//! no reference come from nowhere; files are dropped without any lock, and one after the other, however deep they are nested.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
};

use bulkhead_ipc::Errno;

use super::{names::World, socket::UnixSocket};
use crate::{
    fs::OpenFile,
    socket::SocketFile,
    task::{Thread, capability},
};

/// Files on their way in all, whoever sends them.
const MOST_IN_ALL: usize = 1 << 20;

/// What is on its way.
#[derive(Default)]
pub(super) struct Flight {
    /// Files by the user who sent them.
    users: HashMap<u32, usize>,
    total: usize,
    /// Sockets of this family, by the number of their open file.
    sockets: HashMap<u64, Flying>,
    /// How often there was reason to collect since that was done last.
    reasons: usize,
}

struct Flying {
    file: Weak<OpenFile>,
    /// How often it is on its way.
    count: usize,
}

/// The socket of this family behind a file.
fn socket_of(file: &OpenFile) -> Option<&UnixSocket> {
    file.downcast::<SocketFile>()?.socket.as_any().downcast_ref()
}

impl Flight {
    fn enter(&mut self, uid: u32, files: &[Arc<OpenFile>]) {
        *self.users.entry(uid).or_default() += files.len();
        self.total += files.len();
        for file in files.iter().filter(|file| socket_of(file).is_some()) {
            let flying = self.sockets.entry(file.id).or_insert_with(|| Flying { file: Arc::downgrade(file), count: 0 });
            flying.count += 1;
        }
    }

    fn leave(&mut self, uid: u32, files: &[Arc<OpenFile>]) {
        if let Some(count) = self.users.get_mut(&uid) {
            *count = count.saturating_sub(files.len());
            if *count == 0 {
                self.users.remove(&uid);
            }
        }
        self.total = self.total.saturating_sub(files.len());
        for file in files {
            if let Some(flying) = self.sockets.get_mut(&file.id) {
                flying.count -= 1;
                if flying.count == 0 {
                    self.sockets.remove(&file.id);
                }
            }
        }
    }

    /// The sockets that nobody can get hold of any more.
    fn garbage(&self) -> Vec<Arc<OpenFile>> {
        // Those that only what is on its way refers to, and what of that is not in the queue of another such.
        let mut candidates: HashMap<u64, (Arc<OpenFile>, usize)> = HashMap::new();
        for (&id, flying) in &self.sockets {
            // Ours is one reference too.
            if let Some(file) = flying.file.upgrade().filter(|file| Arc::strong_count(file) == flying.count + 1) {
                candidates.insert(id, (file, flying.count));
            }
        }
        let children: HashMap<u64, Vec<u64>> =
            candidates.iter().map(|(&id, (file, _))| (id, socket_of(file).map(contents).unwrap_or_default())).collect();
        for child in children.values().flatten() {
            if let Some((_, outside)) = candidates.get_mut(child) {
                *outside = outside.saturating_sub(1);
            }
        }
        let mut reachable: HashSet<u64> = candidates.iter().filter(|(_, (_, outside))| *outside > 0).map(|(&id, _)| id).collect();
        let mut next: Vec<u64> = reachable.iter().copied().collect();
        while let Some(id) = next.pop() {
            for child in children.get(&id).into_iter().flatten() {
                if candidates.contains_key(child) && reachable.insert(*child) {
                    next.push(*child);
                }
            }
        }
        candidates.into_iter().filter(|(id, _)| !reachable.contains(id)).map(|(_, (file, _))| file).collect()
    }
}

/// The numbers of the sockets in a socket's queue, and in those of the connections that wait in it.
fn contents(socket: &UnixSocket) -> Vec<u64> {
    let (mut found, waiting) = {
        let inbox = socket.inbox.lock();
        let found: Vec<u64> = inbox.rights().flat_map(Rights::sockets).collect();
        let waiting = inbox.backlog.as_ref().map(|backlog| backlog.waiting.iter().cloned().collect::<Vec<_>>());
        (found, waiting.unwrap_or_default())
    };
    for embryo in waiting {
        found.extend(embryo.inbox.lock().rights().flat_map(Rights::sockets));
    }
    found
}

/// Files on their way with one message.
pub(super) struct Rights {
    files: Vec<Arc<OpenFile>>,
    uid: u32,
    world: Arc<World>,
    /// A copy that MSG_PEEK made: not counted.
    copy: bool,
}

impl Rights {
    /// Sends files on their way. ETOOMANYREFS when the user has more of them there than RLIMIT_NOFILE allows.
    pub(super) fn new(world: &Arc<World>, thread: &Thread, files: Vec<Arc<OpenFile>>) -> Result<Rights, Errno> {
        let credentials = thread.credentials();
        let free = credentials.has(capability::SYS_RESOURCE) || credentials.has(capability::SYS_ADMIN);
        let limit = if free { u64::MAX } else { thread.limit(libc::RLIMIT_NOFILE).0 };
        let try_enter = || {
            let mut flight = world.flight.lock();
            let full = flight.users.get(&credentials.uid).is_some_and(|&count| count as u64 > limit);
            let fits = !full && flight.total + files.len() <= MOST_IN_ALL;
            if fits {
                flight.enter(credentials.uid, &files);
            }
            fits
        };
        if !try_enter() {
            collect(world);
            if !try_enter() {
                return Err(Errno::ETOOMANYREFS);
            }
        }
        Ok(Rights { files, uid: credentials.uid, world: world.clone(), copy: false })
    }

    /// They have arrived.
    pub(super) fn into_files(mut self) -> Vec<Arc<OpenFile>> {
        self.land()
    }

    /// A copy for who only looks. The caller has [`Flight`] locked.
    pub(super) fn duplicate(&self) -> Rights {
        Rights { files: self.files.clone(), uid: self.uid, world: self.world.clone(), copy: true }
    }

    fn sockets(&self) -> impl Iterator<Item = u64> {
        self.files.iter().filter(|file| socket_of(file).is_some()).map(|file| file.id)
    }

    fn land(&mut self) -> Vec<Arc<OpenFile>> {
        if !self.copy {
            self.world.flight.lock().leave(self.uid, &self.files);
        }
        std::mem::take(&mut self.files)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        drop_files(self.land());
    }
}

thread_local! {
    /// Files that are to be dropped when those before are, while this thread drops any.
    static DROPPING: RefCell<Option<Vec<Arc<OpenFile>>>> = const { RefCell::new(None) };
}

/// Drops files. Dropping a socket drops what is in its queue, and so on: that is done here, not on the stack.
fn drop_files(files: Vec<Arc<OpenFile>>) {
    if files.is_empty() {
        return;
    }
    let first = DROPPING.with_borrow_mut(|dropping| match dropping {
        Some(later) => {
            later.extend(files);
            false
        }
        None => {
            *dropping = Some(files);
            true
        }
    });
    if !first {
        return;
    }
    while let Some(file) = DROPPING.with_borrow_mut(|dropping| dropping.as_mut().and_then(Vec::pop)) {
        drop(file);
    }
    DROPPING.set(None);
}

/// How many sockets are looked at for each reason to collect, so that many of them do not make every close(2) slow.
const SHARE: usize = 16;

/// Drops what nobody can receive any more, if there may be something: with many sockets on their way, not every time.
pub(super) fn collect(world: &World) {
    let dropped: Vec<Rights> = {
        let mut flight = world.flight.lock();
        flight.reasons += 1;
        if flight.sockets.is_empty() || flight.sockets.len() / SHARE > flight.reasons {
            return;
        }
        flight.reasons = 0;
        let garbage = flight.garbage();
        let mut dropped = Vec::new();
        for socket in garbage.iter().filter_map(|file| socket_of(file)) {
            let waiting = {
                let mut inbox = socket.inbox.lock();
                dropped.append(&mut inbox.take_rights());
                inbox.backlog.as_ref().map(|backlog| backlog.waiting.iter().cloned().collect::<Vec<_>>())
            };
            for embryo in waiting.into_iter().flatten() {
                dropped.append(&mut embryo.inbox.lock().take_rights());
            }
        }
        drop(flight);
        // The last references are in `dropped`, which is dropped with nothing locked.
        drop_files(garbage);
        dropped
    };
    drop(dropped);
}
