//! The region that every stub has at the top of its address space, and the memory in it that stubs and the sentry share.
//!
//! ```text
//! offset in the region
//!           0  code (r-x): the stub's code, completion constants, the strict filter's program
//!      0x10000  command pages of this stub's agent (r--)
//!      0x20000  scratch (rw-, only in the template)
//!      0x30000  the host's vvar and vDSO
//!     0x100000  workers (rw-): where guest threads post
//!   0x10000000  context slots (rw-): only those of this stub's own threads are mapped
//! ```
//!
//! Everything here that a stub can write, hostile guest code can write: the sentry believes none of it. What it reads it reads
//! once, and a lie may only hurt the stub that tells it.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// Guest addresses end here. The region lies somewhere above: where exactly depends on what the host left free there.
pub const GUEST_END: u64 = 0x7ffe_0000_0000;
/// One past the last address of a process.
pub const ADDRESSES_END: u64 = 0x7fff_ffff_f000;
/// Bytes of the region.
pub const REGION_SIZE: u64 = 0x2000_0000;

/// Bytes of code, constants and program together.
pub const CODE_SIZE: u64 = 0x4000;
/// Constants that the agent writes to say how a batch went, by errno: entry e is `e << 32`, entry 0 is 1.
pub const CONSTANTS: u64 = 0x1000;
/// Number of constants.
pub const CONSTANT_COUNT: u64 = 256;
/// An empty signal set.
pub const EMPTY_SET: u64 = CONSTANTS + CONSTANT_COUNT * 8;
/// Which components of the extended state guest threads save and load.
pub const FEATURES: u64 = EMPTY_SET + 8;
/// `sock_fprog` of the strict filter; its instructions follow 16 bytes later.
pub const PROGRAM: u64 = 0x2000;

/// Command pages.
pub const COMMAND: u64 = 0x1_0000;
/// Bytes of them.
pub const COMMAND_SIZE: u64 = 0x4000;
/// Scratch page of the template.
pub const SCRATCH: u64 = 0x2_0000;
/// The host's vvar and vDSO.
pub const VDSO: u64 = 0x3_0000;
/// Room for them.
pub const VDSO_SIZE: u64 = 0x1_0000;
/// The workers' blocks.
pub const WORKERS: u64 = 0x10_0000;
/// Bytes of a worker's block.
pub const WORKER_SIZE: u64 = 0x800;
/// log2 of it.
pub const WORKER_SHIFT: u32 = 11;
/// Workers at most.
pub const MAX_WORKERS: u64 = 256;

/// Context slots.
pub const CONTEXTS: u64 = 0x1000_0000;
/// Bytes of a slot: saved extended state, an alternate signal stack, and the control block at its end.
pub const SLOT_SIZE: u64 = 0x8000;
/// log2 of it.
pub const SLOT_SHIFT: u32 = 15;
/// Slots: guest threads of the sandbox at most.
pub const SLOTS: usize = 8192;
/// Room at a slot's start where a thread in the stub's code saves its extended state. It is apart from the signal stack, where the host
/// puts the state whenever it delivers a signal, late ones too.
pub const SAVED_SIZE: u64 = 0x3000;
/// Offset of the control block in a slot.
pub const CONTROL: u64 = SLOT_SIZE - 512;
/// Bytes of the signal stack, which ends at the control block.
pub const STACK_SIZE: u64 = CONTROL - SAVED_SIZE;

const _: () = {
    assert!(CONTEXTS + SLOTS as u64 * SLOT_SIZE <= REGION_SIZE);
    assert!(WORKERS + MAX_WORKERS * WORKER_SIZE <= CONTEXTS);
    assert!(1 << WORKER_SHIFT == WORKER_SIZE && 1 << SLOT_SHIFT == SLOT_SIZE);
    assert!(size_of::<Control>() <= 512);
    assert!(size_of::<WorkerBlock>() as u64 <= WORKER_SIZE);
    assert!(size_of::<CommandPage>() as u64 == COMMAND_SIZE);
};

/// A guest thread's state word: it runs guest code (or is about to).
pub const RUNNING: u32 = 0;
/// It has stopped, and is on its way to sleep.
pub const POSTED: u32 = 1;
/// It has stopped and sleeps on the state word.
pub const SLEEPING: u32 = 2;

/// How a thread stopped: by a signal, whose frame holds all of its state.
pub const STOPPED_BY_SIGNAL: u32 = 0;
/// From rewritten code: its general registers are in the control block, the extended state is in its CPU still.
pub const STOPPED_IN_THUNK: u32 = 1;
/// By a signal on its way back from a stop of that kind: the extended state is in the frame, its registers in the control block.
pub const STOPPED_RETURNING: u32 = 2;
/// From rewritten code as well, with a copy of the extended state in the slot. (The last bit tells that a thread is in the stub's code.)
pub const STOPPED_SAVED: u32 = 3;
/// What a thread that stopped in a thunk does when it is released: goes back to the guest.
pub const GO_ON: u32 = 0;
/// Raises a signal, so that all of its state comes into a frame.
pub const STOP_FULLY: u32 = 1;
/// Loads the extended state from the slot, and goes back.
pub const LOAD: u32 = 2;
/// Saves the extended state to the slot, and stops again.
pub const SAVE: u32 = 3;
/// General registers, in the order of a signal frame: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags.
pub const GENERAL: usize = 18;

/// The control block of a context slot. While a guest leaves gs alone, its thread's gs base points here: so a thread that posts
/// from rewritten code finds it.
#[repr(C)]
pub struct Control {
    /// RUNNING, POSTED or SLEEPING. The stub sets the latter two, the sentry the first.
    pub state: AtomicU32,
    /// The signal whose handler stopped the thread.
    pub signal: AtomicU32,
    /// The worker to post to.
    pub home: AtomicU32,
    /// Thread id, written by the host when the thread was made.
    pub tid: AtomicU32,
    /// Where the signal frame lies (an address in the stub).
    pub frame: AtomicU64,
    /// Segment bases, which a signal frame does not have.
    pub fs_base: AtomicU64,
    /// As `fs_base`.
    pub gs_base: AtomicU64,
    /// `stack_t` of the slot.
    pub stack: [AtomicU64; 3],
    /// `STOPPED_*`, set by the stub.
    pub kind: AtomicU32,
    /// `GO_ON`, `STOP_FULLY`, `LOAD` or `SAVE`, set by the sentry.
    pub next: AtomicU32,
    /// How often a thread that stops looks at `state` before it posts; 0 when nobody watches that word. Set by the sentry.
    pub spins: AtomicU32,
    _unused: u32,
    /// The block's address, negated: by it a thunk knows that gs points here.
    pub negated: AtomicU64,
    /// General registers of a thread that stopped in a thunk.
    pub general: [AtomicU64; GENERAL],
    /// Its stack while it is in the stub's code.
    pub small_stack: [AtomicU64; 4],
}

/// Offsets of the control block's fields, for the assembly.
pub mod control {
    use super::Control;
    pub const STATE: usize = std::mem::offset_of!(Control, state);
    pub const SIGNAL: usize = std::mem::offset_of!(Control, signal);
    pub const HOME: usize = std::mem::offset_of!(Control, home);
    pub const TID: usize = std::mem::offset_of!(Control, tid);
    pub const FRAME: usize = std::mem::offset_of!(Control, frame);
    pub const FS_BASE: usize = std::mem::offset_of!(Control, fs_base);
    pub const GS_BASE: usize = std::mem::offset_of!(Control, gs_base);
    pub const STACK: usize = std::mem::offset_of!(Control, stack);
    pub const KIND: usize = std::mem::offset_of!(Control, kind);
    pub const NEXT: usize = std::mem::offset_of!(Control, next);
    pub const SPINS: usize = std::mem::offset_of!(Control, spins);
    pub const NEGATED: usize = std::mem::offset_of!(Control, negated);
    pub const GENERAL: usize = std::mem::offset_of!(Control, general);
    pub const SMALL_STACK_TOP: usize = std::mem::offset_of!(Control, small_stack) + 32;
}

/// Words of a bitmap of slots.
pub const BITMAP_WORDS: usize = SLOTS / 64;
/// Words of a bitmap of those.
pub const SUMMARY_WORDS: usize = BITMAP_WORDS / 64;

/// Where guest threads post to a worker: first their bit, then their word's bit in the summary, then a wake-up if it sleeps.
#[repr(C)]
pub struct WorkerBlock {
    /// 1 while the worker sleeps on this word.
    pub sleeping: AtomicU32,
    _unused: [u32; 3],
    /// Which words of `posted` are not zero.
    pub summary: [AtomicU64; SUMMARY_WORDS],
    _unused_too: [u64; 4],
    /// Which slots have posted.
    pub posted: [AtomicU64; BITMAP_WORDS],
}

/// Offsets of a worker block's fields, for the assembly.
pub mod worker_block {
    use super::WorkerBlock;
    pub const SLEEPING: usize = std::mem::offset_of!(WorkerBlock, sleeping);
    pub const SUMMARY: usize = std::mem::offset_of!(WorkerBlock, summary);
    pub const POSTED: usize = std::mem::offset_of!(WorkerBlock, posted);
}

/// Commands in a batch at most.
pub const BATCH: usize = 255;

/// What a stub's agent is told. Read-only in the stub.
#[repr(C)]
pub struct CommandPage {
    /// Number of the current batch; the agent sleeps on it.
    pub sequence: AtomicU32,
    /// Commands in it.
    pub count: AtomicU32,
    /// The eventfd to write the completion to.
    pub done: AtomicU32,
    _unused: [u32; 13],
    /// System call number and six arguments.
    pub commands: [[AtomicU64; 8]; BATCH],
}

/// The fixed flags of the clone that makes a guest thread.
pub const CLONE_THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_PARENT_SETTID) as u64;
/// The fixed flags of the clone that makes a stub. The sentry becomes its parent and so can reap it.
pub const CLONE_STUB: u64 = (libc::CLONE_FILES | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::SIGCHLD) as u64;

/// The signal that interrupts running guest code.
pub const INTERRUPT: i32 = libc::SIGURG;
