//! Virtual memory areas: which addresses are mapped, how, and to what.
//!
//! Pure bookkeeping. Neighbours that are alike (and continue each other in the same file) are one area.

use std::{collections::BTreeMap, sync::Arc};

use super::object::FileObject;
use crate::platform::Protection;

/// Nothing else is mapped this close below a stack that can still grow (stack_guard_gap, 256 pages).
pub const STACK_GUARD_GAP: u64 = 256 * 4096;

bitflags::bitflags! {
    /// What else mmap(2), mlock(2) and madvise(2) said about an area.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AreaFlags: u32 {
        /// MAP_SHARED.
        const SHARED = 1;
        /// MAP_GROWSDOWN.
        const GROWS_DOWN = 2;
        /// mlock(2), MAP_LOCKED. Only accounted.
        const LOCKED = 4;
        /// MAP_NORESERVE.
        const NO_RESERVE = 8;
        /// MADV_DONTFORK.
        const DONT_FORK = 16;
        /// MADV_WIPEONFORK.
        const WIPE_ON_FORK = 32;
        /// The heap (brk(2)), for its name in /proc/self/maps.
        const HEAP = 64;
        /// The first thread's stack, for its name in /proc/self/maps.
        const STACK = 128;
    }
}

/// What an area shows.
#[derive(Clone)]
pub enum Backing {
    /// Zeros until written. With `SHARED`, everything has its place in the memory file from the start.
    Anonymous,
    /// A host file from this offset (of the area's start) on.
    File(Arc<FileObject>, u64),
    /// The vDSO's data.
    Vvar,
    /// The vDSO.
    Vdso,
}

/// A mapped range.
#[derive(Clone)]
pub struct Area {
    /// One past the last address.
    pub end: u64,
    /// Access.
    pub protection: Protection,
    /// See [`AreaFlags`].
    pub flags: AreaFlags,
    /// See [`Backing`].
    pub backing: Backing,
}

impl Area {
    pub fn shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }

    /// The vDSO's areas stay as the platform made them.
    pub fn special(&self) -> bool {
        matches!(self.backing, Backing::Vvar | Backing::Vdso)
    }

    /// Counts for RLIMIT_DATA: private, writable, not a stack.
    pub fn is_data(&self) -> bool {
        self.protection.contains(Protection::WRITE) && !self.flags.intersects(AreaFlags::SHARED | AreaFlags::GROWS_DOWN)
    }

    /// The file and the offset in it of the byte at `address`.
    pub fn file_at(&self, start: u64, address: u64) -> Option<(&Arc<FileObject>, u64)> {
        match &self.backing {
            Backing::File(object, offset) => Some((object, offset + (address - start))),
            _ => None,
        }
    }

    /// The same area from `by` bytes later on.
    fn advanced(&self, by: u64) -> Area {
        let mut area = self.clone();
        if let Backing::File(_, offset) = &mut area.backing {
            *offset += by;
        }
        area
    }

    fn continues(&self, start: u64, next: &Area) -> bool {
        self.protection == next.protection
            && self.flags == next.flags
            && match (&self.backing, &next.backing) {
                // Shared ones keep their borders: a border is where one object ends (mremap(2) must not grow into the next).
                (Backing::Anonymous, Backing::Anonymous) => !self.shared(),
                (Backing::File(a, offset), Backing::File(b, next_offset)) => {
                    (Arc::ptr_eq(a, b) || (a.identity == b.identity && a.file.writable == b.file.writable))
                        && offset + (self.end - start) == *next_offset
                }
                _ => false,
            }
    }
}

/// All areas of an address space by start.
#[derive(Clone, Default)]
pub struct Areas {
    map: BTreeMap<u64, Area>,
    total: u64,
    data: u64,
    locked: u64,
}

impl Areas {
    /// The area that holds `address`, with its start.
    pub fn at(&self, address: u64) -> Option<(u64, &Area)> {
        let (&start, area) = self.map.range(..=address).next_back()?;
        (address < area.end).then_some((start, area))
    }

    /// The first area that starts above `address`.
    pub fn above(&self, address: u64) -> Option<(u64, &Area)> {
        self.map.range(address.checked_add(1)?..).next().map(|(&start, area)| (start, area))
    }

    /// The end of the last area that ends at or below `address`.
    pub fn end_below(&self, address: u64) -> u64 {
        self.map.range(..address).next_back().map_or(0, |(_, area)| area.end)
    }

    /// All, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Area)> {
        self.map.iter().map(|(&start, area)| (start, area))
    }

    /// Number of areas.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Mapped bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that count for RLIMIT_DATA.
    pub fn data(&self) -> u64 {
        self.data
    }

    /// Bytes that count for RLIMIT_MEMLOCK.
    pub fn locked(&self) -> u64 {
        self.locked
    }

    /// Adds one where there is none.
    pub fn insert(&mut self, start: u64, area: Area) {
        self.account(start, &area, true);
        let end = area.end;
        self.map.insert(start, area);
        self.merge(start);
        self.merge(end);
    }

    /// Takes out what lies within `start..end`, cut at the borders. The vDSO's areas stay.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<(u64, Area)> {
        self.split(start);
        self.split(end);
        let keys: Vec<u64> = self.map.range(start..end).filter(|(_, area)| !area.special()).map(|(&key, _)| key).collect();
        let taken: Vec<_> = keys.into_iter().filter_map(|key| self.map.remove(&key).map(|area| (key, area))).collect();
        taken.iter().for_each(|(start, area)| self.account(*start, area, false));
        taken
    }

    /// Takes out, changes and puts back what lies within `start..end`.
    pub fn change(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Area)) {
        for (start, mut area) in self.remove(start, end) {
            change(&mut area);
            self.insert(start, area);
        }
    }

    /// What lies within `start..end`, cut at the borders.
    pub fn within(&self, start: u64, end: u64) -> Vec<(u64, Area)> {
        let first = self.map.range(..start).next_back().filter(|(_, area)| area.end > start);
        first
            .into_iter()
            .chain(self.map.range(start..end.max(start)))
            .map(|(&key, area)| {
                let low = key.max(start);
                let mut area = area.advanced(low - key);
                area.end = area.end.min(end);
                (low, area)
            })
            .collect()
    }

    /// Whether every byte of `start..end` is mapped.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        while at < end {
            match self.at(at) {
                Some((_, area)) => at = area.end,
                None => return false,
            }
        }
        true
    }

    /// Whether no byte of `start..end` is mapped.
    pub fn is_empty(&self, start: u64, end: u64) -> bool {
        self.at(start).is_none() && self.above(start).is_none_or(|(low, _)| low >= end)
    }

    /// Whether the vDSO lies in `start..end`.
    pub fn holds_special(&self, start: u64, end: u64) -> bool {
        self.within(start, end).iter().any(|(_, area)| area.special())
    }

    /// The highest free `length` bytes within `low..high`, leaving the guard gap below stacks.
    pub fn highest_gap(&self, length: u64, low: u64, high: u64) -> Option<u64> {
        let mut ceiling = high;
        for (&start, area) in self.map.range(..high).rev() {
            let floor = area.end.max(low);
            if ceiling >= floor && ceiling - floor >= length {
                return Some(ceiling - length);
            }
            ceiling = ceiling.min(Self::guarded_start(start, area));
            if ceiling <= low {
                return None;
            }
        }
        (ceiling >= low && ceiling - low >= length).then(|| ceiling - length)
    }

    /// The lowest free `length` bytes within `low..high`.
    pub fn lowest_gap(&self, length: u64, low: u64, high: u64) -> Option<u64> {
        let mut floor = self.at(low).map_or(low, |(_, area)| area.end);
        for (&start, area) in self.map.range(floor..) {
            let ceiling = Self::guarded_start(start, area).min(high);
            if ceiling >= floor && ceiling - floor >= length {
                return Some(floor);
            }
            floor = area.end;
        }
        (high >= floor && high - floor >= length).then_some(floor)
    }

    /// Whether `start..end` is free, and not in the guard gap of the stack above it.
    pub fn fits(&self, start: u64, end: u64) -> bool {
        self.at(start).is_none() && self.above(start).is_none_or(|(low, area)| Self::guarded_start(low, area) >= end)
    }

    fn guarded_start(start: u64, area: &Area) -> u64 {
        if area.flags.contains(AreaFlags::GROWS_DOWN) { start.saturating_sub(STACK_GUARD_GAP) } else { start }
    }

    fn account(&mut self, start: u64, area: &Area, add: bool) {
        let length = area.end - start;
        let step = |sum: &mut u64| *sum = if add { *sum + length } else { *sum - length };
        step(&mut self.total);
        if area.is_data() {
            step(&mut self.data);
        }
        if area.flags.contains(AreaFlags::LOCKED) {
            step(&mut self.locked);
        }
    }

    fn split(&mut self, at: u64) {
        if let Some((&key, area)) = self.map.range_mut(..at).next_back()
            && area.end > at
        {
            let tail = area.advanced(at - key);
            area.end = at;
            self.map.insert(at, tail);
        }
    }

    fn merge(&mut self, at: u64) {
        let Some(area) = self.map.get(&at) else { return };
        if let Some((&key, before)) = self.map.range(..at).next_back()
            && before.end == at
            && before.continues(key, area)
        {
            let end = area.end;
            self.map.remove(&at);
            if let Some(before) = self.map.get_mut(&key) {
                before.end = end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(end: u64, protection: Protection) -> Area {
        Area { end, protection, flags: AreaFlags::empty(), backing: Backing::Anonymous }
    }
    const RW: Protection = Protection::READ.union(Protection::WRITE);

    #[test]
    fn changing_the_middle_splits_and_changing_it_back_merges() {
        let mut areas = Areas::default();
        areas.insert(0x1000, anonymous(0x5000, RW));
        areas.change(0x2000, 0x3000, |area| area.protection = Protection::READ);
        assert_eq!(areas.len(), 3);
        assert_eq!((areas.total(), areas.data()), (0x4000, 0x3000));
        areas.change(0x2000, 0x3000, |area| area.protection = RW);
        assert_eq!(areas.len(), 1);
        assert_eq!(areas.data(), 0x4000);
        assert!(areas.covers(0x1000, 0x5000) && !areas.covers(0x1000, 0x6000));
    }

    #[test]
    fn gaps_are_found_from_the_top_and_stay_clear_of_stacks() {
        let mut areas = Areas::default();
        areas.insert(0x20_0000, anonymous(0x21_0000, RW));
        let mut stack = anonymous(0x80_0000, RW);
        stack.flags = AreaFlags::GROWS_DOWN;
        areas.insert(0x7f_0000, stack);
        assert_eq!(areas.highest_gap(0x1000, 0x1_0000, 0x80_0000), Some(0x7f_0000 - STACK_GUARD_GAP - 0x1000));
        assert_eq!(areas.highest_gap(0x50_0000, 0x1_0000, 0x80_0000), None);
        assert_eq!(areas.highest_gap(0x1000, 0x1_0000, 0x21_0000), Some(0x1f_f000));
        assert_eq!(areas.lowest_gap(0x1000, 0x20_5000, 0x80_0000), Some(0x21_0000));
        assert!(!areas.fits(0x7e_0000, 0x7e_1000) && areas.fits(0x60_0000, 0x60_1000));
    }

    #[test]
    fn removal_cuts_at_the_borders_and_spares_the_vdso() {
        let mut areas = Areas::default();
        areas.insert(0x1000, anonymous(0x5000, RW));
        areas.insert(0x6000, Area { backing: Backing::Vdso, ..anonymous(0x8000, Protection::READ) });
        let taken = areas.remove(0x4000, 0x9000);
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].0, taken[0].1.end), (0x4000, 0x5000));
        assert!(areas.holds_special(0, u64::MAX) && areas.is_empty(0x4000, 0x6000));
        assert_eq!(areas.total(), 0x3000 + 0x2000);
    }
}
