//! Unwind tables: whether what a signal's handler returns to is known there as a signal frame.
//!
//! Only the forms that GNU and LLVM linkers write are understood: the sorted table that a program header names, or else the section that
//! static programs have. Whatever else there is means "not known".

use object::{
    LittleEndian,
    elf::{FileHeader64, PT_GNU_EH_FRAME, PT_LOAD, ProgramHeader64, SectionHeader64},
    pod::{self, Pod},
};

/// Sections that are read at most, and bytes of one.
const MOST_SECTIONS: usize = 256;
const MOST_BYTES: u64 = 1 << 20;
const SECTION: &[u8] = b".eh_frame\0";
/// Program headers that are read at most.
const MOST_HEADERS: usize = 64;
/// Offsets from the place of the number, signed, 4 bytes.
const RELATIVE_TO_PLACE: u8 = 0x1b;
/// How `.eh_frame_hdr` begins: version 1, where the table is, how many entries (4 bytes), the entries' form (4 bytes, signed, from the start on).
const TABLE: [u8; 4] = [1, RELATIVE_TO_PLACE, 0x03, 0x3b];
const TABLE_HEADER: u64 = 12;
const TABLE_ENTRY: u64 = 8;

/// Whether the unwind table of an ELF file, which `read` reads at an offset, says of the instruction at an offset in the file that it
/// belongs to a signal frame.
pub fn is_signal_frame(read: impl Fn(u64, &mut [u8]) -> usize, offset: u64) -> bool {
    File::open(&read).and_then(|file| file.find(offset)).unwrap_or(false)
}

struct File<'a> {
    read: &'a dyn Fn(u64, &mut [u8]) -> usize,
    header: FileHeader64<LittleEndian>,
    /// Offset in the file, address, size.
    segments: Vec<(u64, u64, u64)>,
    table: Option<u64>,
}

impl<'a> File<'a> {
    fn open(read: &'a dyn Fn(u64, &mut [u8]) -> usize) -> Option<File<'a>> {
        let mut bytes = [0; size_of::<FileHeader64<LittleEndian>>()];
        fill(read, 0, &mut bytes)?;
        let header = *pod::from_bytes::<FileHeader64<LittleEndian>>(&bytes).ok()?.0;
        let count = usize::from(header.e_phnum.get(LittleEndian)).min(MOST_HEADERS);
        let headers: Vec<ProgramHeader64<LittleEndian>> = array(read, header.e_phoff.get(LittleEndian), count)?;
        let place = |header: &ProgramHeader64<LittleEndian>| {
            (header.p_offset.get(LittleEndian), header.p_vaddr.get(LittleEndian), header.p_filesz.get(LittleEndian))
        };
        let of_type = |wanted| headers.iter().filter(move |header| header.p_type.get(LittleEndian) == wanted).map(place);
        let table = of_type(PT_GNU_EH_FRAME).next().map(|(_, address, _)| address);
        Some(File { read, header, segments: of_type(PT_LOAD).collect(), table })
    }

    fn find(&self, offset: u64) -> Option<bool> {
        let (start, base, _) = self.segments.iter().find(|(start, _, size)| offset.wrapping_sub(*start) < *size)?;
        let address = base.wrapping_add(offset - start);
        match self.table {
            Some(table) => self.find_in_table(table, address),
            None => self.find_in_section(address),
        }
    }

    fn find_in_table(&self, table: u64, address: u64) -> Option<bool> {
        if self.bytes::<4>(table)? != TABLE {
            return None;
        }
        let count = u64::from(u32::from_le_bytes(self.bytes(table.wrapping_add(8))?));
        // The last entry that begins at the address or before.
        let entry = |index: u64| table.wrapping_add(TABLE_HEADER + index * TABLE_ENTRY);
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            match table.wrapping_add_signed(self.number(entry(middle))?) <= address {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let description = table.wrapping_add_signed(self.number(entry(low.checked_sub(1)?).wrapping_add(4))?);
        self.describes(description, address)
    }

    /// Goes through all descriptions.
    fn find_in_section(&self, address: u64) -> Option<bool> {
        let count = usize::from(self.header.e_shnum.get(LittleEndian)).min(MOST_SECTIONS);
        let sections: Vec<SectionHeader64<LittleEndian>> = array(self.read, self.header.e_shoff.get(LittleEndian), count)?;
        let names = sections.get(usize::from(self.header.e_shstrndx.get(LittleEndian).0))?.sh_offset.get(LittleEndian);
        let section = sections.iter().find(|section| {
            let mut name = [0; SECTION.len()];
            let at = names.wrapping_add(section.sh_name.get(LittleEndian).into());
            fill(self.read, at, &mut name).is_some() && name == SECTION
        })?;
        let (start, size) = (section.sh_addr.get(LittleEndian), section.sh_size.get(LittleEndian));
        let mut bytes = vec![0; usize::try_from(size).ok().filter(|_| size <= MOST_BYTES)?];
        fill(self.read, section.sh_offset.get(LittleEndian), &mut bytes)?;
        let number = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let mut at = 0;
        while let (Some(length @ 1..=0xffff_fff0), Some(common)) = (number(at), number(at + 4)) {
            // Only a description says where what is common to several is; of those, one in some thousands covers the address.
            let start_place = start.wrapping_add(at as u64 + 8);
            let covers = number(at + 8).zip(number(at + 12)).is_some_and(|(first, size)| {
                address.wrapping_sub(start_place.wrapping_add_signed(i64::from(first as i32))) < u64::from(size)
            });
            if common != 0 && covers {
                return self.describes(start.wrapping_add(at as u64), address);
            }
            at = at.checked_add(4)?.checked_add(length as usize)?;
        }
        None
    }

    /// Whether a frame description covers the address, and is one of a signal frame.
    fn describes(&self, description: u64, address: u64) -> Option<bool> {
        let common =
            description.wrapping_add(4).wrapping_sub(u64::from(u32::from_le_bytes(self.bytes(description.wrapping_add(4))?)));
        // Version 1, augmentation "zRS": there is a length, the encoding of addresses, and signal frames. Then alignments and a register
        // number of one byte each, the length 1, the encoding.
        let [.., version, z, r, s, zero, _, _, _, length, encoding] = self.bytes::<18>(common)?;
        if (version, [z, r, s, zero], length, encoding) != (1, *b"zRS\0", 1, RELATIVE_TO_PLACE) {
            return Some(false);
        }
        let place = description.wrapping_add(8);
        let start = place.wrapping_add_signed(self.number(place)?);
        let length = u64::from(u32::from_le_bytes(self.bytes(place.wrapping_add(4))?));
        Some(address.wrapping_sub(start) < length)
    }

    fn number(&self, address: u64) -> Option<i64> {
        Some(i64::from(i32::from_le_bytes(self.bytes(address)?)))
    }

    fn bytes<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let (start, base, _) = self.segments.iter().find(|(_, base, size)| address.wrapping_sub(*base) < *size)?;
        let mut bytes = [0; N];
        fill(self.read, start.checked_add(address - base)?, &mut bytes)?;
        Some(bytes)
    }
}

/// So many structures from an offset on.
fn array<T: Pod>(read: &dyn Fn(u64, &mut [u8]) -> usize, offset: u64, count: usize) -> Option<Vec<T>> {
    let mut bytes = vec![0; count * size_of::<T>()];
    fill(read, offset, &mut bytes)?;
    Some(pod::slice_from_all_bytes::<T>(&bytes).ok()?.to_vec())
}

fn fill(read: &dyn Fn(u64, &mut [u8]) -> usize, offset: u64, into: &mut [u8]) -> Option<()> {
    (read(offset, into) == into.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Where in a C library, or a program that has it in itself, handlers return to.
    fn restorer(path: &str) -> (std::fs::File, u64) {
        let bytes = std::fs::read(path).unwrap();
        let code = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
        let at = bytes.windows(code.len()).position(|window| window == code).unwrap();
        (std::fs::File::open(path).unwrap(), at as u64)
    }

    fn only_the_restorer_is_a_signal_frame(path: &str) {
        let (file, at) = restorer(path);
        let read = |offset: u64, into: &mut [u8]| file.read_at(into, offset).unwrap_or(0);
        assert!(is_signal_frame(read, at) && is_signal_frame(read, at + 7), "{path}");
        assert!(!is_signal_frame(read, at + 0x400) && !is_signal_frame(read, at - 0x400), "{path}");
    }

    #[test]
    fn the_c_librarys_restorer_is_known_as_a_signal_frame_and_its_other_code_is_not() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("/libc.so")));
        only_the_restorer_is_a_signal_frame(path.unwrap());
    }

    #[test]
    fn a_static_program_has_no_sorted_table_and_its_restorer_is_found_all_the_same() {
        let path = std::env::temp_dir().join(format!("bulkhead-unwind-{}", std::process::id()));
        let mut compiler = std::process::Command::new("cc")
            .args(["-static", "-x", "c", "-", "-o"])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(
            &mut compiler.stdin.take().unwrap(),
            b"#include <signal.h>\nint main() { return raise(0) + !sigaction; }",
        )
        .unwrap();
        assert!(compiler.wait().unwrap().success());
        only_the_restorer_is_a_signal_frame(path.to_str().unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nonsense_is_no_signal_frame() {
        assert!(!is_signal_frame(
            |_, into| {
                into.fill(0xff);
                into.len()
            },
            0x1000
        ));
        assert!(!is_signal_frame(|_, _| 0, 0));
    }
}
