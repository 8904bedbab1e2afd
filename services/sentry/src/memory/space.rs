//! The address space itself: its state, and how changes reach the stub.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{
    MemoryFile,
    areas::{Area, AreaFlags, Areas, Backing},
    fork::Habits,
    pieces::{Piece, Pieces},
    report::ProgramLayout,
    text::Counters,
};
use crate::{
    abi::page_up,
    platform::{MapOp, Platform, Protection, Space, rewrite::Thunks},
};

/// Anonymous memory up to this size is mapped at once; beyond, or without access, it waits for its first touch.
pub(super) const EAGER: u64 = 4 << 30;

/// A guest address space.
pub struct AddressSpace {
    /// Unique number, for private futex words.
    pub(super) id: u64,
    pub(super) host: Host,
    pub(super) memory: Arc<MemoryFile>,
    /// RLIMIT_STACK of its process, for growth on faults.
    pub(super) stack_limit: AtomicU64,
    pub(super) state: Mutex<State>,
    /// Whether call sites may be rewritten.
    pub(super) rewriting: AtomicBool,
    /// Calls from rewritten sites.
    pub(super) counters: Counters,
    /// Whether its stub shows it, and no other address space (before and after execve).
    holds_stub: AtomicBool,
    /// What children of its wrote to first, for the next fork.
    pub(super) habits: Arc<Habits>,
}

/// What the lock guards.
#[derive(Default)]
pub(super) struct State {
    pub areas: Areas,
    pub pieces: Pieces,
    /// brk(2): where the heap starts and ends.
    pub heap: (u64, u64),
    /// Where top-down placement starts.
    pub mmap_top: u64,
    /// mlockall(MCL_FUTURE).
    pub lock_future: bool,
    pub layout: ProgramLayout,
    pub peak_virtual: u64,
    pub peak_resident: u64,
    /// Last fault that needed nothing, and how often it came.
    pub spurious: (u64, u32),
    /// Whether text may have been rewritten here.
    pub rewritten: bool,
    /// Whose rewritten text is shown here (an effective user id).
    pub text_user: Option<u32>,
    /// How often call sites trapped, by the address behind the instruction.
    pub sites: HashMap<u64, u32>,
    /// While a program is being loaded, changes gather here.
    pub batch: Option<Changes>,
    /// Who learns from the first copies that this one makes: the address space that it was forked from.
    pub teaches: Option<Arc<Habits>>,
}

impl State {
    /// What every address space begins with.
    fn empty(platform: &Platform) -> State {
        let mut state = State::default();
        let vdso = platform.vdso();
        let special = |end, protection, backing| Area { end, protection, flags: AreaFlags::empty(), backing };
        if vdso.data_start < vdso.code_start {
            state.areas.insert(vdso.data_start, special(vdso.code_start, Protection::READ, Backing::Vvar));
        }
        if let Some(end) = page_up(vdso.code_end).filter(|&end| end > vdso.code_start) {
            let protection = Protection::READ | Protection::EXECUTE;
            state.areas.insert(vdso.code_start, special(end, protection, Backing::Vdso));
        }
        state.mmap_top = platform.guest_end();
        state
    }
}

/// Who carries out changes.
pub(super) enum Host {
    Platform {
        platform: Arc<Platform>,
        space: Arc<Space>,
    },
    #[cfg(test)]
    Fake(Arc<super::fork::fake::FakeSpace>),
}

impl Host {
    fn new(platform: &Arc<Platform>) -> Result<Host, Errno> {
        Ok(Host::Platform { platform: platform.clone(), space: platform.new_space()? })
    }

    /// An empty one of the same kind (fork).
    pub fn sibling(&self) -> Result<Host, Errno> {
        match self {
            Host::Platform { platform, .. } => Host::new(platform),
            #[cfg(test)]
            Host::Fake(_) => Ok(Host::Fake(Default::default())),
        }
    }

    /// The same one, for the address space that comes next on it.
    fn again(&self) -> Host {
        match self {
            Host::Platform { platform, space } => Host::Platform { platform: platform.clone(), space: space.clone() },
            #[cfg(test)]
            Host::Fake(fake) => Host::Fake(fake.clone()),
        }
    }

    /// As `apply`, in place of all that was there.
    fn replace(&self, changes: &[MapOp]) -> Result<(), Errno> {
        match self {
            Host::Platform { space, .. } => space.replace(changes),
            #[cfg(test)]
            Host::Fake(fake) => fake.replace(changes),
        }
    }

    fn apply(&self, changes: &[MapOp]) -> Result<(), Errno> {
        match self {
            Host::Platform { space, .. } => space.apply(changes),
            #[cfg(test)]
            Host::Fake(fake) => fake.apply(changes),
        }
    }

    /// Ends the stub in the background, and calls `then` when it is dead.
    fn end(&self, then: impl FnOnce() + Send + 'static) {
        match self {
            Host::Platform { space, .. } => space.end(then),
            #[cfg(test)]
            Host::Fake(_) => then(),
        }
    }

    /// How call sites are rewritten, if they are.
    pub fn thunks(&self) -> Option<Thunks> {
        match self {
            Host::Platform { platform, .. } => platform.thunks(),
            #[cfg(test)]
            Host::Fake(_) => None,
        }
    }

    pub fn guest_end(&self) -> u64 {
        match self {
            Host::Platform { platform, .. } => platform.guest_end(),
            #[cfg(test)]
            Host::Fake(_) => 0x7fff_ffff_f000,
        }
    }

    pub fn vdso_image(&self) -> &[u8] {
        match self {
            Host::Platform { platform, .. } => platform.vdso_image(),
            #[cfg(test)]
            Host::Fake(_) => &[],
        }
    }
}

impl AddressSpace {
    /// Empty, on a fresh platform space.
    pub fn new(platform: &Arc<Platform>, memory: &Arc<MemoryFile>) -> Result<Arc<AddressSpace>, Errno> {
        Ok(Self::with(Host::new(platform)?, memory, State::empty(platform)))
    }

    /// Empty, to come after this one on its stub (execve): changes are gathered until [`AddressSpace::take_over`].
    pub fn successor(&self, platform: &Platform) -> Arc<AddressSpace> {
        self.followed_by(State::empty(platform))
    }

    pub(super) fn followed_by(&self, state: State) -> Arc<AddressSpace> {
        let next = Self::with(self.host.again(), &self.memory, state);
        next.holds_stub.store(false, Ordering::SeqCst);
        next.gather();
        next
    }

    /// Takes the stub over from `old`, which is empty from then on, in one batch. After an error nobody knows what the stub shows: its
    /// process has to end.
    pub fn take_over(&self, old: &AddressSpace) -> Result<(), Errno> {
        if self.holds_stub.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut before = old.state.lock();
        let mut state = self.state.lock();
        let changes = state.batch.take().unwrap_or_default();
        // As long as it is not known that it worked, the pages of both are in use until the stub is dead.
        self.holds_stub.store(true, Ordering::SeqCst);
        if let Err(errno) = self.host.replace(&changes.operations) {
            state.batch = Some(changes);
            return Err(errno);
        }
        old.holds_stub.store(false, Ordering::SeqCst);
        before.areas = Areas::default();
        let shown = before.pieces.remove(0, u64::MAX).into_iter();
        let shown = shown.map(|(start, piece)| (piece.offset, piece.offset + (piece.end - start)));
        self.memory.release(shown.chain(changes.dead));
        Ok(())
    }

    /// Whether its stub shows it: not before [`AddressSpace::take_over`], nor after another one's.
    pub fn holds_stub(&self) -> bool {
        self.holds_stub.load(Ordering::SeqCst)
    }

    pub(super) fn with(host: Host, memory: &Arc<MemoryFile>, state: State) -> Arc<AddressSpace> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(AddressSpace {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            host,
            memory: memory.clone(),
            stack_limit: AtomicU64::new(8 << 20),
            state: Mutex::new(state),
            rewriting: AtomicBool::new(true),
            counters: Counters::default(),
            holds_stub: AtomicBool::new(true),
            habits: Arc::default(),
        })
    }

    /// The platform's side.
    pub fn space(&self) -> &Arc<Space> {
        match &self.host {
            Host::Platform { space, .. } => space,
            #[cfg(test)]
            Host::Fake(_) => unreachable!("tests of memory management run no guest code"),
        }
    }

    /// Guest addresses end here.
    pub fn guest_end(&self) -> u64 {
        self.host.guest_end()
    }

    /// RLIMIT_STACK has changed.
    pub fn set_stack_limit(&self, bytes: u64) {
        self.stack_limit.store(bytes, Ordering::Relaxed);
    }

    /// From here on, changes are gathered until [`AddressSpace::finish`]: no guest thread runs here yet.
    pub fn gather(&self) {
        self.state.lock().batch.get_or_insert_default();
    }

    /// Carries out what was gathered, in one batch.
    pub fn finish(&self) -> Result<(), Errno> {
        let mut state = self.state.lock();
        match state.batch.take() {
            Some(changes) => self.commit(&mut state, changes),
            None => Ok(()),
        }
    }

    /// Makes the stub follow, then releases the pages that it no longer shows.
    pub(super) fn commit(&self, state: &mut State, changes: Changes) -> Result<(), Errno> {
        if let Some(batch) = &mut state.batch {
            batch.operations.extend(changes.operations);
            batch.dead.extend(changes.dead);
            return Ok(());
        }
        let result = if changes.operations.is_empty() {
            Ok(())
        } else if !self.holds_stub() {
            Err(Errno::ESRCH)
        } else {
            self.host.apply(&changes.operations)
        };
        // After an error nobody knows what the stub still shows: the pages are kept rather than given to somebody else.
        if result.is_ok() && !changes.dead.is_empty() {
            self.memory.release(changes.dead);
        }
        result
    }

    /// Gives anonymous memory within `low..high` its place in the memory file where it has none yet.
    pub(super) fn materialise(
        &self,
        state: &mut State,
        area: &Area,
        low: u64,
        high: u64,
        populate: bool,
        changes: &mut Changes,
    ) -> Result<(), Errno> {
        for (start, end) in state.pieces.gaps(low, high) {
            let offset = self.memory.allocate(end - start, self.hint(state, start))?;
            let piece = Piece { end, offset, copy_on_write: false };
            state.pieces.insert(start, piece);
            changes.map_piece(&self.memory, area, start, &piece, populate);
        }
        Ok(())
    }

    /// Where the memory file would have to be used for a piece at `address` to continue the one before it.
    pub(super) fn hint(&self, state: &State, address: u64) -> Option<u64> {
        let (start, piece) = state.pieces.at(address.checked_sub(1)?)?;
        Some(piece.offset + (address - start))
    }

    /// Shows in the stub what `low..high` of an area (which starts at `start`) holds.
    pub(super) fn show(&self, state: &State, start: u64, area: &Area, low: u64, high: u64, changes: &mut Changes) {
        let mut at = low;
        for (piece_start, piece) in state.pieces.within(low, high) {
            changes.map_file(area, start, at, piece_start, false);
            changes.map_piece(&self.memory, area, piece_start, &piece, false);
            at = piece.end;
        }
        changes.map_file(area, start, at, high, false);
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // No guest thread runs here any more, as far as guests tell the truth: the pages are somebody else's only when the stub is dead
        // (or shows another address space).
        let state = self.state.get_mut();
        let pieces = state.pieces.remove(0, u64::MAX);
        let gathered = state.batch.take().map(|batch| batch.dead).unwrap_or_default();
        let dead = pieces.into_iter().map(|(start, piece)| (piece.offset, piece.offset + (piece.end - start)));
        let dead = self.memory.forget(dead.chain(gathered));
        let memory = self.memory.clone();
        if *self.holds_stub.get_mut() {
            self.host.end(move || memory.reuse(dead));
        } else {
            memory.reuse(dead);
        }
    }
}

/// Changes for the stub, neighbours joined, and the pages to release once they are done.
#[derive(Default)]
pub(super) struct Changes {
    operations: Vec<MapOp>,
    dead: Vec<(u64, u64)>,
}

impl Changes {
    /// Maps a piece as its area says.
    pub fn map_piece(&mut self, memory: &MemoryFile, area: &Area, start: u64, piece: &Piece, populate: bool) {
        let protection = access(area, piece.copy_on_write);
        self.map(MapOp::Map {
            address: start,
            length: piece.end - start,
            protection,
            fd: memory.raw_fd(),
            offset: piece.offset,
            private: false,
            populate,
        });
    }

    /// Maps `low..high` of a file area from its file.
    pub fn map_file(&mut self, area: &Area, start: u64, low: u64, high: u64, populate: bool) {
        if low >= high {
            return;
        }
        if let Some((object, offset)) = area.file_at(start, low) {
            let private = !area.shared();
            let protection = access(area, private);
            let fd = object.raw_fd();
            self.map(MapOp::Map { address: low, length: high - low, protection, fd, offset, private, populate });
        }
    }

    fn map(&mut self, next: MapOp) {
        if let (
            Some(MapOp::Map { address, length, protection, fd, offset, private, populate }),
            MapOp::Map {
                address: address2,
                length: length2,
                protection: protection2,
                fd: fd2,
                offset: offset2,
                private: private2,
                populate: populate2,
            },
        ) = (self.operations.last_mut(), next)
            && *address + *length == address2
            && *offset + *length == offset2
            && (*fd, *private, *populate, *protection) == (fd2, private2, populate2, protection2)
        {
            *length += length2;
            return;
        }
        self.operations.push(next);
    }

    /// Unmaps.
    pub fn unmap(&mut self, low: u64, high: u64) {
        if let Some(MapOp::Unmap { address, length }) = self.operations.last_mut()
            && *address + *length == low
        {
            *length += high - low;
            return;
        }
        self.operations.push(MapOp::Unmap { address: low, length: high - low });
    }

    /// Changes access.
    pub fn protect(&mut self, low: u64, high: u64, protection: Protection) {
        if let Some(MapOp::Protect { address, length, protection: last }) = self.operations.last_mut()
            && *address + *length == low
            && *last == protection
        {
            *length += high - low;
            return;
        }
        self.operations.push(MapOp::Protect { address: low, length: high - low, protection });
    }

    /// Leaves out what was to be mapped so far: all of it will be shown anew.
    pub fn show_nothing(&mut self) {
        self.operations.clear();
    }

    /// Has a piece's pages released afterwards.
    pub fn release(&mut self, start: u64, piece: &Piece) {
        self.dead.push((piece.offset, piece.offset + (piece.end - start)));
    }
}

/// The access that the stub gets: the area's, without write where a write must come to the sentry first.
pub(super) fn access(area: &Area, trap_writes: bool) -> Protection {
    if trap_writes { area.protection - Protection::WRITE } else { area.protection }
}
