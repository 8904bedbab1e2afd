//! fork(2): a copy of an address space that shares its pages until they are written.

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{
    AddressSpace,
    areas::{AreaFlags, Backing},
    pieces::Piece,
    space::{Changes, State},
};
use crate::{abi::page_down, platform::Protection};

/// So many places are remembered.
const HABITS: usize = 6;
/// A child teaches so many.
const LESSONS: u32 = 4;
/// After so many forks all is forgotten, and learnt anew: nobody says which copies were of no use.
const FORGETFUL: u32 = 16;

/// Where the children of an address space write first. A process that forks again and again makes children that do the same: what
/// the last ones copied one fault at a time (a signal and two hand-overs each), the next one gets with the fork.
#[derive(Default)]
pub(super) struct Habits(Mutex<Learnt>);

#[derive(Default)]
struct Learnt {
    pages: Vec<u64>,
    lessons: u32,
    forks: u32,
}

impl Habits {
    /// A child has copied what is around a page; whether that was its last lesson.
    pub fn learn(&self, page: u64) -> bool {
        let mut learnt = self.0.lock();
        learnt.lessons += 1;
        if learnt.pages.len() < HABITS && !learnt.pages.contains(&page) {
            learnt.pages.push(page);
        }
        learnt.lessons >= LESSONS
    }

    /// For a new child.
    fn recall(&self) -> Vec<u64> {
        let mut learnt = self.0.lock();
        learnt.lessons = 0;
        learnt.forks += 1;
        if learnt.forks.is_multiple_of(FORGETFUL) {
            learnt.pages.clear();
        }
        learnt.pages.clone()
    }
}

impl AddressSpace {
    /// A copy (fork(2)): private pages are shared until written. Those around the addresses in `soon`, which both will write at
    /// once (their stacks), are copied now: a fault costs more than copying a few pages. So are those that earlier children wrote to first,
    /// unless `soon` is empty: then others may write meanwhile.
    pub fn fork(&self, soon: &[u64]) -> Result<Arc<AddressSpace>, Errno> {
        let host = self.host.sibling()?;
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut child = State {
            heap: state.heap,
            mmap_top: state.mmap_top,
            layout: state.layout.clone(),
            peak_virtual: state.areas.total(),
            text_user: state.text_user,
            ..State::default()
        };
        // What could be written to so far.
        let mut writable = Vec::new();
        let areas: Vec<_> = state.areas.iter().map(|(start, area)| (start, area.clone())).collect();
        for (start, area) in &areas {
            let (start, mut inherited) = (*start, area.clone());
            if area.flags.contains(AreaFlags::DONT_FORK) {
                continue;
            }
            inherited.flags.remove(AreaFlags::LOCKED);
            child.areas.insert(start, inherited);
            if area.flags.contains(AreaFlags::WIPE_ON_FORK) {
                continue;
            }
            let mut changes = false;
            let pieces: Vec<_> = state.pieces.within(start, area.end).collect();
            for (low, piece) in &pieces {
                self.memory.retain(piece.offset, piece.offset + (piece.end - low));
                let copy_on_write = !area.shared();
                if copy_on_write && !piece.copy_on_write {
                    changes = true;
                    if area.protection.contains(Protection::WRITE) {
                        writable.push((*low, piece.end, area.protection));
                    }
                }
                child.pieces.insert(*low, Piece { copy_on_write, ..*piece });
            }
            if changes {
                state.pieces.set_copy_on_write(start, area.end, true);
            }
        }
        if state.rewritten {
            self.drop_text(&mut child);
        }
        let child = AddressSpace::with(host, &self.memory, child);
        child.set_rewriting(self.rewriting.load(Ordering::Relaxed));
        child.set_stack_limit(self.stack_limit.load(Ordering::Relaxed));
        child.gather();
        let mut parted = Vec::new();
        if !soon.is_empty() {
            for address in soon.iter().copied().chain(self.habits.recall()) {
                parted.extend(self.part(state, &child, page_down(address)));
            }
            child.state.lock().teaches = Some(self.habits.clone());
        }
        // Before the child can run: nobody may write to a page that it shares.
        self.commit(state, protections(state, &writable, &parted))?;
        let mut theirs = Changes::default();
        {
            let mut state = child.state.lock();
            if let Some(gathered) = &mut state.batch {
                gathered.show_nothing();
            }
            let areas: Vec<_> = state.areas.iter().map(|(start, area)| (start, area.clone())).collect();
            for (start, area) in areas {
                if !matches!(area.backing, Backing::Vvar | Backing::Vdso) {
                    child.show(&state, start, &area, start, area.end, &mut theirs);
                }
            }
            child.commit(&mut state, theirs)?;
        }
        child.finish()?;
        Ok(child)
    }

    /// Gives the child its own copy of the pages around `page`, which only it and its parent share, and the parent its own back: the range.
    fn part(&self, state: &mut State, child: &AddressSpace, page: u64) -> Option<Writable> {
        let mut theirs = child.state.lock();
        let (start, area) = theirs.areas.at(page).map(|(start, area)| (start, area.clone()))?;
        let (low, piece) = theirs.pieces.at(page)?;
        let shared_by_two = self.memory.run(piece.offset + (page - low)).is_some_and(|(_, _, references)| references == 2);
        if !piece.copy_on_write || !area.protection.contains(Protection::WRITE) || !shared_by_two {
            return None;
        }
        let (low, high) = child.own_around(&mut theirs, start, &area, page).ok()?;
        state.pieces.set_copy_on_write(low, high, false);
        Some((low, high, area.protection))
    }
}

/// A range, and the access that it has where it can be written to.
type Writable = (u64, u64, Protection);

/// What a fork changes for the parent's stub, of which `writable` could be written to before (ascending), and in which `parted` can be now.
/// Where that is the same, as it is when a process forks again and again, nothing.
fn protections(state: &State, writable: &[Writable], parted: &[Writable]) -> Changes {
    let mut changes = Changes::default();
    for &(low, high, protection) in writable {
        for (start, piece) in state.pieces.within(low, high).filter(|(_, piece)| piece.copy_on_write) {
            changes.protect(start, piece.end, protection - Protection::WRITE);
        }
    }
    for &(low, high, protection) in parted {
        let mut at = low;
        for &(start, end, _) in writable.iter().filter(|(start, end, _)| *start < high && *end > low) {
            if at < start {
                changes.protect(at, start, protection);
            }
            at = at.max(end);
        }
        if at < high {
            changes.protect(at, high, protection);
        }
    }
    changes
}

/// A stand-in for the platform that keeps page tables of its own, and lets tests act as guest code does.
#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;
