//! The host's futex call, on words that other processes may share (so never the private form).

use std::sync::atomic::AtomicU32;

/// Sleeps while `*word == expected`, until woken or until CLOCK_MONOTONIC reaches `deadline`. May return early.
pub(crate) fn futex_wait_until(word: &AtomicU32, expected: u32, deadline: Option<u64>) {
    let timeout = deadline.map(|at| libc::timespec {
        tv_sec: (at / 1_000_000_000).min(i64::MAX as u64) as i64,
        tv_nsec: (at % 1_000_000_000) as i64,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout as *const libc::timespec);
    // SAFETY: the word and the timeout live through the call; FUTEX_WAIT_BITSET only reads them.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            timeout,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
}

/// Wakes one sleeper.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE uses the word's address only as a name.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
