//! What a guest thread is when it has stopped: its registers, and why.

/// General registers of a guest thread, as `user_regs_struct` has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rip: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

/// Why a guest thread stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A `syscall` instruction: number in `rax`, arguments in rdi, rsi, rdx, r10, r8, r9; `rip` is behind it.
    Syscall,
    /// A CPU exception, as the host's signal described it.
    Fault(Fault),
    /// [`super::Interrupter::interrupt`] was called while it ran (or just before); registers are the guest's at that moment.
    Interrupted,
    /// The address space is gone (its host process died: the guest did something that no handler can see). Registers are
    /// meaningless.
    Lost,
}

/// A CPU exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    /// SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP.
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_addr; for page faults the faulting address (CR2).
    pub address: u64,
    /// x86 trap number (14 = page fault).
    pub trap: u64,
    /// x86 error code; bit 1 = write, bit 4 = instruction fetch.
    pub error: u64,
}

impl Fault {
    /// Whether this is a page fault, which memory management may be able to resolve.
    pub fn is_page_fault(&self) -> bool {
        self.trap == 14
    }
    /// A write access.
    pub fn is_write(&self) -> bool {
        self.error & 2 != 0
    }
    /// An instruction fetch.
    pub fn is_execute(&self) -> bool {
        self.error & 16 != 0
    }
}
