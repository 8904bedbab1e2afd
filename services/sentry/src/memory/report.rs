//! What /proc shows of an address space.

use super::{
    AddressSpace,
    areas::{Area, AreaFlags, Backing},
    space::State,
};
use crate::platform::Protection;

/// One line of /proc/self/maps.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct MapLine {
    pub start: u64,
    pub end: u64,
    pub protection: Protection,
    pub shared: bool,
    pub offset: u64,
    pub device: u64,
    pub inode: u64,
    pub name: Vec<u8>,
    /// Bytes present.
    pub resident: u64,
}

impl MapLine {
    /// The access as maps shows it: `r-xp`.
    pub fn access(&self) -> String {
        let letter = |flag, letter| if self.protection.contains(flag) { letter } else { '-' };
        let shared = if self.shared { 's' } else { 'p' };
        let letters = [letter(Protection::READ, 'r'), letter(Protection::WRITE, 'w'), letter(Protection::EXECUTE, 'x'), shared];
        letters.iter().collect()
    }
}

/// Sizes for /proc/self/stat, status and statm, in bytes.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct MemoryUsage {
    pub virtual_size: u64,
    pub resident: u64,
    pub peak_virtual: u64,
    pub peak_resident: u64,
    pub data: u64,
    pub stack: u64,
    pub text: u64,
    pub shared: u64,
}

/// What the loader noted of the program (prctl PR_SET_MM's fields; /proc/self/stat, cmdline, environ, auxv).
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ProgramLayout {
    pub code_start: u64,
    pub code_end: u64,
    pub data_start: u64,
    pub data_end: u64,
    pub brk_start: u64,
    pub stack_start: u64,
    pub arguments: (u64, u64),
    pub environment: (u64, u64),
    pub auxiliary: Vec<(u64, u64)>,
}

impl AddressSpace {
    /// Lines of /proc/self/maps.
    pub fn maps(&self) -> Vec<MapLine> {
        let state = self.state.lock();
        let mut files = Vec::new();
        let line = |(start, area): (u64, &Area)| {
            let mut line = MapLine {
                start,
                end: area.end,
                protection: area.protection,
                shared: area.shared(),
                offset: 0,
                device: 0,
                inode: 0,
                name: Vec::new(),
                resident: self.resident(&state, start, area),
            };
            match &area.backing {
                Backing::File(object, offset) => {
                    line.offset = *offset;
                    line.device = object.file.device;
                    line.inode = object.file.inode;
                    files.push((start, object.clone()));
                }
                Backing::Vvar => line.name = b"[vvar]".to_vec(),
                Backing::Vdso => line.name = b"[vdso]".to_vec(),
                Backing::Anonymous if area.shared() => line.name = b"/dev/zero (deleted)".to_vec(),
                Backing::Anonymous if area.flags.contains(AreaFlags::HEAP) => line.name = b"[heap]".to_vec(),
                Backing::Anonymous if area.flags.contains(AreaFlags::STACK) => line.name = b"[stack]".to_vec(),
                Backing::Anonymous => {}
            }
            line
        };
        let mut lines: Vec<MapLine> = state.areas.iter().map(line).collect();
        drop(state);
        // Only now: a file's name may have to be asked of vfs.
        for (start, object) in files {
            if let Ok(i) = lines.binary_search_by_key(&start, |line| line.start) {
                lines[i].name = (object.file.name)();
            }
        }
        lines
    }

    /// The most bytes that were in memory at a time, for getrusage(2) and wait4(2). What [`AddressSpace::usage`] counted is
    /// exact; beyond that it is a bound, because processes ask for it and end often, and the host finds out how much of a
    /// range exists page by page only.
    pub fn peak_resident(&self) -> u64 {
        let mut state = self.state.lock();
        let mut pieces = 0;
        let mut files = 0;
        for (start, area) in state.areas.iter() {
            let here: u64 = state.pieces.within(start, area.end).map(|(low, piece)| piece.end - low).sum();
            pieces += here;
            if matches!(area.backing, Backing::File(..)) && !area.protection.is_empty() {
                files += area.end - start - here;
            }
        }
        state.peak_resident = state.peak_resident.max(pieces.min(self.memory.used()) + files);
        state.peak_resident
    }

    /// Bytes of an area that are in memory. Which pages of a file the host has mapped is not known: all of them count.
    fn resident(&self, state: &State, start: u64, area: &Area) -> u64 {
        let pieces: u64 = state
            .pieces
            .within(start, area.end)
            .map(|(low, piece)| self.memory.resident(piece.offset, piece.offset + (piece.end - low)))
            .sum();
        let file: u64 = match &area.backing {
            Backing::File(..) if !area.protection.is_empty() => {
                state.pieces.gaps(start, area.end).iter().map(|(low, high)| high - low).sum()
            }
            _ => 0,
        };
        pieces + file
    }

    /// Sizes.
    pub fn usage(&self) -> MemoryUsage {
        let mut state = self.state.lock();
        let mut usage = MemoryUsage { virtual_size: state.areas.total(), data: state.areas.data(), ..MemoryUsage::default() };
        for (start, area) in state.areas.iter() {
            let length = area.end - start;
            let resident = self.resident(&state, start, area);
            usage.resident += resident;
            match &area.backing {
                Backing::File(..) => usage.shared += resident,
                _ if area.shared() => usage.shared += resident,
                _ => {}
            }
            if area.flags.contains(AreaFlags::STACK) {
                usage.stack += length;
            }
            let executable = area.protection.contains(Protection::EXECUTE) && !area.protection.contains(Protection::WRITE);
            if executable && matches!(area.backing, Backing::File(..)) {
                usage.text += length;
            }
        }
        state.peak_virtual = state.peak_virtual.max(usage.virtual_size);
        state.peak_resident = state.peak_resident.max(usage.resident);
        usage.peak_virtual = state.peak_virtual;
        usage.peak_resident = state.peak_resident;
        usage
    }

    /// What the loader noted.
    pub fn layout(&self) -> ProgramLayout {
        self.state.lock().layout.clone()
    }

    /// Changes what the loader noted.
    pub fn set_layout(&self, layout: ProgramLayout) {
        self.state.lock().layout = layout;
    }
}
