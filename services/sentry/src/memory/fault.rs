//! Page faults of the guest.

use std::sync::atomic::Ordering;

use bulkhead_ipc::Errno;

use super::{
    AddressSpace,
    areas::{Area, AreaFlags, Backing, STACK_GUARD_GAP},
    pieces::Piece,
    space::{Changes, EAGER, State},
};
use crate::{
    abi::{PAGE_SIZE, page_down},
    platform::{Fault, Protection},
};

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRERR: i32 = 2;

/// Pages around a fault that are copied with it.
const AROUND: u64 = 16 * PAGE_SIZE;
/// The same for an address space with so many pieces that the host's limit on mappings is near.
const AROUND_MANY: u64 = 512 * PAGE_SIZE;
const MANY: usize = 8192;
/// Memory that does not exist yet needs no copying: this much is replaced at once.
const AROUND_HOLE: u64 = 4 << 20;
/// Anonymous memory that was too large to be mapped at once appears in parts of this size.
const PART: u64 = 64 << 20;
/// A stack grows by at least this much.
const STACK_STEP: u64 = 32 * PAGE_SIZE;
/// So often in a row a fault that needs nothing is believed; then the page is shown anew, and in the end refused.
const SPURIOUS_BELIEVED: u32 = 3;
const SPURIOUS_REFUSED: u32 = 64;

impl AddressSpace {
    /// Resolves a page fault of the guest, or says which signal it gets: (signal, si_code).
    ///
    /// A fault on what is right already (another thread was faster) is resolved, too.
    pub fn handle_fault(&self, fault: &Fault, stack_pointer: u64) -> Result<(), (i32, i32)> {
        let _ = stack_pointer; // Linux has not looked at it since 5.0 either: a stack grows on any access.
        if !fault.is_page_fault() {
            return Err((fault.signal, fault.code));
        }
        let page = page_down(fault.address);
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.areas.at(page).is_none() && !self.grow_stack(state, page) {
            return Err((libc::SIGSEGV, SEGV_MAPERR));
        }
        let Some((start, area)) = state.areas.at(page) else { return Err((libc::SIGSEGV, SEGV_MAPERR)) };
        let allowed = if fault.is_write() {
            area.protection.contains(Protection::WRITE)
        } else if fault.is_execute() {
            area.protection.contains(Protection::EXECUTE)
        } else {
            !area.protection.is_empty()
        };
        if !allowed {
            return Err((libc::SIGSEGV, SEGV_ACCERR));
        }
        let area = area.clone();
        let bus_error = Err((libc::SIGBUS, BUS_ADRERR));
        match (state.pieces.at(page), &area.backing) {
            (Some((_, piece)), _) if fault.is_write() && piece.copy_on_write => self.own(state, start, &area, page).or(bus_error),
            // The host has no page for the memory file: it is out of memory.
            (Some(_), _) if fault.signal == libc::SIGBUS => bus_error,
            (Some(_), _) => self.spurious(state, start, &area, page),
            (None, Backing::Anonymous) => self.appear(state, start, &area, page).or(bus_error),
            (None, Backing::File(object, offset)) => {
                if offset + (page - start) >= object.touchable() {
                    return bus_error;
                }
                if fault.is_write() && !area.shared() {
                    return self.own(state, start, &area, page).or(bus_error);
                }
                if fault.signal == libc::SIGBUS {
                    return bus_error;
                }
                self.spurious(state, start, &area, page)
            }
            (None, Backing::Vvar | Backing::Vdso) => Err((libc::SIGSEGV, SEGV_ACCERR)),
        }
    }

    /// A fault that needs nothing. Should the stub have lost the page after all, it is shown again before the guest hangs.
    fn spurious(&self, state: &mut State, start: u64, area: &Area, page: u64) -> Result<(), (i32, i32)> {
        state.spurious = if state.spurious.0 == page { (page, state.spurious.1 + 1) } else { (page, 1) };
        match state.spurious.1 {
            0..=SPURIOUS_BELIEVED => Ok(()),
            SPURIOUS_REFUSED.. => Err((libc::SIGBUS, BUS_ADRERR)),
            _ => {
                tracing::debug!(page, "showing a page again that faults without reason");
                let mut changes = Changes::default();
                self.show(state, start, area, page, page + PAGE_SIZE, &mut changes);
                self.commit(state, changes).map_err(|_| (libc::SIGBUS, BUS_ADRERR))
            }
        }
    }

    /// Lets the stack above `page` grow down to it.
    pub(super) fn grow_stack(&self, state: &mut State, page: u64) -> bool {
        let Some((start, area)) = state.areas.above(page) else { return false };
        if !area.flags.contains(AreaFlags::GROWS_DOWN) {
            return false;
        }
        let mut area = area.clone();
        let lowest = area.end.saturating_sub(self.stack_limit.load(Ordering::Relaxed));
        let floor = state.areas.end_below(page + 1).saturating_add(STACK_GUARD_GAP).max(super::MIN_ADDRESS);
        if page < lowest || page < floor {
            return false;
        }
        let low = page.min(start.saturating_sub(STACK_STEP)).max(lowest.next_multiple_of(PAGE_SIZE)).max(floor).min(page);
        area.end = start;
        let mut changes = Changes::default();
        if !area.shared() && self.materialise(state, &area, low, start, false, &mut changes).is_err() {
            return false;
        }
        state.areas.insert(low, area);
        self.commit(state, changes).is_ok()
    }

    /// Gives anonymous memory that was left for later its pages.
    pub(super) fn appear(&self, state: &mut State, start: u64, area: &Area, page: u64) -> Result<(), Errno> {
        if area.shared() {
            // Behind the end of a shared object (mremap(2) made the mapping larger than that).
            return Err(Errno::EFAULT);
        }
        let (mut low, mut high) = state.pieces.gap_around(page, start, area.end);
        if high - low > EAGER {
            let part = page & !(PART - 1);
            (low, high) = (low.max(part), high.min(part + PART));
        }
        state.spurious = (0, 0);
        let mut changes = Changes::default();
        self.materialise(state, area, low, high, false, &mut changes)?;
        self.commit(state, changes)
    }

    /// Makes a page of a private area, and some around it, this address space's own, so that it can be written.
    pub(super) fn own(&self, state: &mut State, start: u64, area: &Area, page: u64) -> Result<(), Errno> {
        self.own_around(state, start, area, page).map(|_| ())
    }

    /// As `own`; which range it was.
    pub(super) fn own_around(&self, state: &mut State, start: u64, area: &Area, page: u64) -> Result<(u64, u64), Errno> {
        state.spurious = (0, 0);
        let mut changes = Changes::default();
        let around = if state.pieces.len() > MANY { AROUND_MANY } else { AROUND };
        let chunk = page & !(around - 1);
        let owned = match state.pieces.at(page) {
            None => {
                let (object, offset) = area.file_at(start, start).ok_or(Errno::EFAULT)?;
                let end = start.saturating_add(object.touchable().saturating_sub(offset));
                if page >= end {
                    return Err(Errno::EFAULT);
                }
                let (low, high) = state.pieces.gap_around(page, start, area.end.min(end));
                let (low, high) = (low.max(chunk), high.min(chunk + around));
                self.copy_from_file(state, start, area, low, high, &mut changes)?;
                (low, high)
            }
            Some((piece_start, piece)) => {
                let (low, high) = (piece_start.max(start), piece.end.min(area.end));
                let offset = |address: u64| piece.offset + (address - piece_start);
                let (run_start, run_end, references) = self.memory.run(offset(page)).ok_or(Errno::EFAULT)?;
                // The run may begin in the file by more than the address is: another mapping's pages are part of it.
                let low = low.max(page.saturating_sub(offset(page) - run_start));
                let high = high.min(page + (run_end - offset(page)));
                if references == 1 {
                    state.pieces.set_copy_on_write(low, high, false);
                    changes.protect(low, high, area.protection);
                    (low, high)
                } else {
                    if state.teaches.as_ref().is_some_and(|habits| habits.learn(page)) {
                        state.teaches = None;
                    }
                    let extent =
                        self.extent(offset(low.max(chunk)), offset(page), offset(high.min(chunk + around)), offset(high));
                    let low = page - (offset(page) - extent.start);
                    let high = page + (extent.end - offset(page));
                    let hint = self.hint(state, low);
                    let copy = if extent.data {
                        let copy = self.memory.allocate_uncleared(high - low, hint)?;
                        if let Err(error) = self.memory.copy(extent.start, copy, high - low) {
                            self.memory.release([(copy, copy + (high - low))]);
                            return Err(error);
                        }
                        copy
                    } else {
                        self.memory.allocate(high - low, hint)?
                    };
                    for (start, piece) in state.pieces.remove(low, high) {
                        changes.release(start, &piece);
                    }
                    let piece = Piece { end: high, offset: copy, copy_on_write: false };
                    state.pieces.insert(low, piece);
                    changes.map_piece(&self.memory, area, low, &piece, false);
                    (low, high)
                }
            }
        };
        self.commit(state, changes).map(|()| owned)
    }

    /// What to copy around `at`: existing pages within `low..high`, without the missing ones at both ends; or, if the page at
    /// `at` does not exist, missing ones within `low..far`. Only asks for the next existing page, which the host finds at once,
    /// whereas it looks for the next missing one page by page.
    fn extent(&self, low: u64, at: u64, high: u64, far: u64) -> Extent {
        let first = self.memory.next_data(low);
        let next = if first <= at && low < at { self.memory.next_data(at) } else { first };
        if next > at {
            let start = if first > at { low } else { at };
            return Extent { start, end: next.min(far).min(at + AROUND_HOLE), data: false };
        }
        let mut end = high;
        while end > at + PAGE_SIZE {
            let middle = (at + (end - at) / 2).next_multiple_of(PAGE_SIZE);
            if middle >= end || self.memory.next_data(middle) < end {
                break;
            }
            end = middle;
        }
        Extent { start: first, end, data: true }
    }
}

/// A range of offsets in the memory file.
struct Extent {
    start: u64,
    end: u64,
    data: bool,
}
