//! fork(2): a copy of an address space that shares its pages until they are written.

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::Errno;

use super::{
    AddressSpace,
    areas::{AreaFlags, Backing},
    pieces::Piece,
    space::{Changes, State},
};
use crate::{abi::page_down, platform::Protection};

impl AddressSpace {
    /// A copy (fork(2)): private pages are shared until written. Those around the addresses in `soon`, which both will write at
    /// once (their stacks), are copied now: a fault costs more than copying a few pages.
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
        let mut ours = Changes::default();
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
            let mut writable = false;
            let pieces: Vec<_> = state.pieces.within(start, area.end).collect();
            for (low, piece) in &pieces {
                self.memory.retain(piece.offset, piece.offset + (piece.end - low));
                let copy_on_write = !area.shared();
                writable |= copy_on_write && !piece.copy_on_write;
                child.pieces.insert(*low, Piece { copy_on_write, ..*piece });
            }
            if writable {
                state.pieces.set_copy_on_write(start, area.end, true);
                if area.protection.contains(Protection::WRITE) {
                    ours.protect(start, area.end, area.protection - Protection::WRITE);
                }
            }
        }
        if state.rewritten {
            self.drop_text(&mut child);
        }
        let child = AddressSpace::with(host, &self.memory, child);
        child.set_rewriting(self.rewriting.load(Ordering::Relaxed));
        child.set_stack_limit(self.stack_limit.load(Ordering::Relaxed));
        child.gather();
        for address in soon {
            self.part(state, &child, page_down(*address), &mut ours);
        }
        // Before the child can run: nobody may write to a page that it shares.
        self.commit(state, ours)?;
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

    /// Gives the child its own copy of the pages around `page`, which only it and its parent share, and the parent its own back.
    fn part(&self, state: &mut State, child: &AddressSpace, page: u64, ours: &mut Changes) {
        let mut theirs = child.state.lock();
        let Some((start, area)) = theirs.areas.at(page).map(|(start, area)| (start, area.clone())) else { return };
        let Some((low, piece)) = theirs.pieces.at(page) else { return };
        let shared_by_two = self.memory.run(piece.offset + (page - low)).is_some_and(|(_, _, references)| references == 2);
        if !piece.copy_on_write || !area.protection.contains(Protection::WRITE) || !shared_by_two {
            return;
        }
        if let Ok((low, high)) = child.own_around(&mut theirs, start, &area, page) {
            state.pieces.set_copy_on_write(low, high, false);
            ours.protect(low, high, area.protection);
        }
    }
}

/// A stand-in for the platform that keeps page tables of its own, and lets tests act as guest code does.
#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;
