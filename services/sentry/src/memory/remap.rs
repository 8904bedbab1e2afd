//! mremap(2).

use bulkhead_ipc::Errno;

use super::{
    AddressSpace, MIN_ADDRESS,
    areas::{Area, AreaFlags, Backing},
    map::{Limits, over},
    pieces::Piece,
    space::{Changes, EAGER, State},
};
use crate::abi::{PAGE_SIZE, page_up};

/// mremap(2)'s arguments; the flags as bools.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct RemapRequest {
    pub old: u64,
    pub old_length: u64,
    pub new_length: u64,
    pub may_move: bool,
    /// MREMAP_FIXED's address.
    pub fixed: Option<u64>,
    /// MREMAP_DONTUNMAP.
    pub keep: bool,
}

impl AddressSpace {
    /// mremap(2): the new address.
    pub fn remap(&self, request: &RemapRequest, limits: &Limits) -> Result<u64, Errno> {
        let RemapRequest { old, may_move, fixed, keep, .. } = *request;
        let old_length = page_up(request.old_length).ok_or(Errno::EINVAL)?;
        let new_length = page_up(request.new_length).ok_or(Errno::EINVAL)?;
        let end = self.guest_end();
        let misplaced = |start: u64, length: u64| start.checked_add(length).is_none_or(|high| high > end);
        if old % PAGE_SIZE != 0 || new_length == 0 || misplaced(old, old_length) {
            return Err(Errno::EINVAL);
        }
        if (fixed.is_some() || keep) && !may_move || keep && old_length != new_length {
            return Err(Errno::EINVAL);
        }
        if let Some(new) = fixed {
            let overlaps = new < old + old_length && old < new.saturating_add(new_length);
            if new % PAGE_SIZE != 0 || misplaced(new, new_length) || overlaps {
                return Err(Errno::EINVAL);
            }
            if new < MIN_ADDRESS {
                return Err(Errno::EPERM);
            }
        }

        let mut state = self.state.lock();
        let state = &mut *state;
        let (start, area) = state.areas.at(old).ok_or(Errno::EFAULT)?;
        let area = area.clone();
        if area.special() {
            return Err(Errno::EINVAL);
        }
        if old_length == 0 && !area.shared() {
            return Err(Errno::EINVAL);
        }
        self.forget_text_now(state, old, old + old_length)?;
        if fixed.is_none() && !keep && old_length >= new_length {
            // Shrinking in place; the range may span several areas.
            if old_length > new_length {
                let mut changes = Changes::default();
                self.discard(state, old + new_length, old + old_length, &mut changes, false);
                self.commit(state, changes)?;
            }
            return Ok(old);
        }
        if old_length > area.end - old {
            return Err(Errno::EFAULT);
        }
        if let Some((_, offset)) = area.file_at(start, old)
            && offset.checked_add(new_length).is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(Errno::EINVAL);
        }
        let growth = if keep { new_length } else { new_length.saturating_sub(old_length) };
        if over(state.areas.total(), growth, limits.address_space)
            || area.is_data() && over(state.areas.data(), growth, limits.data)
        {
            return Err(Errno::ENOMEM);
        }
        if area.flags.contains(AreaFlags::LOCKED) && over(state.areas.locked(), growth, limits.locked) {
            return Err(Errno::EAGAIN);
        }

        let new = match fixed {
            Some(new) => {
                if state.areas.holds_special(new, new + new_length) {
                    return Err(Errno::EINVAL);
                }
                let mut changes = Changes::default();
                self.discard(state, new, new + new_length, &mut changes, false);
                self.commit(state, changes)?;
                new
            }
            None => {
                let grown_end = old + new_length;
                if !keep
                    && old_length != 0
                    && old + old_length == area.end
                    && grown_end <= end
                    && state.areas.fits(area.end, grown_end)
                {
                    return self.grow(state, start, area, grown_end).map(|()| old);
                }
                if !may_move {
                    return Err(Errno::ENOMEM);
                }
                self.find_place(state, new_length)?
            }
        };
        if old_length == 0 {
            self.duplicate(state, old, new, new_length)
        } else {
            if old_length > new_length {
                let mut changes = Changes::default();
                self.discard(state, old + new_length, old + old_length, &mut changes, false);
                self.commit(state, changes)?;
            }
            self.relocate(state, old, old_length.min(new_length), new, new_length, keep)
        }
        .map(|()| new)
    }

    /// Makes an area longer where it is.
    fn grow(&self, state: &mut State, start: u64, area: Area, end: u64) -> Result<(), Errno> {
        let old_end = area.end;
        let mut changes = Changes::default();
        let mut tail = area.clone();
        if let Backing::File(_, offset) = &mut tail.backing {
            *offset += old_end - start;
        }
        tail.end = end;
        self.extend(state, &tail, old_end, end, &mut changes)?;
        if area.shared() {
            // Shared anonymous areas do not merge with neighbours, but this is the same one.
            state.areas.remove(start, old_end);
            state.areas.insert(start, Area { end, ..area });
        } else {
            state.areas.insert(old_end, tail.clone());
        }
        self.show(state, old_end, &tail, old_end, end, &mut changes);
        state.peak_virtual = state.peak_virtual.max(state.areas.total());
        self.commit(state, changes)
    }

    /// Gives new private anonymous memory its place.
    fn extend(&self, state: &mut State, area: &Area, low: u64, high: u64, changes: &mut Changes) -> Result<(), Errno> {
        let anonymous = matches!(area.backing, Backing::Anonymous) && !area.shared();
        if anonymous && !area.protection.is_empty() && high - low <= EAGER {
            self.materialise(state, area, low, high, false, changes)?;
        }
        Ok(())
    }

    /// Moves `length` bytes, which lie in one area, to a free place, and makes them `new_length` long.
    fn relocate(&self, state: &mut State, old: u64, length: u64, new: u64, new_length: u64, keep: bool) -> Result<(), Errno> {
        let mut taken = state.areas.remove(old, old + length);
        let Some((_, left)) = taken.pop() else { return Err(Errno::EFAULT) };
        let mut area = left.clone();
        area.end = new + new_length;
        for (start, piece) in state.pieces.remove(old, old + length) {
            let start = new + (start - old);
            let end = new + (piece.end - old);
            state.pieces.insert(start, Piece { end, ..piece });
        }
        state.areas.insert(new, area.clone());
        let mut changes = Changes::default();
        self.extend(state, &area, new + length, new + new_length, &mut Changes::default())?;
        self.show(state, new, &area, new, new + new_length, &mut changes);
        changes.unmap(old, old + length);
        if keep {
            state.areas.insert(old, left.clone());
            changes.map_file(&left, old, old, old + length, false);
        }
        state.peak_virtual = state.peak_virtual.max(state.areas.total());
        self.commit(state, changes)
    }

    /// Shows a shared area's part a second time (mremap(2) with an old size of zero).
    fn duplicate(&self, state: &mut State, old: u64, new: u64, new_length: u64) -> Result<(), Errno> {
        let Some((start, area)) = state.areas.at(old) else { return Err(Errno::EFAULT) };
        let mut area = area.clone();
        let visible = (area.end - old).min(new_length);
        if let Backing::File(_, offset) = &mut area.backing {
            *offset += old - start;
        }
        area.end = new + new_length;
        let pieces: Vec<_> = state.pieces.within(old, old + visible).collect();
        for (start, piece) in pieces {
            self.memory.retain(piece.offset, piece.offset + (piece.end - start));
            state.pieces.insert(new + (start - old), Piece { end: new + (piece.end - old), ..piece });
        }
        state.areas.insert(new, area.clone());
        let mut changes = Changes::default();
        self.show(state, new, &area, new, new + new_length, &mut changes);
        self.commit(state, changes)
    }
}
