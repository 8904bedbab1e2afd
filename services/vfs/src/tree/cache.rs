//! What the tree remembers of the host is bounded: a clock goes round the dentries that can be found again.

use super::{DentryId, DentryState, FsKind, Tree};

/// Cached dentries at most.
const LIMIT: usize = 32768;

/// So many handles are given back when the gofer has no more.
const HANDLES: usize = 1024;

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
            let count = excess.min(256);
            self.evict(count, count * 4, |_| true);
        }
    }

    /// Forgets some of what keeps handles of the gofer's and fds of ours, of which there are no more; called between requests.
    /// Whether anything went.
    pub fn give_handles_back(&mut self) -> bool {
        // Twice around, if need be: the first time, what somebody came by lately is passed over.
        let looks = self.clock.len() * 2;
        self.evict(HANDLES, looks, |state| matches!(state, DentryState::Inode(_))) > 0
    }

    /// Looks at no more than so many dentries and forgets up to `count` that are of a kind, that the host knows everything about
    /// and that nobody came by since the last look. How many went.
    fn evict(&mut self, count: usize, looks: usize, is_wanted: impl Fn(DentryState) -> bool) -> usize {
        let mut gone = 0;
        for _ in 0..looks {
            let Some(id) = self.clock.pop_front() else { break };
            let Some(entry) = self.dentries.get(id) else { continue };
            if entry.deleted || !entry.cached {
                continue;
            }
            let busy = entry.holds > 0 || entry.touched.get() || !is_wanted(entry.state) || !self.is_clean(entry.state);
            if busy {
                self.dentries[id].touched.set(false);
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
            gone += 1;
            if gone == count {
                break;
            }
        }
        gone
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
