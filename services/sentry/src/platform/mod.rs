//! How guest code runs: an address space to map into, a context to switch to, an event that comes back. Nothing outside this
//! folder knows which implementation is in use.

use std::{os::fd::RawFd, sync::Arc, task::Poll};

use bulkhead_ipc::Errno;

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
    /// [`Interrupter::interrupt`] was called while it ran (or just before); registers are the guest's at that moment.
    Interrupted,
    /// The address space is gone (its host process died: the guest did something that no handler can see). Why, for the log.
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

bitflags::bitflags! {
    /// Access to pages.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Protection: u32 {
        /// PROT_READ.
        const READ = 1;
        /// PROT_WRITE.
        const WRITE = 2;
        /// PROT_EXEC.
        const EXECUTE = 4;
    }
}

/// One change to an address space. Addresses and lengths are page-aligned and within [`Platform::guest_end`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapOp {
    /// mmap(addr, len, protection, MAP_SHARED | MAP_FIXED, fd, offset); `private` makes it MAP_PRIVATE (files whose fd is
    /// read-only and that are never written through). `populate` fills page tables ahead. `fd` is a number in this process.
    Map { address: u64, length: u64, protection: Protection, fd: RawFd, offset: u64, private: bool, populate: bool },
    /// munmap.
    Unmap { address: u64, length: u64 },
    /// mprotect. Parts that are not mapped are skipped.
    Protect { address: u64, length: u64, protection: Protection },
}

/// The platform (systrap for now).
pub struct Platform {}

/// Where the host's vDSO and its data pages lie in every guest address space. Fixed; not to be mapped over or unmapped.
#[derive(Clone, Copy, Debug)]
pub struct Vdso {
    /// First byte of the data pages (vvar).
    pub data_start: u64,
    /// First byte of the vDSO's ELF image (AT_SYSINFO_EHDR).
    pub code_start: u64,
    /// One past the image.
    pub code_end: u64,
}

impl Platform {
    /// Starts the platform: makes the template stub. Must be called while the process has one thread.
    /// `cpus` are host CPU numbers, one worker each.
    pub fn start(cpus: &[u32]) -> Result<Arc<Platform>, PlatformError> {
        let _ = cpus;
        todo!()
    }
    /// A fresh, empty address space (from the pool of waiting stubs where there is one).
    pub fn new_space(self: &Arc<Self>) -> Result<Arc<Space>, Errno> {
        todo!()
    }
    /// Guest addresses end here (exclusive).
    pub fn guest_end(&self) -> u64 {
        todo!()
    }
    /// The vDSO.
    pub fn vdso(&self) -> Vdso {
        todo!()
    }
    /// A copy of the vDSO image's bytes.
    pub fn vdso_image(&self) -> &[u8] {
        todo!()
    }
    /// Bytes of a context's extended state ([`Context::extended_state`]).
    pub fn extended_state_size(&self) -> usize {
        todo!()
    }
}

/// One guest address space, on its host process. Dropping the last reference releases the host process (to the pool).
pub struct Space {}

impl Space {
    /// Carries out changes in order, and returns when they are done. An error says that the host refused one of them
    /// (ENOMEM); the rest may have been carried out.
    pub fn apply(&self, changes: &[MapOp]) -> Result<(), Errno> {
        let _ = changes;
        todo!()
    }
    /// Removes every mapping of the guest (execve).
    pub fn clear(&self) -> Result<(), Errno> {
        todo!()
    }
    /// A guest thread in this address space, stopped, with clean extended state. `cpu` is the index of its home CPU.
    pub fn new_context(self: &Arc<Self>, cpu: usize) -> Result<Context, Errno> {
        let _ = cpu;
        todo!()
    }
    /// Host process id, for diagnostics.
    pub fn host_pid(&self) -> i32 {
        todo!()
    }
}

/// One guest thread's CPU state, on its host thread. Dropping it parks the host thread.
pub struct Context {}

impl Context {
    /// Lets the guest run with these registers. Then [`Context::poll_event`] tells when it stops.
    pub fn resume(&mut self, registers: &Registers) {
        let _ = registers;
        todo!()
    }
    /// `Ready` once after each `resume`, with `registers` filled in. On `Pending`, `cx`'s waker is called when it stops.
    pub fn poll_event(&mut self, cx: &mut std::task::Context<'_>, registers: &mut Registers) -> Poll<Event> {
        let _ = (cx, registers);
        todo!()
    }
    /// Handle to stop it while it runs, for other tasks.
    pub fn interrupter(&self) -> Interrupter {
        todo!()
    }
    /// The x87/SSE/AVX state of the stopped thread in XSAVE format, exactly as a Linux signal frame's fpstate has it (with
    /// fpx_sw_bytes filled in and FP_XSTATE_MAGIC2 behind it).
    pub fn extended_state(&self) -> Vec<u8> {
        todo!()
    }
    /// Sets it; the bytes come from the guest and are checked (EINVAL leaves the state as it was).
    pub fn set_extended_state(&mut self, state: &[u8]) -> Result<(), Errno> {
        let _ = state;
        todo!()
    }
    /// Back to the state of a fresh process (execve).
    pub fn reset_extended_state(&mut self) {
        todo!()
    }
    /// CPU time in nanoseconds used by this guest thread since its context was made: (user code).
    pub fn cpu_time(&self) -> u64 {
        todo!()
    }
    /// Host thread id, for diagnostics.
    pub fn host_tid(&self) -> i32 {
        todo!()
    }
}

/// Stops a running guest thread.
#[derive(Clone)]
pub struct Interrupter {}

impl Interrupter {
    /// Makes a running guest thread stop with [`Event::Interrupted`] soon; if it is stopped, its next `resume` comes back with
    /// `Interrupted` at once (or with another event). Cheap when it is not running guest code.
    pub fn interrupt(&self) {
        todo!()
    }
    /// As [`Context::cpu_time`], from any thread.
    pub fn cpu_time(&self) -> u64 {
        todo!()
    }
}

/// Why the platform could not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PlatformError {
    #[error("cannot {0}: {1}")]
    Host(&'static str, Errno),
    #[error("this CPU has no {0}")]
    Unsupported(&'static str),
}
