//! What the tree remembers of the host is bounded: a clock goes round the dentries that can be found again.

use super::{DentryId, DentryState, FsKind, Tree};

/// Cached dentries at most.
const LIMIT: usize = 32768;

impl Tree {
    /// Enters a dentry that can be found again on the host.
    pub(super) fn remember(&mut self, id: DentryId) {
        self.dentries[id].cached = true;
        self.clock.push_back(id);
    }

    /// Cached dentries, roughly (some may be gone).
    pub fn cached(&self) -> usize {
        self.clock.len()
    }

    /// Keeps the cache within its bound; called between requests, when nobody works with what might go.
    pub fn trim(&mut self) {
        let excess = self.clock.len().saturating_sub(LIMIT);
        if excess > 0 {
            self.evict(excess.min(256), true);
        }
    }

    /// Looks at some dentries and forgets up to `count` that nobody came by lately. Without `age`, what was come by stays so: in
    /// the middle of a request, that is what the request works with.
    pub(super) fn evict(&mut self, count: usize, age: bool) {
        let mut left = count;
        for _ in 0..self.clock.len().min(count.saturating_mul(4)) {
            let Some(id) = self.clock.pop_front() else { return };
            let Some(entry) = self.dentries.get(id) else { continue };
            if entry.deleted || !entry.cached {
                continue;
            }
            let busy = entry.holds > 0 || entry.touched || !self.is_clean(entry.state);
            if busy {
                self.dentries[id].touched &= !age;
                self.clock.push_back(id);
                continue;
            }
            let parent = entry.parent;
            self.detach(id);
            if let Some(parent) = parent
                && self.kind(parent) == FsKind::Overlay
                && let Ok(directory) = self.directory_mut(parent)
            {
                directory.complete = false;
            }
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }

    /// Whether the host knows everything about it.
    fn is_clean(&self, state: DentryState) -> bool {
        match state {
            DentryState::Listed { .. } => true,
            DentryState::Absent { whiteout } => !whiteout,
            DentryState::Inode(inode) => {
                let inode = &self.inodes[inode];
                !inode.upper && inode.origin.is_some() && inode.locks.is_empty()
            }
        }
    }
}
