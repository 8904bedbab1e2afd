//! Accesses that may fault: words in mapped host files, which can shrink under us. A fault in the routine below becomes its
//! error return; any other fault of the sentry is a bug and ends it, as without a handler.

use std::sync::OnceLock;

use bulkhead_ipc::Errno;

std::arch::global_asm!(
    // (word: rdi, old: esi, new: edx) -> rax: the word's value before, or all ones after a fault.
    ".globl bulkhead_guarded_exchange",
    ".globl bulkhead_guarded_access",
    ".globl bulkhead_guarded_failed",
    ".type bulkhead_guarded_exchange,@function",
    "bulkhead_guarded_exchange:",
    "mov eax, esi",
    "bulkhead_guarded_access:",
    "lock cmpxchg dword ptr [rdi], edx",
    "ret",
    "bulkhead_guarded_failed:",
    "mov rax, -1",
    "ret",
);

unsafe extern "C" {
    fn bulkhead_guarded_exchange(word: *mut u32, old: u32, new: u32) -> u64;
    static bulkhead_guarded_access: u8;
    static bulkhead_guarded_failed: u8;
}

/// Compares and swaps; the old value, or `EFAULT` when the page is not there (any more).
///
/// # Safety
/// `word` is aligned and within a writable shared mapping (whose pages may be missing).
pub unsafe fn compare_exchange(word: *mut u32, old: u32, new: u32) -> Result<u32, Errno> {
    // SAFETY: the caller's promise; a missing page is handled by the fault handler. `lock cmpxchg` leaves the upper half of
    // rax clear: writing eax clears it, and where eax is not written it was cleared by the `mov` before.
    let result = unsafe { bulkhead_guarded_exchange(word, old, new) };
    if result == u64::MAX { Err(Errno::EFAULT) } else { Ok(result as u32) }
}

extern "C" fn on_fault(signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the host passes a ucontext to SA_SIGINFO handlers.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let rip = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
    if *rip == (&raw const bulkhead_guarded_access) as i64 {
        *rip = (&raw const bulkhead_guarded_failed) as i64;
        return;
    }
    // Not ours: the instruction runs again, faults again, and the default action ends the process.
    // SAFETY: async-signal-safe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Installs the handler, once a process.
pub fn install() -> Result<(), Errno> {
    static DONE: OnceLock<Result<(), Errno>> = OnceLock::new();
    *DONE.get_or_init(|| {
        for signal in [libc::SIGBUS, libc::SIGSEGV] {
            // SAFETY: sigaction is plain data.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            // SAFETY: the handler only uses async-signal-safe calls.
            if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } < 0 {
                return Err(Errno::last());
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_beyond_the_end_of_its_file_is_an_error() {
        install().unwrap();
        // SAFETY: a private memfd and a mapping of one page of it, which is empty.
        let word = unsafe {
            let fd = libc::memfd_create(c"empty".as_ptr(), libc::MFD_CLOEXEC);
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        // SAFETY: aligned, within the mapping.
        assert_eq!(unsafe { compare_exchange(word.cast(), 0, 1) }, Err(Errno::EFAULT));
        let mut here = 7u32;
        // SAFETY: a local word.
        assert_eq!(unsafe { compare_exchange(&mut here, 7, 9) }, Ok(7));
        // SAFETY: as above.
        assert_eq!(unsafe { compare_exchange(&mut here, 7, 0xffff_ffff) }, Ok(9));
        assert_eq!(here, 9);
    }
}
