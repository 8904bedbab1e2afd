//! ELF headers, read with suspicion: whatever comes out of here can be mapped without overflow.

use bulkhead_ipc::Errno;
use object::{
    LittleEndian,
    elf::{
        ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP,
        PT_LOAD, ProgramHeader64,
    },
    pod,
};

use crate::{
    abi::{PAGE_SIZE, page_down, page_up},
    platform::Protection,
};

/// Program headers that are read at most (Linux: 64 KiB of them).
const MOST_HEADERS: usize = (64 << 10) / size_of::<ProgramHeader64<LittleEndian>>();
/// Longest path of an interpreter, with its NUL.
const LONGEST_PATH: u64 = 4096;
/// No address of a program may be beyond (the guest's end is lower still).
const HIGHEST: u64 = 1 << 47;

type Header = FileHeader64<LittleEndian>;
type Segment64 = ProgramHeader64<LittleEndian>;

/// A part of the file to be mapped. Addresses are before relocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First byte.
    pub address: u64,
    /// Bytes from the file; at most `memory_size`.
    pub file_size: u64,
    /// Bytes in all.
    pub memory_size: u64,
    /// Where in the file; congruent to the address by pages.
    pub offset: u64,
    /// Access.
    pub protection: Protection,
}

impl Segment {
    /// Its pages.
    pub fn pages(&self) -> (u64, u64) {
        let end = self.address + self.memory_size;
        (page_down(self.address), page_up(end).unwrap_or(end))
    }
}

/// What a program's headers say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Whether it can be loaded anywhere (ET_DYN).
    pub relocatable: bool,
    /// Where it starts.
    pub entry: u64,
    /// Its parts, as they come in the file; at least one.
    pub segments: Vec<Segment>,
    /// PT_INTERP, without the NUL.
    pub interpreter: Option<Vec<u8>>,
    /// PT_GNU_STACK asks for an executable stack.
    pub executable_stack: bool,
    /// Where its program headers are in memory, before relocation; 0 if they are not.
    pub headers_address: u64,
    /// How many.
    pub headers_count: u64,
    /// Alignment for the load address.
    pub alignment: u64,
}

impl Program {
    /// Reads and checks. `read` fills a buffer from an offset and returns how many bytes there were.
    pub fn read(read: impl Fn(u64, &mut [u8]) -> usize) -> Result<Program, Errno> {
        let mut bytes = [0; size_of::<Header>()];
        if read(0, &mut bytes) < bytes.len() {
            return Err(Errno::ENOEXEC);
        }
        let (header, _) = pod::from_bytes::<Header>(&bytes).map_err(|()| Errno::ENOEXEC)?;
        let relocatable = check(header)?;
        let count = usize::from(header.e_phnum.get(LittleEndian));
        let offset = header.e_phoff.get(LittleEndian);
        let mut table = vec![0; count * size_of::<Segment64>()];
        if read(offset, &mut table) < table.len() {
            return Err(Errno::ENOEXEC);
        }
        let (headers, _) = pod::slice_from_bytes::<Segment64>(&table, count).map_err(|()| Errno::ENOEXEC)?;

        let mut program = Program {
            relocatable,
            entry: header.e_entry.get(LittleEndian),
            segments: Vec::new(),
            interpreter: None,
            executable_stack: false,
            headers_address: 0,
            headers_count: count as u64,
            alignment: PAGE_SIZE,
        };
        for header in headers {
            match header.p_type.get(LittleEndian) {
                PT_LOAD => program.add_segment(header, offset)?,
                PT_INTERP if program.interpreter.is_none() => program.interpreter = Some(read_path(header, &read)?),
                PT_GNU_STACK => program.executable_stack = header.p_flags.get(LittleEndian).0 & PF_X.0 != 0,
                _ => {}
            }
        }
        if program.segments.is_empty() {
            return Err(if relocatable { Errno::EINVAL } else { Errno::ENOEXEC });
        }
        Ok(program)
    }

    fn add_segment(&mut self, header: &Segment64, headers_offset: u64) -> Result<(), Errno> {
        let flags = header.p_flags.get(LittleEndian).0;
        let mut protection = Protection::empty();
        protection.set(Protection::READ, flags & PF_R.0 != 0);
        protection.set(Protection::WRITE, flags & PF_W.0 != 0);
        protection.set(Protection::EXECUTE, flags & PF_X.0 != 0);
        let segment = Segment {
            address: header.p_vaddr.get(LittleEndian),
            file_size: header.p_filesz.get(LittleEndian),
            memory_size: header.p_memsz.get(LittleEndian),
            offset: header.p_offset.get(LittleEndian),
            protection,
        };
        if segment.file_size > segment.memory_size
            || segment.address.checked_add(segment.memory_size).is_none_or(|end| end > HIGHEST)
            || segment.offset.checked_add(segment.file_size).is_none_or(|end| end > i64::MAX as u64 - PAGE_SIZE)
        {
            return Err(Errno::EINVAL);
        }
        if segment.address % PAGE_SIZE != segment.offset % PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        let align = header.p_align.get(LittleEndian);
        if align.is_power_of_two() && align < HIGHEST {
            self.alignment = self.alignment.max(align);
        }
        if (segment.offset..segment.offset + segment.file_size).contains(&headers_offset) && self.headers_address == 0 {
            self.headers_address = segment.address + (headers_offset - segment.offset);
        }
        if segment.memory_size > 0 {
            self.segments.push(segment);
        }
        Ok(())
    }

    /// The pages that all segments lie in.
    pub fn extent(&self) -> (u64, u64) {
        let pages = self.segments.iter().map(Segment::pages);
        pages.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1))).unwrap_or_default()
    }
}

/// Whether the header is that of a program for this machine; whether it can be loaded anywhere.
fn check(header: &Header) -> Result<bool, Errno> {
    let ident = &header.e_ident;
    let fits = ident.magic == ELFMAG
        && ident.class == ELFCLASS64
        && ident.data == ELFDATA2LSB
        && header.e_machine.get(LittleEndian) == EM_X86_64
        && usize::from(header.e_phentsize.get(LittleEndian)) == size_of::<Segment64>()
        && (1..=MOST_HEADERS).contains(&usize::from(header.e_phnum.get(LittleEndian)));
    if !fits {
        return Err(Errno::ENOEXEC);
    }
    match header.e_type.get(LittleEndian) {
        ET_EXEC => Ok(false),
        ET_DYN => Ok(true),
        _ => Err(Errno::ENOEXEC),
    }
}

fn read_path(header: &Segment64, read: impl Fn(u64, &mut [u8]) -> usize) -> Result<Vec<u8>, Errno> {
    let size = header.p_filesz.get(LittleEndian);
    if !(2..=LONGEST_PATH).contains(&size) {
        return Err(Errno::ENOEXEC);
    }
    let mut path = vec![0; size as usize];
    if read(header.p_offset.get(LittleEndian), &mut path) < path.len() || path.last() != Some(&0) {
        return Err(Errno::ENOEXEC);
    }
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    path.truncate(end);
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with one header of each kind, to be spoilt by tests.
    fn file() -> Vec<u8> {
        let mut file = vec![0u8; 0x2000];
        let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(&mut file, 0, b"\x7fELF\x02\x01\x01");
        put(&mut file, 16, &3u16.to_le_bytes());
        put(&mut file, 18, &62u16.to_le_bytes());
        put(&mut file, 24, &0x1010u64.to_le_bytes());
        put(&mut file, 32, &64u64.to_le_bytes());
        put(&mut file, 54, &56u16.to_le_bytes());
        put(&mut file, 56, &3u16.to_le_bytes());
        let mut segment = |i: usize, kind: u32, flags: u32, numbers: [u64; 6]| {
            let at = 64 + i * 56;
            put(&mut file, at, &kind.to_le_bytes());
            put(&mut file, at + 4, &flags.to_le_bytes());
            numbers.iter().enumerate().for_each(|(j, n)| put(&mut file, at + 8 + j * 8, &n.to_le_bytes()));
        };
        segment(0, 1, 5, [0, 0x1000, 0x1000, 0x800, 0x1800, 0x1000]);
        segment(1, 3, 4, [0x300, 0x1300, 0x1300, 8, 8, 1]);
        segment(2, 0x6474_e551, 6, [0; 6]);
        put(&mut file, 0x300, b"/ld.so\0\0");
        file
    }

    fn parse(file: &[u8]) -> Result<Program, Errno> {
        Program::read(|offset, into| {
            let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..)).unwrap_or_default();
            let n = rest.len().min(into.len());
            into[..n].copy_from_slice(&rest[..n]);
            n
        })
    }

    fn spoilt(at: usize, bytes: &[u8]) -> Result<Program, Errno> {
        let mut file = file();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        parse(&file)
    }

    #[test]
    fn a_sane_program_is_understood() {
        let program = parse(&file()).unwrap();
        assert_eq!(program.extent(), (0x1000, 0x3000));
        assert_eq!(program.interpreter.as_deref(), Some(&b"/ld.so"[..]));
        assert_eq!((program.headers_address, program.headers_count), (0x1040, 3));
        assert!(program.relocatable && !program.executable_stack);
    }

    #[test]
    fn hostile_headers_are_refused() {
        assert_eq!(parse(&file()[..63]), Err(Errno::ENOEXEC), "truncated header");
        assert_eq!(parse(&file()[..100]), Err(Errno::ENOEXEC), "truncated table");
        assert_eq!(spoilt(0, b"\x7fELG"), Err(Errno::ENOEXEC));
        assert_eq!(spoilt(4, &[1]), Err(Errno::ENOEXEC), "32 bit");
        assert_eq!(spoilt(18, &183u16.to_le_bytes()), Err(Errno::ENOEXEC), "another machine");
        assert_eq!(spoilt(16, &1u16.to_le_bytes()), Err(Errno::ENOEXEC), "an object file");
        assert_eq!(spoilt(54, &32u16.to_le_bytes()), Err(Errno::ENOEXEC), "size of headers");
        assert_eq!(spoilt(56, &0u16.to_le_bytes()), Err(Errno::ENOEXEC), "no headers");
        assert_eq!(spoilt(56, &u16::MAX.to_le_bytes()), Err(Errno::ENOEXEC), "too many headers");
        assert_eq!(spoilt(32, &u64::MAX.to_le_bytes()), Err(Errno::ENOEXEC), "headers beyond the end");
        let first = 64;
        assert_eq!(spoilt(first, &0u32.to_le_bytes()), Err(Errno::EINVAL), "nothing to load");
        assert_eq!(spoilt(first + 32, &0x1801u64.to_le_bytes()), Err(Errno::EINVAL), "more in the file than in memory");
        assert_eq!(spoilt(first + 40, &u64::MAX.to_le_bytes()), Err(Errno::EINVAL), "size overflows");
        assert_eq!(spoilt(first + 16, &(1u64 << 47).to_le_bytes()), Err(Errno::EINVAL), "beyond the end of addresses");
        assert_eq!(spoilt(first + 16, &0x1001u64.to_le_bytes()), Err(Errno::EINVAL), "address and offset disagree");
        let second = first + 56;
        assert_eq!(spoilt(second + 32, &1u64.to_le_bytes()), Err(Errno::ENOEXEC), "path too short");
        assert_eq!(spoilt(second + 32, &5000u64.to_le_bytes()), Err(Errno::ENOEXEC), "path too long");
        assert_eq!(spoilt(second + 32, &6u64.to_le_bytes()), Err(Errno::ENOEXEC), "path without an end");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_header_makes_arithmetic_overflow(changes in proptest::collection::vec((16usize..232, any::<u8>()), 1..12)) {
            let mut file = file();
            changes.into_iter().for_each(|(at, byte)| file[at] = byte);
            if let Ok(program) = parse(&file) {
                let (low, high) = program.extent();
                prop_assert!(low < high && high <= HIGHEST + PAGE_SIZE);
            }
        }
    }
}
