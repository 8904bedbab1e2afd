//! mmap(2), munmap(2), mprotect(2) and brk(2).

use bulkhead_ipc::Errno;

use super::{
    AddressSpace, MIN_ADDRESS, MappableFile,
    areas::{Area, AreaFlags, Backing},
    object::FileObject,
    pieces::Piece,
    space::{Changes, EAGER, State, access},
};
use crate::{
    abi::{PAGE_SIZE, page_down, page_up},
    platform::Protection,
};

/// Writable private file mappings up to this size (a library's data) are copied when they are mapped: nearly every page of
/// them is written at once, and each would cost a fault.
const COPIED_AT_ONCE: u64 = 16 * PAGE_SIZE;

/// Where MAP_32BIT looks for room.
const LOW: (u64, u64) = (0x4000_0000, 0x8000_0000);

/// Soft resource limits, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// RLIMIT_AS.
    pub address_space: u64,
    /// RLIMIT_DATA.
    pub data: u64,
    /// RLIMIT_MEMLOCK; unlimited for who has CAP_IPC_LOCK.
    pub locked: u64,
}

impl Limits {
    /// None.
    pub const UNLIMITED: Limits = Limits { address_space: u64::MAX, data: u64::MAX, locked: u64::MAX };
}

/// Where a mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Anywhere, rather here if that is free (0: no wish).
    Hint(u64),
    /// MAP_32BIT, rather here if that is free.
    Low(u64),
    /// MAP_FIXED.
    Fixed(u64),
    /// MAP_FIXED_NOREPLACE.
    FixedNoReplace(u64),
}

/// What is mapped.
#[derive(Clone)]
pub enum Source {
    /// Zeros.
    Anonymous,
    /// A file from a page-aligned offset on.
    File(MappableFile, u64),
}

/// mmap(2)'s arguments, checked for form.
#[derive(Clone)]
pub struct MapRequest {
    /// Where.
    pub placement: Placement,
    /// Bytes; rounded up to pages.
    pub length: u64,
    /// Access.
    pub protection: Protection,
    /// SHARED, GROWS_DOWN, LOCKED, NO_RESERVE, STACK as asked.
    pub flags: AreaFlags,
    /// What.
    pub source: Source,
    /// MAP_POPULATE.
    pub populate: bool,
}

impl AddressSpace {
    /// mmap(2): the address.
    pub fn map(&self, request: &MapRequest, limits: &Limits) -> Result<u64, Errno> {
        let length = page_up(request.length).filter(|&length| length > 0).ok_or(Errno::ENOMEM)?;
        let backing = match &request.source {
            Source::Anonymous => Backing::Anonymous,
            Source::File(file, offset) => {
                offset.checked_add(length).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EOVERFLOW)?;
                Backing::File(FileObject::new(file.clone())?, *offset)
            }
        };
        let mut state = self.state.lock();
        let state = &mut *state;
        let start = self.place(state, request.placement, length)?;
        let end = start + length;
        let mut area = Area { end, protection: request.protection, flags: request.flags, backing };
        if state.lock_future {
            area.flags |= AreaFlags::LOCKED;
        }
        self.check_limits(state, start, &area, limits)?;

        let eager =
            matches!(area.backing, Backing::Anonymous) && (area.shared() || (!area.protection.is_empty() && length <= EAGER));
        let mut changes = Changes::default();
        self.discard(state, start, end, &mut changes, eager || matches!(area.backing, Backing::File(..)));
        state.areas.insert(start, area.clone());
        let result = match &area.backing {
            Backing::Anonymous if eager => self.materialise(state, &area, start, end, request.populate, &mut changes),
            Backing::File(object, offset) => {
                self.show_file(state, start, &area, object, *offset, request.populate, &mut changes);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = result.and_then(|()| self.commit(state, changes)) {
            let mut undo = Changes::default();
            self.discard(state, start, end, &mut undo, false);
            undo.unmap(start, end);
            // Best effort: the error to report is the first one.
            let _ = self.commit(state, undo);
            return Err(error);
        }
        state.peak_virtual = state.peak_virtual.max(state.areas.total());
        Ok(start)
    }

    /// Maps a file's part, small writable private ones as a copy.
    #[allow(clippy::too_many_arguments)]
    fn show_file(
        &self,
        state: &mut State,
        start: u64,
        area: &Area,
        object: &FileObject,
        offset: u64,
        populate: bool,
        changes: &mut Changes,
    ) {
        let copied = if area.protection.contains(Protection::WRITE) && !area.shared() && area.end - start <= COPIED_AT_ONCE {
            start + object.touchable().saturating_sub(offset).min(area.end - start)
        } else {
            start
        };
        if copied > start && self.copy_from_file(state, start, area, start, copied, changes).is_ok() {
            changes.map_file(area, start, copied, area.end, populate);
        } else {
            changes.map_file(area, start, start, area.end, populate);
        }
    }

    /// Copies `low..high`, which has no pieces, of a private file area into the memory file.
    pub(super) fn copy_from_file(
        &self,
        state: &mut State,
        start: u64,
        area: &Area,
        low: u64,
        high: u64,
        changes: &mut Changes,
    ) -> Result<(), Errno> {
        let (object, file_offset) = area.file_at(start, low).ok_or(Errno::EFAULT)?;
        let offset = self.memory.allocate(high - low, self.hint(state, low))?;
        // SAFETY: the range was just taken, so nobody else uses it.
        unsafe { object.read_raw(file_offset, self.memory.pointer(offset), (high - low) as usize) };
        let piece = Piece { end: high, offset, copy_on_write: false };
        state.pieces.insert(low, piece);
        changes.map_piece(&self.memory, area, low, &piece, false);
        Ok(())
    }

    /// Chooses an address.
    fn place(&self, state: &State, placement: Placement, length: u64) -> Result<u64, Errno> {
        let end = self.guest_end();
        match placement {
            Placement::Fixed(at) | Placement::FixedNoReplace(at) => {
                if at % PAGE_SIZE != 0 {
                    return Err(Errno::EINVAL);
                }
                if at.checked_add(length).is_none_or(|high| high > end) {
                    return Err(Errno::ENOMEM);
                }
                if at < MIN_ADDRESS {
                    return Err(Errno::EPERM);
                }
                if placement == Placement::FixedNoReplace(at) && !state.areas.is_empty(at, at + length) {
                    return Err(Errno::EEXIST);
                }
                if state.areas.holds_special(at, at + length) {
                    return Err(Errno::ENOMEM);
                }
                Ok(at)
            }
            Placement::Hint(wish) | Placement::Low(wish) => {
                let low = matches!(placement, Placement::Low(_));
                let end = if low { end.min(LOW.1) } else { end };
                let wish = page_down(wish);
                if wish >= MIN_ADDRESS && wish.checked_add(length).is_some_and(|high| high <= end && state.areas.fits(wish, high))
                {
                    return Ok(wish);
                }
                if low {
                    return state.areas.lowest_gap(length, LOW.0, end).ok_or(Errno::ENOMEM);
                }
                self.find_place(state, length)
            }
        }
    }

    /// A free range below the stack, or else anywhere.
    pub(super) fn find_place(&self, state: &State, length: u64) -> Result<u64, Errno> {
        state
            .areas
            .highest_gap(length, MIN_ADDRESS, state.mmap_top)
            .or_else(|| state.areas.highest_gap(length, MIN_ADDRESS, self.guest_end()))
            .ok_or(Errno::ENOMEM)
    }

    fn check_limits(&self, state: &State, start: u64, area: &Area, limits: &Limits) -> Result<(), Errno> {
        let length = area.end - start;
        let replaced = state.areas.within(start, area.end);
        let sum = |only: &dyn Fn(&Area) -> bool| -> u64 {
            replaced.iter().filter(|(_, old)| only(old)).map(|(low, old)| old.end - low).sum()
        };
        if over(state.areas.total() - sum(&|_| true), length, limits.address_space) {
            return Err(Errno::ENOMEM);
        }
        if area.is_data() && over(state.areas.data() - sum(&Area::is_data), length, limits.data) {
            return Err(Errno::ENOMEM);
        }
        let was_locked = sum(&|old| old.flags.contains(AreaFlags::LOCKED));
        if area.flags.contains(AreaFlags::LOCKED) && over(state.areas.locked() - was_locked, length, limits.locked) {
            return Err(Errno::EAGAIN);
        }
        // As the heuristic of vm.overcommit_memory = 0: what can never be there is refused.
        if area.is_data() && !area.flags.contains(AreaFlags::NO_RESERVE) && length > self.memory.limit() {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Forgets what `low..high` shows. `covered` says that what comes next maps over all of it.
    pub(super) fn discard(&self, state: &mut State, low: u64, high: u64, changes: &mut Changes, covered: bool) {
        self.forget_text(state, low, high, changes);
        for (start, area) in state.areas.remove(low, high) {
            let pieces = state.pieces.remove(start, area.end);
            let mapped = !pieces.is_empty() || matches!(area.backing, Backing::File(..));
            if mapped && !covered {
                changes.unmap(start, area.end);
            }
            pieces.iter().for_each(|(start, piece)| changes.release(*start, piece));
        }
    }

    /// munmap(2).
    pub fn unmap(&self, address: u64, length: u64) -> Result<(), Errno> {
        let (low, high) = self.range(address, length)?;
        if low == high {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        let mut changes = Changes::default();
        self.discard(&mut state, low, high, &mut changes, false);
        self.commit(&mut state, changes)
    }

    /// A page-aligned range of guest addresses; EINVAL if it is none.
    pub(super) fn range(&self, address: u64, length: u64) -> Result<(u64, u64), Errno> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let length = page_up(length).ok_or(Errno::EINVAL)?;
        let high = address.checked_add(length).filter(|&high| high <= self.guest_end()).ok_or(Errno::EINVAL)?;
        Ok((address, high))
    }

    /// mprotect(2). `grows_down` (PROT_GROWSDOWN) extends the range to the start of the stack that it lies in.
    pub fn protect(
        &self,
        address: u64,
        length: u64,
        protection: Protection,
        grows_down: bool,
        limits: &Limits,
    ) -> Result<(), Errno> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let length = page_up(length).ok_or(Errno::ENOMEM)?;
        if length == 0 {
            return Ok(());
        }
        let mut low = address;
        let high = address.checked_add(length).filter(|&high| high <= self.guest_end()).ok_or(Errno::ENOMEM)?;
        let mut state = self.state.lock();
        let state = &mut *state;
        if grows_down {
            match state.areas.at(low) {
                Some((start, area)) if area.flags.contains(AreaFlags::GROWS_DOWN) => low = start,
                _ => return Err(Errno::EINVAL),
            }
        }
        let mut changes = Changes::default();
        let mut at = low;
        let mut result = Ok(());
        for (start, mut area) in state.areas.within(low, high) {
            if start > at {
                break;
            }
            at = area.end;
            if area.special() || area.protection == protection {
                continue;
            }
            if let Err(error) = may_protect(state, start, &area, protection, limits) {
                result = Err(error);
                break;
            }
            self.forget_text(state, start, area.end, &mut changes);
            area.protection = protection;
            state.areas.change(start, area.end, |area| area.protection = protection);
            result = self.reprotect(state, start, &area, &mut changes);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() && at < high {
            result = Err(Errno::ENOMEM);
        }
        self.commit(state, changes).and(result)
    }

    /// Makes the stub's access follow an area's new protection.
    fn reprotect(&self, state: &mut State, start: u64, area: &Area, changes: &mut Changes) -> Result<(), Errno> {
        let mut at = start;
        let pieces: Vec<_> = state.pieces.within(start, area.end).collect();
        let has_file = matches!(area.backing, Backing::File(..));
        let private = !area.shared();
        for (piece_start, piece) in &pieces {
            if has_file && at < *piece_start {
                changes.protect(at, *piece_start, access(area, private));
            }
            changes.protect(*piece_start, piece.end, access(area, piece.copy_on_write));
            at = piece.end;
        }
        if has_file && at < area.end {
            changes.protect(at, area.end, access(area, private));
        }
        if !has_file && private && !area.protection.is_empty() {
            for (low, high) in state.pieces.gaps(start, area.end) {
                if high - low <= EAGER {
                    self.materialise(state, area, low, high, false, changes)?;
                }
            }
        }
        Ok(())
    }

    /// Where the heap starts and is empty (execve).
    pub fn set_heap(&self, start: u64) {
        self.state.lock().heap = (start, start);
    }

    /// Where top-down placement starts (execve).
    pub fn set_mmap_top(&self, top: u64) {
        self.state.lock().mmap_top = top;
    }

    /// brk(2): the heap's end, moved if that was possible.
    pub fn set_heap_end(&self, wish: u64, limits: &Limits) -> u64 {
        let mut state = self.state.lock();
        let state = &mut *state;
        let (start, old) = state.heap;
        if wish < start || wish > self.guest_end() || old == 0 {
            return old;
        }
        if wish - start > limits.data {
            return old;
        }
        let (Some(old_page), Some(new_page)) = (page_up(old), page_up(wish)) else { return old };
        let mut changes = Changes::default();
        if new_page < old_page {
            self.discard(state, new_page, old_page, &mut changes, false);
        } else if new_page > old_page {
            let mut area = Area {
                end: new_page,
                protection: Protection::READ | Protection::WRITE,
                flags: AreaFlags::HEAP,
                backing: Backing::Anonymous,
            };
            if state.lock_future {
                area.flags |= AreaFlags::LOCKED;
            }
            if new_page > self.guest_end()
                || !state.areas.fits(old_page, new_page + PAGE_SIZE)
                || self.check_limits(state, old_page, &area, limits).is_err()
            {
                return old;
            }
            if new_page - old_page <= EAGER && self.materialise(state, &area, old_page, new_page, false, &mut changes).is_err() {
                return old;
            }
            state.areas.insert(old_page, area);
        }
        if self.commit(state, changes).is_err() {
            let mut undo = Changes::default();
            self.discard(state, old_page, new_page.max(old_page), &mut undo, false);
            let _ = self.commit(state, undo);
            return old;
        }
        state.heap.1 = wish;
        state.peak_virtual = state.peak_virtual.max(state.areas.total());
        wish
    }
}

fn may_protect(state: &State, start: u64, area: &Area, protection: Protection, limits: &Limits) -> Result<(), Errno> {
    if !protection.contains(Protection::WRITE) {
        return Ok(());
    }
    if let Backing::File(object, _) = &area.backing
        && area.shared()
        && !object.file.writable
    {
        return Err(Errno::EACCES);
    }
    let becomes_data = !area.is_data() && !area.flags.intersects(AreaFlags::SHARED | AreaFlags::GROWS_DOWN);
    if becomes_data && over(state.areas.data(), area.end - start, limits.data) {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

/// Whether `more` on top of `have` is over `limit`.
pub(super) fn over(have: u64, more: u64, limit: u64) -> bool {
    have.saturating_add(more) > limit
}
