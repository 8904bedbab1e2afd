//! Rewritten text in an address space: where call sites that trap often are replaced by jumps to thunks
//! ([`crate::platform::rewrite`] says by what).
//!
//! Only private mappings of files with exactly read and execute access are touched. A rewritten page is a copy-on-write piece whose
//! offset is one of the cache's ([`cache`]): an address space keeps no other record of it, so munmap and all that removes
//! pieces need to know nothing. Thunk pages are areas of their own, shown as anonymous memory.
//!
//! - Whoever asks the sentry for bytes of a rewritten page (process_vm_readv(2), /proc/self/mem, write(2)) gets the file's. What the
//!   program loads itself, it sees rewritten; that cannot be hidden.
//! - Before such a page gets any other access, is moved, or is written to, and before anything else takes the place of its thunks, the
//!   file's page comes back ([`AddressSpace::forget_text`]).
//! - Rewritten pages are shared among the processes of one user only ([`cache::FileKey`] says why).
//! - A forked process starts with the file's pages, which are one mapping: most run another program soon. Those that go on get the
//!   rewritten ones at the first site that traps often.
//! - A thread that is in a thunk when it stops is reported to be at the call site.

mod cache;
mod counters;

pub use cache::TextCache;
pub use counters::{CallSite, Counters};

use std::sync::atomic::Ordering::Relaxed;

use self::cache::{FileKey, TextPage};
use super::{
    AddressSpace, MIN_ADDRESS,
    areas::{Area, AreaFlags, Backing, STACK_GUARD_GAP},
    pieces::Piece,
    space::{Changes, State},
};
use crate::{
    abi::{PAGE_SIZE, page_down},
    platform::{
        Event, Protection, Registers,
        rewrite::{Place, Thunks, candidates, is_signal_frame},
    },
};

/// A site is rewritten when it has trapped so often, and with it is shown what is known of the rest of the mapping: a trap costs some
/// 3 µs more than a thunk, rewriting 20 µs to 30 µs, and each page that is shown apart some 4 µs. Programs that run for
/// some milliseconds never get there; they do not win by it either (showing known pages at mmap(2) made `/bin/true` slower).
const OFTEN: u32 = 16;
/// So many sites are counted; then counting starts anew.
const SITES: usize = 4096;
/// The access of pages that may be rewritten, and of thunks.
const ACCESS: Protection = Protection::READ.union(Protection::EXECUTE);
/// How far from the text thunks are that may be anywhere: beyond what a heap is likely to grow to, and within a jump's reach.
const DISTANCES: [i64; 6] = [0x6000_0000, -0x6000_0000, 0x7000_0000, -0x7000_0000, 0x5000_0000, -0x5000_0000];
/// Room that is left above the heap's start, and below a stack.
const KEPT_FREE: u64 = 1 << 30;

/// So much of the next page is looked at.
const BEYOND: usize = 16;
/// Bytes of a `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

/// A thread's place in a thunk, in terms of the call site.
struct InThunk {
    site: u64,
    end: u64,
    place: Place,
}

impl AddressSpace {
    /// Turns rewriting on or off from now on; what is rewritten stays so.
    pub fn set_rewriting(&self, on: bool) {
        self.rewriting.store(on, Relaxed);
    }

    /// Whether sites that trap often are rewritten.
    pub fn is_rewriting(&self) -> bool {
        self.thunks().is_some()
    }

    fn thunks(&self) -> Option<Thunks> {
        self.host.thunks().filter(|_| self.rewriting.load(Relaxed))
    }

    /// How often call sites called.
    pub fn call_sites(&self) -> Vec<CallSite> {
        let state = self.state.lock();
        let mut sites: Vec<CallSite> =
            state.sites.iter().map(|(&address, &trapped)| CallSite { address, rewritten: 0, trapped: trapped.into() }).collect();
        for (address, rewritten) in self.counters.all() {
            match sites.iter_mut().find(|site| site.address == address) {
                Some(site) => site.rewritten = rewritten,
                None => sites.push(CallSite { address, rewritten, trapped: 0 }),
            }
        }
        sites
    }

    /// A call came from a thunk; `end` is the address behind the original `syscall`.
    pub fn count_call(&self, end: u64) {
        self.counters.count(end);
    }

    /// A call of a process of this user trapped. If it did in a thunk (of a guest that uses gs), the registers are put right; a site that traps often is
    /// rewritten.
    pub fn count_trap(&self, registers: &mut Registers, user: u32) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(thunk) = self.thunk_at(state, registers.rip) {
            (registers.rip, registers.rcx) = (thunk.end, thunk.end);
            return;
        }
        state.text_user = Some(user);
        if state.sites.len() >= SITES {
            state.sites.clear();
        }
        let count = state.sites.entry(registers.rip).or_default();
        *count = count.saturating_add(1);
        if *count == OFTEN
            && registers.gs_base == 0
            && let Some(thunks) = self.thunks()
        {
            let done = self.rewrite(state, registers, &thunks);
            tracing::trace!(site = registers.rip, number = registers.rax, done = done.is_some(), "call site that traps often");
        }
    }

    /// What happened to a thread that may be in a thunk, as if there were none.
    pub fn leave_thunk(&self, event: Event, registers: &mut Registers) -> Event {
        let state = self.state.lock();
        let Some(thunk) = self.thunk_at(&state, registers.rip) else { return event };
        match event {
            Event::Fault(fault) if fault.is_page_fault() && fault.is_execute() => event,
            // A guest that steps through its own code does not see the thunk's steps.
            Event::Fault(fault) if fault.signal == libc::SIGTRAP => Event::Interrupted,
            // gs led to nowhere.
            Event::Fault(_) if !matches!(thunk.place, Place::Before(_)) => {
                (registers.rip, registers.rcx) = (thunk.end, thunk.end);
                Event::Syscall
            }
            _ => {
                registers.rip = match thunk.place {
                    Place::Before(bytes) => thunk.site + bytes as u64,
                    Place::Middle => thunk.end - SYSCALL_LENGTH,
                    Place::End => thunk.end,
                };
                event
            }
        }
    }

    fn thunk_at(&self, state: &State, rip: u64) -> Option<InThunk> {
        if !state.rewritten {
            return None;
        }
        let page = page_down(rip);
        let offset = self.offset_at(state, page)?;
        let cache = self.memory.text().lock();
        let thunks = cache.thunks_at(offset)?;
        let at = (rip - page) as usize;
        let thunk = thunks.thunks.iter().find(|thunk| (thunk.start..thunk.start + thunk.length).contains(&at))?;
        let base = page.wrapping_sub((thunks.index * PAGE_SIZE as i64) as u64);
        Some(InThunk {
            site: base.wrapping_add(thunk.site as u64),
            end: base.wrapping_add(thunk.end as u64),
            place: Place::at(at - thunk.start, thunk.moved),
        })
    }

    /// Where a page lies in the memory file.
    fn offset_at(&self, state: &State, page: u64) -> Option<u64> {
        let (start, piece) = state.pieces.at(page)?;
        Some(piece.offset + (page - start))
    }

    /// Whether a page is rewritten.
    pub(super) fn is_rewritten(&self, state: &State, page: u64) -> bool {
        state.rewritten && self.offset_at(state, page).is_some_and(|offset| self.memory.text().lock().text_at(offset).is_some())
    }

    /// Rewrites the site that has just trapped, or shows that it has been rewritten already. `None` if that cannot be.
    fn rewrite(&self, state: &mut State, registers: &Registers, thunks: &Thunks) -> Option<()> {
        let page = page_down(registers.rip.checked_sub(2)?);
        let end = (registers.rip - page) as usize;
        let (start, area) = state.areas.at(page)?;
        let area = area.clone();
        let (object, offset) = rewritable(&area).then(|| area.file_at(start, page)).flatten()?;
        let index = offset / PAGE_SIZE;
        let key = FileKey::of(object, state.text_user?)?;
        let mut cache = self.memory.text().lock();
        // A page that the program wrote to before it was text is its own.
        match self.offset_at(state, page) {
            Some(offset) if cache.text_at(offset).is_none_or(|text| text.key != key) => return None,
            Some(offset) if cache.text_at(offset).is_some_and(|text| text.covers(end)) => return Some(()),
            _ => {}
        }
        let known = cache.newest(key, index).is_some_and(|text| text.covers(end));
        if !known {
            if registers.rax == libc::SYS_rt_sigreturn as u64
                && !is_signal_frame(|offset, into| object.read(offset, into), offset + end as u64 - 2)
            {
                return None;
            }
            let original = cache.original(key, index, object)?;
            let base = page.wrapping_sub(index * PAGE_SIZE);
            // What is around the site may go on in the next page.
            let mut around = original.to_vec();
            around.resize(original.len() + BEYOND, 0);
            let there = object.read((index + 1) * PAGE_SIZE, &mut around[original.len()..]);
            around.truncate(original.len() + there);
            candidates(&around, end, registers).into_iter().find_map(|candidate| {
                let pages: Vec<i64> = match candidate.fixed {
                    None => DISTANCES.iter().map(|distance| index as i64 + distance / PAGE_SIZE as i64).collect(),
                    Some(fixed) => {
                        let low = (index * PAGE_SIZE) as i64 + candidate.origin() as i64 + i64::from(fixed);
                        let page_of = |at: i64| at.div_euclid(PAGE_SIZE as i64);
                        let mut pages = vec![page_of(low), page_of(low + 255)];
                        pages.dedup();
                        pages
                    }
                };
                pages.into_iter().find_map(|thunk_page| {
                    let address = base.wrapping_add((thunk_page * PAGE_SIZE as i64) as u64);
                    let shown = self.offset_at(state, address);
                    if !(shown.is_some() && shown == cache.place(key, thunk_page) || self.may_hold_thunks(state, address)) {
                        return None;
                    }
                    cache.rewrite(&self.memory, thunks, (key, index), &original, &candidate, thunk_page)
                })
            })?;
        }
        let mut changes = Changes::default();
        let shown = self.show_known(state, &mut cache, start, &area, key, &mut changes);
        drop(cache);
        if self.commit(state, changes).is_err() {
            // The host has no room for more mappings, or the stub is gone.
            self.set_rewriting(false);
            return None;
        }
        shown.contains(&page).then_some(())
    }

    /// Shows what is known of a file mapping's text to have been rewritten: the addresses of the pages.
    fn show_known(
        &self,
        state: &mut State,
        cache: &mut TextCache,
        start: u64,
        area: &Area,
        key: FileKey,
        changes: &mut Changes,
    ) -> Vec<u64> {
        let Some((_, offset)) = area.file_at(start, start) else { return Vec::new() };
        let first = offset / PAGE_SIZE;
        let pages = first..first + (area.end - start) / PAGE_SIZE;
        let mut shown = Vec::new();
        for text in cache.of_file(key, pages) {
            let page = start + (text.index - first) * PAGE_SIZE;
            let own = self.offset_at(state, page).is_some_and(|offset| cache.text_at(offset).is_none());
            if !own && self.show_text(state, cache, page, area, &text, changes) {
                shown.push(page);
            }
        }
        shown
    }

    /// Shows one page and its thunks; `false` where there is no room for those.
    fn show_text(
        &self,
        state: &mut State,
        cache: &TextCache,
        page: u64,
        area: &Area,
        text: &TextPage,
        changes: &mut Changes,
    ) -> bool {
        if self.offset_at(state, page) == Some(text.offset) {
            return true;
        }
        let base = page.wrapping_sub(text.index * PAGE_SIZE);
        let mut missing = Vec::new();
        for &index in &text.needs {
            let address = base.wrapping_add((index * PAGE_SIZE as i64) as u64);
            let Some(offset) = cache.place(text.key, index) else { return false };
            if self.offset_at(state, address) == Some(offset) {
                continue;
            }
            if !self.may_hold_thunks(state, address) {
                return false;
            }
            missing.push((address, offset));
        }
        let thunk_area = |end| Area { end, protection: ACCESS, flags: AreaFlags::empty(), backing: Backing::Anonymous };
        let missing = missing.into_iter().map(|(address, offset)| (address, offset, thunk_area(address + PAGE_SIZE)));
        for (address, offset, area) in missing {
            state.areas.insert(address, area.clone());
            self.put(state, address, &area, offset, changes);
        }
        for (low, piece) in state.pieces.remove(page, page + PAGE_SIZE) {
            changes.release(low, &piece);
        }
        self.put(state, page, area, text.offset, changes);
        state.rewritten = true;
        true
    }

    /// Shows a page of the cache.
    fn put(&self, state: &mut State, page: u64, area: &Area, offset: u64, changes: &mut Changes) {
        self.memory.retain(offset, offset + PAGE_SIZE);
        let piece = Piece { end: page + PAGE_SIZE, offset, copy_on_write: true };
        state.pieces.insert(page, piece);
        changes.map_piece(&self.memory, area, page, &piece, false);
    }

    /// Whether nothing is at an address, nor is it where something is about to be.
    fn may_hold_thunks(&self, state: &State, address: u64) -> bool {
        let Some(end) = address.checked_add(PAGE_SIZE).filter(|end| *end <= self.guest_end()) else { return false };
        let heap = state.heap.0;
        let in_heap = heap != 0 && end > heap && address < heap.saturating_add(KEPT_FREE);
        let in_stack = state.areas.above(address).is_some_and(|(_, area)| {
            let room = self.stack_limit.load(Relaxed).min(KEPT_FREE).saturating_add(STACK_GUARD_GAP);
            area.flags.contains(AreaFlags::GROWS_DOWN) && end > area.end.saturating_sub(room)
        });
        address >= MIN_ADDRESS && state.areas.is_empty(address, end) && !in_heap && !in_stack
    }

    /// Has the file's own pages come back where rewritten ones are in a range, or whose thunks are there.
    pub(super) fn forget_text(&self, state: &mut State, low: u64, high: u64, changes: &mut Changes) {
        if !state.rewritten {
            return;
        }
        // A site may end in the page behind its own.
        let low = low.saturating_sub(PAGE_SIZE);
        let mut pages = Vec::new();
        {
            let cache = self.memory.text().lock();
            for (area_start, area) in state.areas.within(low, high) {
                if area.protection != ACCESS || area.shared() {
                    continue;
                }
                for (start, piece) in state.pieces.within(area_start, area.end) {
                    let piece_end = piece.offset + (piece.end - start);
                    let address = |offset: u64| start + (offset - piece.offset);
                    pages.extend(cache.text_within(piece.offset, piece_end).map(|text| address(text.offset)));
                    for thunks in cache.thunks_within(piece.offset, piece_end) {
                        let base = address(thunks.offset).wrapping_sub((thunks.index * PAGE_SIZE as i64) as u64);
                        pages.extend(thunks.thunks.iter().map(|thunk| page_down(base.wrapping_add(thunk.site as u64))));
                    }
                }
            }
        }
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            if !self.is_rewritten(state, page) {
                continue;
            }
            let Some((start, area)) = state.areas.at(page) else { continue };
            let area = area.clone();
            for (low, piece) in state.pieces.remove(page, page + PAGE_SIZE) {
                changes.release(low, &piece);
            }
            changes.map_file(&area, start, page, page + PAGE_SIZE, false);
        }
    }

    /// As [`AddressSpace::forget_text`], at once.
    pub(super) fn forget_text_now(&self, state: &mut State, low: u64, high: u64) -> Result<(), bulkhead_ipc::Errno> {
        if !state.rewritten {
            return Ok(());
        }
        let mut changes = Changes::default();
        self.forget_text(state, low, high, &mut changes);
        self.commit(state, changes)
    }

    /// Takes rewritten pages and thunks out of a copy that no stub shows yet.
    pub(super) fn drop_text(&self, copy: &mut State) {
        let (mut pages, mut thunk_pages) = (Vec::new(), Vec::new());
        let cache = self.memory.text().lock();
        for (area_start, area) in copy.areas.iter().filter(|(_, area)| area.protection == ACCESS && !area.shared()) {
            for (start, piece) in copy.pieces.within(area_start, area.end) {
                let end = piece.offset + (piece.end - start);
                let address = |offset: u64| start + (offset - piece.offset);
                pages.extend(cache.text_within(piece.offset, end).map(|text| address(text.offset)));
                thunk_pages.extend(cache.thunks_within(piece.offset, end).map(|thunks| address(thunks.offset)));
            }
        }
        drop(cache);
        for page in &thunk_pages {
            copy.areas.remove(*page, page + PAGE_SIZE);
        }
        for page in pages.into_iter().chain(thunk_pages) {
            let pieces = copy.pieces.remove(page, page + PAGE_SIZE);
            self.memory.release(pieces.into_iter().map(|(low, piece)| (piece.offset, piece.offset + (piece.end - low))));
        }
    }
}

/// Text as this module means it.
fn rewritable(area: &Area) -> bool {
    area.protection == ACCESS && !area.shared() && matches!(area.backing, Backing::File(..))
}
