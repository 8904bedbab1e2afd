//! What at a call site can be replaced by a jump.

use crate::platform::Registers;

const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// mov 8(%rsp),%r9: the sixth argument of glibc's syscall(3).
const SIXTH_ARGUMENT: [u8; 5] = [0x4c, 0x8b, 0x4c, 0x24, 0x08];
/// xor %eax,%eax: the number of read(2).
const ZERO: [u8; 2] = [0x31, 0xc0];
const MOVE: u8 = 0xb8;
const JUMP: u8 = 0xe9;
/// Bytes of a jump.
const JUMP_LENGTH: usize = 5;

/// An instruction that can be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its offset in the page.
    pub start: usize,
    /// How many bytes of it the thunk must carry out before the call; they are position-independent.
    pub moved: usize,
    /// Offset in the page of what follows the `syscall`.
    pub end: usize,
    /// How many bytes change.
    pub changed: usize,
    /// The jump's displacement without its lowest byte where the bytes that follow decide it; `None` where any will do.
    pub fixed: Option<i32>,
}

impl Candidate {
    /// Where the jump comes from, as displacements count: its end.
    pub fn origin(&self) -> usize {
        self.start + JUMP_LENGTH
    }

    /// Puts the jump into the page.
    pub fn apply(&self, page: &mut [u8], displacement: i32) {
        debug_assert!(self.fixed.is_none_or(|fixed| displacement & !0xff == fixed));
        let jump = displacement.to_le_bytes();
        page[self.start] = JUMP;
        page[self.start + 1..self.start + self.changed].copy_from_slice(&jump[..self.changed - 1]);
    }
}

/// What can be replaced at the call that ends at `end` in a page, rather those that come first. `registers` are those of the
/// trap: they tell whether what looks like an instruction before it was one.
pub fn candidates(page: &[u8], end: usize, registers: &Registers) -> Vec<Candidate> {
    let mut found = Vec::new();
    let Some(call) = end.checked_sub(SYSCALL.len()).filter(|call| page.get(*call..end) == Some(&SYSCALL)) else {
        return found;
    };
    if let Some(start) = call.checked_sub(JUMP_LENGTH) {
        let before = &page[start..call];
        let number = before[0] == MOVE && !prefixed(page, start) && before[1..] == (registers.rax as u32).to_le_bytes();
        let rare = number && is_rare(registers.rax);
        if (number && registers.rax <= u64::from(u32::MAX) && !rare) || before == SIXTH_ARGUMENT {
            found.push(Candidate { start, moved: JUMP_LENGTH, end, changed: JUMP_LENGTH, fixed: None });
        }
        if rare {
            return found;
        }
    }
    found.extend(punned(page, call, 0, end));
    if let Some(start) = call.checked_sub(ZERO.len())
        && page[start..call] == ZERO
        && registers.rax == 0
        && !prefixed(page, start)
    {
        found.extend(punned(page, start, ZERO.len(), end));
    }
    found
}

/// A jump over an instruction of two bytes, of which the following three are a part.
fn punned(page: &[u8], start: usize, moved: usize, end: usize) -> Option<Candidate> {
    let tail = page.get(start + 2..start + JUMP_LENGTH)?;
    let fixed = i32::from_le_bytes([0, tail[0], tail[1], tail[2]]);
    Some(Candidate { start, moved, end, changed: 2, fixed: Some(fixed) })
}

/// Whether the byte before could be a prefix, which would make it another instruction.
fn prefixed(page: &[u8], start: usize) -> bool {
    start.checked_sub(1).is_none_or(|before| matches!(page[before], 0x40..=0x4f | 0x66 | 0xf2 | 0xf3 | 0x0f))
}

/// Calls that are rare, or need a signal's frame anyway.
fn is_rare(number: u64) -> bool {
    matches!(
        number as i64,
        libc::SYS_clone
            | libc::SYS_clone3
            | libc::SYS_fork
            | libc::SYS_vfork
            | libc::SYS_execve
            | libc::SYS_execveat
            | libc::SYS_exit
            | libc::SYS_exit_group
            | libc::SYS_rt_sigreturn
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bytes: &[u8], rax: u64) -> Vec<Candidate> {
        let end = bytes.windows(2).rposition(|pair| pair == SYSCALL).unwrap() + 2;
        candidates(bytes, end, &Registers { rax, ..Registers::default() })
    }

    #[test]
    fn a_number_is_replaced_and_leaves_the_syscall_instruction() {
        // nop; mov $39,%eax; syscall; ret; nops
        let mut page = [0x90, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x90, 0x90];
        let found = at(&page, 39);
        assert_eq!(found[0], Candidate { start: 1, moved: 5, end: 8, changed: 5, fixed: None });
        found[0].apply(&mut page, 0x1234_5678);
        assert_eq!(page, [0x90, 0xe9, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x05, 0xc3, 0x90, 0x90]);
    }

    #[test]
    fn bytes_that_were_not_the_instruction_are_left_alone() {
        // mov $39,%r8d; syscall: rax is something else, or happens to be the same.
        let page = [0x41, 0xb8, 39, 0, 0, 0, 0x0f, 0x05];
        assert_eq!(at(&page, 39), []);
        // mov $39,%eax before a syscall with another number.
        let page = [0x90, 0xb8, 39, 0, 0, 0, 0x0f, 0x05];
        assert_eq!(at(&page, 40), []);
        // xor %r8d,%eax's tail; and numbers whose calls need everything.
        let page = [0x90, 0x90, 0x45, 0x31, 0xc0, 0x0f, 0x05];
        assert_eq!(at(&page, 0), []);
        let page = [0x90, 0xb8, 56, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0x01];
        assert_eq!(at(&page, 56), []);
    }

    #[test]
    fn a_syscall_becomes_a_jump_that_shares_bytes_with_what_follows() {
        // syscall; cmp $-4095,%rax (Go, glibc's syscall)
        let mut page = [0x90, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff];
        let found = at(&page, 1);
        assert_eq!(found, [Candidate { start: 1, moved: 0, end: 3, changed: 2, fixed: Some(0x013d_4800) }]);
        found[0].apply(&mut page, 0x013d_4821);
        assert_eq!(page, [0x90, 0xe9, 0x21, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff]);
        // xor %eax,%eax; syscall; cmp $-4096,%rax (glibc's read)
        let page = [0x90, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff];
        let found = at(&page, 0);
        assert_eq!(
            found.iter().map(|c| (c.start, c.moved, c.fixed)).collect::<Vec<_>>(),
            [(3, 0, Some(0x003d_4800)), (1, 2, Some(0x4805_0f00))]
        );
    }

    #[test]
    fn a_site_at_a_border_of_its_page_is_left_alone() {
        assert_eq!(at(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05], 39), [], "what is before is not known");
        assert_eq!(at(&[0x90, 0x0f, 0x05, 0x48, 0x3d], 39), []);
        assert_eq!(candidates(&[0x05, 0x90], 1, &Registers::default()), []);
    }
}
