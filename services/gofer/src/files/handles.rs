//! The table of handles. Ids are handed out once and never again, so a stale one cannot name something else.

use std::{
    collections::HashMap,
    ffi::CString,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bulkhead_ipc::{Errno, gofer::Handle};
use parking_lot::RwLock;

/// What a handle stands for.
#[derive(Debug)]
pub struct Held {
    /// `O_PATH` fd.
    pub fd: OwnedFd,
    /// Index of the root it was reached from.
    pub root: u32,
    /// The name it was found by and the directory it was found in, for the calls that take no `O_PATH` fd; `None` for a root.
    pub place: Option<(Arc<Held>, CString)>,
}

impl Held {
    /// The names that led here from the root, as they were then.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some((directory, name)) = &at.place {
            names.push(name.as_bytes());
            at = directory;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// The table.
#[derive(Debug)]
pub struct Table {
    held: RwLock<HashMap<u64, Arc<Held>>>,
    next: AtomicU64,
    limit: usize,
}

/// Fds that are not handles: channels, logs, roots, what is open for a moment.
const SPARE: u64 = 512;

impl Table {
    /// With room for as many handles as `fd_limit` leaves.
    pub fn new(fd_limit: u64) -> Table {
        let limit = usize::try_from(fd_limit.saturating_sub(SPARE).max(64)).unwrap_or(usize::MAX);
        Table { held: RwLock::default(), next: AtomicU64::new(1), limit }
    }

    /// What the handle stands for; EBADF.
    pub fn get(&self, handle: Handle) -> Result<Arc<Held>, Errno> {
        self.held.read().get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    /// A new handle; ENFILE when there are too many.
    pub fn insert(&self, held: Held) -> Result<Handle, Errno> {
        let mut table = self.held.write();
        if table.len() >= self.limit {
            return Err(Errno::ENFILE);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        table.insert(id, Arc::new(held));
        Ok(Handle(id))
    }

    /// Closes handles; those that are not open are passed over.
    pub fn close(&self, handles: &[Handle]) {
        let closed: Vec<_> = {
            let mut table = self.held.write();
            handles.iter().filter_map(|handle| table.remove(&handle.0)).collect()
        };
        drop(closed);
    }

    /// The open handles, by number.
    pub fn list(&self) -> Vec<(u64, Arc<Held>)> {
        let mut list: Vec<_> = self.held.read().iter().map(|(id, held)| (*id, held.clone())).collect();
        list.sort_by_key(|(id, _)| *id);
        list
    }

    /// Handles at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Open handles.
    pub fn len(&self) -> usize {
        self.held.read().len()
    }
}
