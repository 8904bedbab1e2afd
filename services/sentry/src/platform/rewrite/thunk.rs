//! The thunk's code.

use super::Thunks;

/// A thunk's bytes, without what it carries out first.
pub const LENGTH: usize = 47;

/// A thunk to be written.
#[derive(Clone, Copy, Debug)]
pub struct Thunk<'a> {
    /// What it carries out first.
    pub moved: &'a [u8],
    /// From the thunk's first byte to what follows the `syscall` instruction.
    pub back: i64,
}

/// Where in a thunk a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// So many bytes into what was moved: as if it were so far into the site.
    Before(usize),
    /// Behind it, before the call; rcx and r11 are not what they were.
    Middle,
    /// Behind the call that is made when gs is in use.
    End,
}

impl Thunk<'_> {
    /// Its bytes; `None` when it is too far away.
    pub fn bytes(&self, thunks: &Thunks) -> Option<Vec<u8>> {
        let mut code = Vec::with_capacity(self.moved.len() + LENGTH);
        code.extend_from_slice(self.moved);
        code.extend([0xf3, 0x48, 0x0f, 0xae, 0xc9]); // rdgsbase %rcx
        code.extend([0x65, 0x4c, 0x8b, 0x1c, 0x25]); // mov %gs:negated,%r11
        code.extend(thunks.negated.to_le_bytes());
        code.extend([0x4a, 0x8d, 0x0c, 0x19]); // lea (%rcx,%r11),%rcx
        code.extend([0xe3, 0x07]); // jrcxz 1f
        code.extend([0x0f, 0x05]); // syscall
        code.push(0xe9); // jmp back
        code.extend(self.displacement(code.len() + 4)?);
        code.extend([0x48, 0x8d, 0x0d]); // 1: lea back(%rip),%rcx
        code.extend(self.displacement(code.len() + 4)?);
        code.extend([0x49, 0xbb]); // movabs $entry,%r11
        code.extend(thunks.entry.to_le_bytes());
        code.extend([0x41, 0xff, 0xe3]); // jmp *%r11
        debug_assert_eq!(code.len(), self.moved.len() + LENGTH);
        Some(code)
    }

    fn displacement(&self, from: usize) -> Option<[u8; 4]> {
        Some(i32::try_from(self.back - from as i64).ok()?.to_le_bytes())
    }
}

impl Place {
    /// Where a thread at this offset of a thunk is that moved so many bytes.
    pub fn at(offset: usize, moved: usize) -> Place {
        match offset {
            0 => Place::Before(0),
            offset if offset < moved => Place::Before(offset),
            offset if offset == moved + 22 => Place::End,
            _ => Place::Middle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thunk_goes_back_behind_the_call() {
        let thunk = Thunk { moved: &[0x31, 0xc0], back: -0x1000 };
        let code = thunk.bytes(&Thunks { entry: 0x7ffe_0000_0040, negated: 0x58 }).unwrap();
        let call = code.windows(2).position(|pair| pair == [0x0f, 0x05]).unwrap();
        assert_eq!(Place::at(call + 2, 2), Place::End);
        assert_eq!((Place::at(0, 0), Place::at(5, 9), Place::at(9, 9)), (Place::Before(0), Place::Before(5), Place::Middle));
        assert_eq!(code[call + 2], 0xe9);
        let jump = i32::from_le_bytes(code[call + 3..call + 7].try_into().unwrap());
        assert_eq!(call as i64 + 7 + i64::from(jump), -0x1000);
        let load = i32::from_le_bytes(code[call + 10..call + 14].try_into().unwrap());
        assert_eq!(call as i64 + 14 + i64::from(load), -0x1000);
        // The jump over the slow way ends where the address is loaded.
        assert_eq!(call + usize::from(code[call - 1]), call + 7);
        assert!(Thunk { moved: &[], back: 1 << 32 }.bytes(&Thunks { entry: 0, negated: 0 }).is_none());
    }
}
