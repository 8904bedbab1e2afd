//! madvise(2), mincore(2), msync(2) and mlock(2).

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use bulkhead_ipc::Errno;

use super::{
    AddressSpace,
    areas::{Area, AreaFlags, Backing},
    space::{Changes, State},
};
use crate::{abi::PAGE_SIZE, platform::Protection};

/// What madvise(2) asks for, as far as it is more than a hint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Advice {
    /// Nothing to do, but the range is checked.
    Hint,
    DontNeed,
    /// As `DontNeed`, even on locked memory.
    DontNeedLocked,
    Free,
    Remove,
    DontFork,
    DoFork,
    WipeOnFork,
    KeepOnFork,
    PopulateRead,
    PopulateWrite,
}

impl AddressSpace {
    /// madvise(2).
    pub fn advise(&self, address: u64, length: u64, advice: Advice) -> Result<(), Errno> {
        let (low, high) = self.range(address, length)?;
        if low == high {
            return Ok(());
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut at = low;
        let mut complete = true;
        for (start, area) in state.areas.within(low, high) {
            complete &= start == at;
            at = area.end;
            self.advise_area(state, start, &area, advice)?;
        }
        if complete && at == high { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    fn advise_area(&self, state: &mut State, start: u64, area: &Area, advice: Advice) -> Result<(), Errno> {
        let private_anonymous = matches!(area.backing, Backing::Anonymous) && !area.shared();
        let end = area.end;
        let mark = |state: &mut State, set: AreaFlags, clear: AreaFlags| {
            state.areas.change(start, end, |area| area.flags = (area.flags | set) - clear);
        };
        match advice {
            Advice::Hint => {}
            Advice::DontNeed if area.flags.contains(AreaFlags::LOCKED) => return Err(Errno::EINVAL),
            Advice::Free if !private_anonymous => return Err(Errno::EINVAL),
            Advice::DontNeed | Advice::DontNeedLocked | Advice::Free => self.drop_pages(state, start, area)?,
            Advice::Remove => return self.remove_pages(state, start, area),
            Advice::DontFork => mark(state, AreaFlags::DONT_FORK, AreaFlags::empty()),
            Advice::DoFork => mark(state, AreaFlags::empty(), AreaFlags::DONT_FORK),
            Advice::WipeOnFork if !private_anonymous => return Err(Errno::EINVAL),
            Advice::WipeOnFork => mark(state, AreaFlags::WIPE_ON_FORK, AreaFlags::empty()),
            Advice::KeepOnFork => mark(state, AreaFlags::empty(), AreaFlags::WIPE_ON_FORK),
            Advice::PopulateRead | Advice::PopulateWrite => self.populate(state, start, area, advice)?,
        }
        Ok(())
    }

    /// Private pages go back to what they were before the first write.
    fn drop_pages(&self, state: &mut State, start: u64, area: &Area) -> Result<(), Errno> {
        if area.shared() || area.special() {
            // The object keeps its contents; which pages are mapped is the host's business.
            return Ok(());
        }
        self.forget_text_now(state, start, area.end)?;
        let mut changes = Changes::default();
        let pieces: Vec<_> = state.pieces.within(start, area.end).collect();
        if matches!(area.backing, Backing::File(..)) {
            for (low, piece) in state.pieces.remove(start, area.end) {
                changes.release(low, &piece);
                changes.map_file(area, start, low, piece.end, false);
            }
            if pieces.is_empty() {
                return Ok(());
            }
            return self.commit(state, changes);
        }
        for (low, piece) in pieces {
            let mut at = low;
            while at < piece.end {
                let offset = piece.offset + (at - low);
                let Some((_, run_end, references)) = self.memory.run(offset) else { return Err(Errno::EFAULT) };
                let high = piece.end.min(at + (run_end - offset));
                // Nobody else's: the host takes the pages out of every mapping by itself.
                if references != 1 || !self.memory.punch(offset, offset + (high - at)) {
                    for (low, piece) in state.pieces.remove(at, high) {
                        changes.release(low, &piece);
                    }
                    self.materialise(state, area, at, high, false, &mut changes)?;
                }
                at = high;
            }
        }
        self.commit(state, changes)
    }

    /// MADV_REMOVE: takes the pages out of the shared object.
    fn remove_pages(&self, state: &mut State, start: u64, area: &Area) -> Result<(), Errno> {
        if area.flags.contains(AreaFlags::LOCKED) {
            return Err(Errno::EINVAL);
        }
        if !area.shared() || !area.protection.contains(Protection::WRITE) {
            return Err(Errno::EACCES);
        }
        if let Backing::File(object, offset) = &area.backing {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: plain call on an fd that the object keeps open.
            let result = unsafe { libc::fallocate(object.raw_fd(), mode, *offset as i64, (area.end - start) as i64) };
            return if result < 0 { Err(Errno::last()) } else { Ok(()) };
        }
        for (low, piece) in state.pieces.within(start, area.end) {
            self.memory.punch(piece.offset, piece.offset + (piece.end - low));
        }
        Ok(())
    }

    fn populate(&self, state: &mut State, start: u64, area: &Area, advice: Advice) -> Result<(), Errno> {
        let write = advice == Advice::PopulateWrite;
        let allowed = if write { area.protection.contains(Protection::WRITE) } else { !area.protection.is_empty() };
        if !allowed || area.special() {
            return Err(Errno::EINVAL);
        }
        let mut changes = Changes::default();
        if matches!(area.backing, Backing::Anonymous) && !area.shared() {
            self.materialise(state, area, start, area.end, false, &mut changes)?;
        }
        self.commit(state, changes)?;
        if write && !area.shared() {
            let mut page = start;
            while page < area.end {
                if state.pieces.at(page).is_none_or(|(_, piece)| piece.copy_on_write) {
                    let (area_start, whole) = state.areas.at(page).ok_or(Errno::EFAULT)?;
                    let whole = whole.clone();
                    self.own(state, area_start, &whole, page)?;
                }
                page += PAGE_SIZE;
            }
        }
        let mut changes = Changes::default();
        for (low, high) in state.pieces.gaps(start, area.end) {
            changes.map_file(area, start, low, high, true);
        }
        for (low, piece) in state.pieces.within(start, area.end) {
            changes.map_piece(&self.memory, area, low, &piece, true);
        }
        self.commit(state, changes)
    }

    /// mincore(2): for each page whether it is in memory; ENOMEM when part of the range is not mapped.
    pub fn resident_pages(&self, address: u64, length: u64) -> Result<Vec<bool>, Errno> {
        let (low, high) =
            self.range(address, length).map_err(|error| if address.is_multiple_of(PAGE_SIZE) { Errno::ENOMEM } else { error })?;
        let state = self.state.lock();
        if !state.areas.covers(low, high) {
            return Err(Errno::ENOMEM);
        }
        let mut pages = vec![false; ((high - low) / PAGE_SIZE) as usize];
        let mut mark = |from: u64, to: u64| {
            pages[((from - low) / PAGE_SIZE) as usize..((to - low) / PAGE_SIZE) as usize].fill(true);
        };
        for (start, area) in state.areas.within(low, high) {
            if !matches!(area.backing, Backing::Anonymous) {
                state.pieces.gaps(start, area.end).into_iter().for_each(|(from, to)| mark(from, to));
            }
            for (start, piece) in state.pieces.within(start, area.end) {
                let end = piece.offset + (piece.end - start);
                let mut at = piece.offset;
                loop {
                    let data = self.memory.next_data(at);
                    if data >= end {
                        break;
                    }
                    at = self.memory.next_hole(data).min(end);
                    mark(start + (data - piece.offset), start + (at - piece.offset));
                }
            }
        }
        Ok(pages)
    }

    /// msync(2): the files to write back. ENOMEM when part of the range is not mapped, EBUSY for MS_INVALIDATE on locked memory.
    pub fn files_to_sync(&self, address: u64, length: u64, invalidate: bool) -> Result<Vec<Arc<OwnedFd>>, Errno> {
        let (low, high) =
            self.range(address, length).map_err(|error| if address.is_multiple_of(PAGE_SIZE) { Errno::ENOMEM } else { error })?;
        let state = self.state.lock();
        if !state.areas.covers(low, high) {
            return Err(Errno::ENOMEM);
        }
        let areas = state.areas.within(low, high);
        if invalidate && areas.iter().any(|(_, area)| area.flags.contains(AreaFlags::LOCKED)) {
            return Err(Errno::EBUSY);
        }
        let mut files: Vec<Arc<OwnedFd>> = Vec::new();
        for (_, area) in &areas {
            if let Backing::File(object, _) = &area.backing
                && area.shared()
                && !files.iter().any(|file| file.as_raw_fd() == object.raw_fd())
            {
                files.push(object.file.fd.clone());
            }
        }
        Ok(files)
    }

    /// mlock(2) and munlock(2). Locked memory is accounted; the host may still swap it.
    pub fn lock(&self, address: u64, length: u64, lock: bool, limit: u64) -> Result<(), Errno> {
        let low = address & !(PAGE_SIZE - 1);
        let length = length.checked_add(address - low).ok_or(Errno::EINVAL)?;
        let (low, high) = self.range(low, length)?;
        let mut state = self.state.lock();
        if lock {
            let locked: u64 = state
                .areas
                .within(low, high)
                .iter()
                .filter(|(_, area)| area.flags.contains(AreaFlags::LOCKED))
                .map(|(start, area)| area.end - start)
                .sum();
            if super::map::over(state.areas.locked() - locked, high - low, limit) {
                return Err(Errno::ENOMEM);
            }
        }
        state.areas.change(low, high, |area| area.flags.set(AreaFlags::LOCKED, lock));
        if state.areas.covers(low, high) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// mlockall(2) and munlockall(2).
    pub fn lock_all(&self, current: Option<bool>, future: bool, limit: u64) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if current == Some(true) && state.areas.total() > limit {
            return Err(Errno::ENOMEM);
        }
        state.lock_future = future;
        if let Some(lock) = current {
            state.areas.change(0, u64::MAX, |area| area.flags.set(AreaFlags::LOCKED, lock));
        }
        Ok(())
    }
}
