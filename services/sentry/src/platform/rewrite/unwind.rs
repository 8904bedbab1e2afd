//! Unwind tables: whether what a signal's handler returns to is known there as a signal frame.
//!
//! Only the forms that GNU and LLVM linkers write are understood. Whatever else there is means "not known".

use object::{
    LittleEndian,
    elf::{FileHeader64, PT_GNU_EH_FRAME, PT_LOAD, ProgramHeader64},
    pod,
};

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
    /// Offset in the file, address, size.
    segments: Vec<(u64, u64, u64)>,
    table: u64,
}

impl<'a> File<'a> {
    fn open(read: &'a dyn Fn(u64, &mut [u8]) -> usize) -> Option<File<'a>> {
        let mut bytes = [0; size_of::<FileHeader64<LittleEndian>>()];
        fill(read, 0, &mut bytes)?;
        let (header, _) = pod::from_bytes::<FileHeader64<LittleEndian>>(&bytes).ok()?;
        let count = usize::from(header.e_phnum.get(LittleEndian)).min(MOST_HEADERS);
        let mut bytes = vec![0; count * size_of::<ProgramHeader64<LittleEndian>>()];
        fill(read, header.e_phoff.get(LittleEndian), &mut bytes)?;
        let (headers, _) = pod::slice_from_bytes::<ProgramHeader64<LittleEndian>>(&bytes, count).ok()?;
        let place = |header: &ProgramHeader64<LittleEndian>| {
            (header.p_offset.get(LittleEndian), header.p_vaddr.get(LittleEndian), header.p_filesz.get(LittleEndian))
        };
        let of_type = |wanted| headers.iter().filter(move |header| header.p_type.get(LittleEndian) == wanted).map(place);
        let (_, table, _) = of_type(PT_GNU_EH_FRAME).next()?;
        Some(File { read, segments: of_type(PT_LOAD).collect(), table })
    }

    fn find(&self, offset: u64) -> Option<bool> {
        let (start, base, _) = self.segments.iter().find(|(start, _, size)| offset.wrapping_sub(*start) < *size)?;
        let address = base.wrapping_add(offset - start);
        if self.bytes::<4>(self.table)? != TABLE {
            return None;
        }
        let count = u64::from(u32::from_le_bytes(self.bytes(self.table.wrapping_add(8))?));
        // The last entry that begins at the address or before.
        let entry = |index: u64| self.table.wrapping_add(TABLE_HEADER + index * TABLE_ENTRY);
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.table.wrapping_add_signed(self.number(entry(middle))?) <= address {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let description = self.table.wrapping_add_signed(self.number(entry(low.checked_sub(1)?).wrapping_add(4))?);
        self.describes(description, address)
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

fn fill(read: &dyn Fn(u64, &mut [u8]) -> usize, offset: u64, into: &mut [u8]) -> Option<()> {
    (read(offset, into) == into.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// The C library that this program runs with, and where in it handlers return to.
    fn restorer() -> Option<(std::fs::File, u64)> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("/libc.so")))?;
        let bytes = std::fs::read(path).ok()?;
        let code = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
        let at = bytes.windows(code.len()).position(|window| window == code)?;
        Some((std::fs::File::open(path).ok()?, at as u64))
    }

    #[test]
    fn the_c_librarys_restorer_is_known_as_a_signal_frame_and_its_other_code_is_not() {
        let (file, at) = restorer().unwrap();
        let read = |offset: u64, into: &mut [u8]| file.read_at(into, offset).unwrap_or(0);
        assert!(is_signal_frame(read, at) && is_signal_frame(read, at + 7));
        assert!(!is_signal_frame(read, at + 0x400) && !is_signal_frame(read, at - 0x400));
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
