//! Maps a program and its dynamic linker, and says where things are.

use bulkhead_ipc::Errno;

use super::{elf, random};
use crate::{
    abi::{PAGE_SIZE, UserAddress, page_down, page_up},
    memory::{AddressSpace, AreaFlags, Limits, MapRequest, MappableFile, Placement, ProgramLayout, Source},
    platform::{Protection, Vdso},
};

/// How far the stack's top may be moved (16 GiB), and top-down placement below it (1 TiB), as on Linux.
const STACK_RANDOM: u64 = 1 << 34;
const MMAP_RANDOM: u64 = 1 << 40;
/// How far the heap may be moved from the program.
const HEAP_RANDOM: u64 = 32 << 20;
/// Least room for the stack below its top.
const LEAST_GAP: u64 = 128 << 20;

/// Where the parts of an address space go.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// One past the stack.
    pub stack_top: u64,
    /// Top-down placement starts here.
    pub mmap_top: u64,
    /// Where a relocatable program goes.
    pub program: u64,
    /// Whether addresses are random.
    pub randomise: bool,
}

impl Places {
    /// Chooses them.
    pub fn choose(guest_end: u64, vdso: Vdso, stack_limit: u64, randomise: bool) -> Places {
        let random = |bound: u64| if randomise { page_down(random::below(bound)) } else { 0 };
        // The vDSO's place is fixed; where it is near the top, the stack goes below it.
        let top = if vdso.data_start > guest_end / 2 { guest_end.min(vdso.data_start) } else { guest_end };
        let top = page_down(top).saturating_sub(PAGE_SIZE);
        let gap = page_down(stack_limit.clamp(LEAST_GAP, guest_end / 6 * 5));
        let mmap_top = top.saturating_sub(gap.saturating_add(STACK_RANDOM + (1 << 20) + random(MMAP_RANDOM)));
        Places {
            stack_top: top - random(STACK_RANDOM),
            mmap_top: mmap_top.max(page_down(guest_end / 6)),
            program: page_down(guest_end / 3 * 2) + random(MMAP_RANDOM),
            randomise,
        }
    }
}

/// A mapped program.
pub struct Image {
    /// Where to start: the dynamic linker's entry, or else the program's.
    pub entry: u64,
    /// AT_ENTRY.
    pub program_entry: u64,
    /// AT_PHDR.
    pub headers_address: u64,
    /// AT_PHNUM.
    pub headers_count: u64,
    /// AT_BASE: where the dynamic linker is, or 0.
    pub linker_base: u64,
    /// What /proc shows.
    pub layout: ProgramLayout,
}

/// Maps the program and its dynamic linker, and starts the heap behind the program.
pub fn map(
    memory: &AddressSpace,
    source: &MappableFile,
    program: &elf::Program,
    linker: Option<&(MappableFile, elf::Program)>,
    places: &Places,
    limits: &Limits,
) -> Result<Image, Errno> {
    let placement = match (program.relocatable, linker.is_some()) {
        (true, true) => Placement::Hint(places.program),
        // A program that needs no linker may be one: it goes where libraries go, and its heap where programs go.
        (true, false) => Placement::Hint(0),
        (false, _) => Placement::FixedNoReplace(0),
    };
    let bias = map_segments(memory, source, program, placement, limits)?;
    let end = program.extent().1.wrapping_add(bias);
    let heap = if program.relocatable && linker.is_none() { places.program } else { end };
    let heap = heap + if places.randomise { page_down(random::below(HEAP_RANDOM)) } else { 0 };
    memory.set_heap(heap);

    let entry = program.entry.wrapping_add(bias);
    let mut image = Image {
        entry,
        program_entry: entry,
        headers_address: if program.headers_address == 0 { 0 } else { program.headers_address.wrapping_add(bias) },
        headers_count: program.headers_count,
        linker_base: 0,
        layout: layout(program, bias, heap),
    };
    if let Some((source, linker)) = linker {
        let placement = if linker.relocatable { Placement::Hint(0) } else { Placement::FixedNoReplace(0) };
        let bias = map_segments(memory, source, linker, placement, limits)?;
        image.linker_base = bias;
        image.entry = linker.entry.wrapping_add(bias);
    }
    Ok(image)
}

/// Maps all segments; by how much they were moved.
fn map_segments(
    memory: &AddressSpace,
    source: &MappableFile,
    program: &elf::Program,
    placement: Placement,
    limits: &Limits,
) -> Result<u64, Errno> {
    let (low, high) = program.extent();
    let span = high - low;
    // A place for all of them is found first, with room to align.
    let slack = program.alignment - PAGE_SIZE;
    let (placement, length) = match placement {
        Placement::Hint(wish) => {
            (Placement::Hint(wish & !(program.alignment - 1)), span.checked_add(slack).ok_or(Errno::ENOMEM)?)
        }
        _ => (Placement::FixedNoReplace(low), span),
    };
    let reservation = MapRequest {
        placement,
        length,
        protection: Protection::empty(),
        flags: AreaFlags::NO_RESERVE,
        source: Source::Anonymous,
        populate: false,
    };
    let start = memory.map(&reservation, limits)?;
    memory.unmap(start, length)?;
    let base = if program.relocatable {
        // Congruent to the first segment's address by the alignment, as the file wants it.
        let wanted = low & (program.alignment - 1);
        let aligned = (start & !(program.alignment - 1)) + wanted;
        if aligned < start { aligned + program.alignment } else { aligned }
    } else {
        low
    };
    let base = if base + span > start + length { start } else { base };
    let bias = base.wrapping_sub(low);
    for segment in &program.segments {
        map_segment(memory, source, segment, bias, limits)?;
    }
    Ok(bias)
}

fn map_segment(
    memory: &AddressSpace,
    source: &MappableFile,
    segment: &elf::Segment,
    bias: u64,
    limits: &Limits,
) -> Result<(), Errno> {
    let start = segment.address.wrapping_add(bias);
    let file_end = start + segment.file_size;
    let end = start + segment.memory_size;
    let mut request = MapRequest {
        placement: Placement::Fixed(page_down(start)),
        length: 0,
        protection: segment.protection,
        flags: AreaFlags::empty(),
        source: Source::File(source.clone(), page_down(segment.offset)),
        populate: false,
    };
    let mut mapped = page_down(start);
    if segment.file_size > 0 {
        mapped = page_up(file_end).ok_or(Errno::ENOMEM)?;
        request.length = mapped - page_down(start);
        memory.map(&request, limits)?;
        // What follows in the last page is the file's, but belongs to the program's zeros. Without write permission it has to stay.
        let rest = mapped.min(end) - file_end;
        if rest > 0 && segment.protection.contains(Protection::WRITE) {
            memory.zero(UserAddress(file_end), mapped - file_end).map_err(|_| Errno::ENOEXEC)?;
        }
    }
    let end = page_up(end).ok_or(Errno::ENOMEM)?;
    if end > mapped {
        request.placement = Placement::Fixed(mapped);
        request.length = end - mapped;
        request.source = Source::Anonymous;
        memory.map(&request, limits)?;
    }
    Ok(())
}

fn layout(program: &elf::Program, bias: u64, heap: u64) -> ProgramLayout {
    let mut layout = ProgramLayout { code_start: u64::MAX, brk_start: heap, ..ProgramLayout::default() };
    for segment in &program.segments {
        let start = segment.address.wrapping_add(bias);
        let end = start + segment.file_size;
        if segment.protection.contains(Protection::EXECUTE) {
            layout.code_start = layout.code_start.min(start);
            layout.code_end = layout.code_end.max(end);
        }
        layout.data_start = layout.data_start.max(start);
        layout.data_end = layout.data_end.max(end);
    }
    layout.code_start = layout.code_start.min(layout.data_end);
    layout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MIN_ADDRESS;

    #[test]
    fn places_are_in_order_whatever_the_stack_limit() {
        let end = 0x7fff_ffff_f000;
        for (vdso, limit) in [(end - 0x10000, 8 << 20), (0x10_0000, u64::MAX), (end, 0)] {
            let vdso = Vdso { data_start: vdso, code_start: vdso + 0x4000, code_end: vdso + 0x6000 };
            for randomise in [false, true] {
                let places = Places::choose(end, vdso, limit, randomise);
                assert!(places.mmap_top + LEAST_GAP <= places.stack_top, "{places:?}");
                assert!(places.stack_top < end && places.mmap_top > MIN_ADDRESS && places.program < end);
                assert_eq!((places.stack_top | places.mmap_top | places.program) % PAGE_SIZE, 0);
            }
        }
    }
}
