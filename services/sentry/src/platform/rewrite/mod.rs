//! Rewriting of call sites: what may replace a `syscall` instruction, and the thunk that the replacement jumps to. Pure functions
//! over bytes; whoever owns the text ([`crate::memory`]) decides where.
//!
//! *What is replaced* is always one whole instruction, by a `jmp rel32`, such that every other instruction keeps its bytes. So
//! it does not matter where other code jumps to, or where a thread is: each border between instructions is still one.
//! - An instruction of five bytes or more before the `syscall` is replaced itself (the thunk carries it out): `mov $n,%eax` and other
//!   constants, glibc's `mov 8(%rsp),%r9`, musl's `mov %r11,8(%rsp)`. The `syscall` behind it stays, and traps whoever comes to it directly.
//! - A shorter one (the `syscall`, or `xor %eax,%eax` before it) is replaced by the first two bytes of a jump *whose other three
//!   bytes are those that follow anyway*. `0f 05 48 3d 01 f0 ff ff` (`syscall; cmp $-4095,%rax`) becomes `e9 xx 48 3d 01 f0 ff ff`: a
//!   jump by 0x013d48xx, with the `cmp` where it was. What follows decides where the thunk must be, give or take 255 bytes.
//!
//! What signal handlers return to is special: unwinders that find no unwind table entry for it look whether its bytes are
//! `mov $15,%rax; syscall`, so it is only replaced where the table says that it is a signal frame (as glibc's does, and musl's does not).
//!
//! *The thunk* may use rcx and r11, which a system call clobbers; it leaves flags, stack and red zone alone. It looks, without
//! flags, whether gs points to the thread's control block (which then holds its negated address), and goes on to the
//! stub's code with the return address in rcx. If gs does not (the guest uses gs itself) it makes the system call, which
//! traps as ever. A guest that forges the number misleads only itself: behind the thunk is nothing that it could not do anyway.

mod pattern;
mod thunk;
mod unwind;

pub use pattern::{Candidate, candidates};
pub use thunk::{LENGTH, Place, Thunk};
pub use unwind::is_signal_frame;

/// What thunks need to know of the platform.
#[derive(Clone, Copy, Debug)]
pub struct Thunks {
    /// Where they go, with the return address in rcx.
    pub entry: u64,
    /// Where from gs on lies the negation of what gs should be.
    pub negated: u32,
}
