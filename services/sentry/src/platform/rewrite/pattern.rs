//! What at a call site can be replaced by a jump.

use crate::{abi::PAGE_SIZE, platform::Registers};

const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// mov 8(%rsp),%r9: the sixth argument of glibc's syscall(3).
const SIXTH_ARGUMENT: [u8; 5] = [0x4c, 0x8b, 0x4c, 0x24, 0x08];
/// xor %eax,%eax: the number of read(2).
const ZERO: [u8; 2] = [0x31, 0xc0];
/// mov %r11,8(%rsp): what stands before the one cancellable call of musl, and of glibc from 2.41 on.
const STORE: [u8; 5] = [0x4c, 0x89, 0x5c, 0x24, 0x08];
/// What compilers put between `mov $n,%eax` and the `syscall`, up to a last byte that may be anything: xor $n,%sil (futex(2)'s operation), and
/// mov n(%rsp),%edi (a file descriptor that a cancellation point kept).
const BETWEEN: [[u8; 3]; 2] = [[0x40, 0x80, 0xf6], [0x8b, 0x7c, 0x24]];
const BETWEEN_LENGTH: usize = 4;
/// mov $imm32,%rax: what signal handlers return to has it.
const LONG_MOVE: [u8; 3] = [0x48, 0xc7, 0xc0];
const LONG_MOVE_LENGTH: usize = 7;
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

/// What can be replaced at the call that ends at `end` in a page, rather those that come first. `page` may go on with what follows the page,
/// and the call may end there, but only what changes nothing of it, nor depends on it, is given. `registers` are those of the
/// trap: they tell whether what looks like an instruction before it was one.
pub fn candidates(page: &[u8], end: usize, registers: &Registers) -> Vec<Candidate> {
    let mut found = Vec::new();
    let Some(call) = end.checked_sub(SYSCALL.len()).filter(|call| page.get(*call..end) == Some(&SYSCALL)) else {
        return found;
    };
    if is_rare(registers.rax) {
        return found;
    }
    let candidate = |start, moved| Candidate { start, moved, end, changed: JUMP_LENGTH, fixed: None };
    if let Some(start) = call.checked_sub(LONG_MOVE_LENGTH)
        && page[start..].starts_with(&LONG_MOVE)
        && registers.rax == sign_extended(&page[start + LONG_MOVE.len()..call])
        && !prefixed(page, start)
    {
        found.push(candidate(start, LONG_MOVE_LENGTH));
    }
    if let Some(start) = call.checked_sub(JUMP_LENGTH) {
        let before = &page[start..call];
        if before == SIXTH_ARGUMENT || before == STORE || is_move(before, registers) && !prefixed(page, start) {
            found.push(candidate(start, JUMP_LENGTH));
        }
    }
    if let Some(between) = call.checked_sub(BETWEEN_LENGTH)
        && BETWEEN.iter().any(|known| page[between..].starts_with(known))
        && let Some(start) = between.checked_sub(JUMP_LENGTH)
        && page[start] == 0xb8
        && is_move(&page[start..between], registers)
        && !prefixed(page, start)
    {
        found.push(candidate(start, JUMP_LENGTH + BETWEEN_LENGTH));
    }
    found.extend(punned(page, call, 0, end));
    if let Some(start) = call.checked_sub(ZERO.len())
        && page[start..call] == ZERO
        && registers.rax == 0
        && !prefixed(page, start)
    {
        found.extend(punned(page, start, ZERO.len(), end));
    }
    found.retain(|candidate| candidate.origin() <= PAGE_SIZE as usize);
    found
}

/// Whether it is an instruction that loads a constant, and the registers are as it leaves them.
fn is_move(instruction: &[u8], registers: &Registers) -> bool {
    let [opcode, constant @ ..] = instruction else { return false };
    let register = match opcode {
        0xb8 => registers.rax,
        0xba => registers.rdx,
        0xbe => registers.rsi,
        0xbf => registers.rdi,
        _ => return false,
    };
    constant.try_into().is_ok_and(|bytes| register == u64::from(u32::from_le_bytes(bytes)))
}

fn sign_extended(constant: &[u8]) -> u64 {
    constant.try_into().map_or(0, |bytes| i32::from_le_bytes(bytes) as u64)
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

/// Calls that are rare, or need all of the state anyway.
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
    fn a_longer_instruction_that_was_replaced_leaves_a_rest() {
        // nop; mov $15,%rax; syscall (what handlers return to)
        let mut page = [0x90, 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x1f, 0x80];
        let found = at(&page, 15);
        assert_eq!(found[0], Candidate { start: 1, moved: 7, end: 10, changed: 5, fixed: None });
        found[0].apply(&mut page, 0x1234_5678);
        assert_eq!(page, [0x90, 0xe9, 0x78, 0x56, 0x34, 0x12, 0, 0, 0x0f, 0x05, 0x0f, 0x1f, 0x80]);
    }

    #[test]
    fn a_number_may_be_loaded_one_instruction_before() {
        // nop; mov $202,%eax; xor $0x80,%sil; syscall (glibc's condition variables)
        let mut page = [0x90, 0xb8, 202, 0, 0, 0, 0x40, 0x80, 0xf6, 0x80, 0x0f, 0x05, 0xc3];
        let found = at(&page, 202);
        assert_eq!(found[0], Candidate { start: 1, moved: 9, end: 12, changed: 5, fixed: None });
        found[0].apply(&mut page, 0x1234_5678);
        assert_eq!(page, [0x90, 0xe9, 0x78, 0x56, 0x34, 0x12, 0x40, 0x80, 0xf6, 0x80, 0x0f, 0x05, 0xc3]);
        assert_eq!(at(&[0x90, 0xb8, 202, 0, 0, 0, 0x40, 0x80, 0xf6, 0x80, 0x0f, 0x05, 0xc3], 203), []);
    }

    #[test]
    fn a_call_may_end_in_the_next_page_as_long_as_only_this_one_changes() {
        let mut pages = vec![0x90; PAGE_SIZE as usize + 16];
        let end = PAGE_SIZE as usize + 1;
        // mov $-100,%edi; syscall (glibc's open): the instruction that is replaced ends before the border.
        pages[end - 7..end].copy_from_slice(&[0xbf, 0x9c, 0xff, 0xff, 0xff, 0x0f, 0x05]);
        let registers = Registers { rax: 257, rdi: 0xffff_ff9c, ..Registers::default() };
        assert_eq!(candidates(&pages, end, &registers), [Candidate { start: end - 7, moved: 5, end, changed: 5, fixed: None }]);
        // A jump that shares bytes with the next page would depend on it.
        assert_eq!(candidates(&pages, end, &Registers::default()), []);
    }

    #[test]
    fn a_constant_argument_can_be_replaced_if_it_is_what_was_passed() {
        // nop; mov $1,%esi; syscall; ret
        let page = [0x90, 0xbe, 1, 0, 0, 0, 0x0f, 0x05, 0xc3];
        let found = |rsi| candidates(&page, 8, &Registers { rax: 9, rsi, ..Registers::default() });
        assert_eq!(found(1)[0], Candidate { start: 1, moved: 5, end: 8, changed: 5, fixed: None });
        assert_eq!(found(2), []);
        // musl's cancellable call.
        let page = [0x10, 0x4c, 0x89, 0x5c, 0x24, 0x08, 0x0f, 0x05, 0xc3];
        assert_eq!(at(&page, 35)[0].moved, 5);
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
