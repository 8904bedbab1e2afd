//! Nodes and fds of files that were opened lately. They are kept so that the next open of the same file needs no call; one that
//! lost its name is let go at once, because its memory should go with it.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::OwnedFd,
    sync::Arc,
};

use bulkhead_ipc::published::{Key, Reader, Removals};

use super::{super::vfs::NodeHandle, Spot};

/// Places that are kept at most.
const LIMIT: usize = 1024;

/// The fd of a regular file.
#[derive(Clone)]
pub(super) struct File {
    pub fd: Arc<OwnedFd>,
    /// A memory file of vfs.
    pub in_memory: bool,
}

/// What is kept of a place.
pub(super) struct Kept {
    mount: u32,
    handle: Arc<NodeHandle>,
    file: Option<File>,
    /// It was asked for since the clock came by.
    used: bool,
}

/// The places that are kept, by dentry; a clock goes round them when there are too many.
#[derive(Default)]
pub(super) struct Recent {
    places: HashMap<Key, Kept>,
    clock: VecDeque<Key>,
    removals: Removals,
}

impl Recent {
    /// Removals count from now on.
    pub fn begin(&mut self, reader: &Reader) {
        self.removals = reader.removals();
    }

    /// Keeps a place; what has to make room for it is returned, to be dropped without a lock.
    pub fn keep(&mut self, spot: Spot, handle: Arc<NodeHandle>, file: Option<File>) -> Vec<Kept> {
        let mut displaced = Vec::new();
        let kept = Kept { mount: spot.mount, handle, file, used: false };
        match self.places.insert(spot.dentry, kept) {
            Some(old) => displaced.push(old),
            None => self.clock.push_back(spot.dentry),
        }
        while self.places.len() > LIMIT {
            let Some(key) = self.clock.pop_front() else { break };
            match self.places.get_mut(&key).map(|kept| std::mem::take(&mut kept.used)) {
                Some(true) => self.clock.push_back(key),
                Some(false) => displaced.extend(self.places.remove(&key)),
                None => {}
            }
        }
        // Names that went left their keys in the clock.
        if self.clock.len() > 2 * LIMIT {
            self.clock.retain(|key| self.places.contains_key(key));
        }
        displaced
    }

    fn get(&mut self, spot: Spot) -> Option<&mut Kept> {
        let kept = self.places.get_mut(&spot.dentry).filter(|kept| kept.mount == spot.mount)?;
        kept.used = true;
        Some(kept)
    }

    pub fn node(&mut self, spot: Spot) -> Option<Arc<NodeHandle>> {
        self.get(spot).map(|kept| kept.handle.clone())
    }

    pub fn file(&mut self, spot: Spot) -> Option<(Arc<NodeHandle>, File)> {
        let kept = self.get(spot)?;
        Some((kept.handle.clone(), kept.file.clone()?))
    }

    /// The memory file of a place.
    pub fn memory_of(&mut self, spot: Spot) -> Option<Arc<OwnedFd>> {
        self.get(spot)?.file.as_ref().filter(|file| file.in_memory).map(|file| file.fd.clone())
    }

    /// Takes out what has lost its name.
    pub fn sweep(&mut self, reader: &Reader) -> Vec<Kept> {
        if !reader.has_removals(&self.removals) {
            return Vec::new();
        }
        match reader.removed(&mut self.removals) {
            Some(keys) => keys.into_iter().filter_map(|key| self.places.remove(&key)).collect(),
            None => self.purge(),
        }
    }

    /// Takes everything out.
    pub fn purge(&mut self) -> Vec<Kept> {
        self.clock.clear();
        self.places.drain().map(|(_, kept)| kept).collect()
    }
}
