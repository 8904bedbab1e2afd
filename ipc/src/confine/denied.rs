//! What happens at a system call that the policy does not have: the log gets a line that names it, and the process ends by
//! SIGSYS.
//!
//! The filter answers TRAP instead of KILL only so that the line can be written. The call is not made either way; the handler is
//! in memory that cannot be written to, cannot be replaced (the filter has no rt_sigaction), and ends the process by making
//! a call that is denied as well while SIGSYS is blocked, which the host answers with the signal's default action.

use super::{ConfineError, syscalls};
use crate::Errno;
use std::{
    ffi::{c_int, c_void},
    io::{Cursor, Write},
};

/// Installs the handler.
pub(super) fn report_and_die() -> Result<(), ConfineError> {
    // SAFETY: all zero is a valid sigaction; the handler has the signature that SA_SIGINFO asks for and is async-signal-safe.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    if result != 0 { Err(ConfineError::Host("handle denied system calls", Errno::last())) } else { Ok(()) }
}

/// The head of a `siginfo_t` for SIGSYS (sigaction(2)).
#[repr(C)]
struct Denied {
    signal: c_int,
    errno: c_int,
    code: c_int,
    address: *const c_void,
    number: c_int,
}

extern "C" fn handler(_signal: c_int, info: *const Denied, context: *const libc::ucontext_t) {
    // SAFETY: the host hands a valid siginfo and context to a handler with SA_SIGINFO.
    let (number, registers) = unsafe { ((*info).number, &(*context).uc_mcontext.gregs) };
    let argument = |register: c_int| registers[register as usize];
    let mut buffer = Cursor::new([0u8; 256]);
    // No allocation, no lock: this may interrupt anything. What does not fit is cut off.
    let _ = writeln!(
        buffer,
        "seccomp: {}({:#x}, {:#x}, {:#x}, {:#x}, {:#x}, {:#x}) (system call {number}) is not in the policy: the service ends",
        syscalls::name_of(number.into()).unwrap_or("unknown"),
        argument(libc::REG_RDI),
        argument(libc::REG_RSI),
        argument(libc::REG_RDX),
        argument(libc::REG_R10),
        argument(libc::REG_R8),
        argument(libc::REG_R9),
    );
    let length = buffer.position() as usize;
    // SAFETY: writes initialised bytes to stderr, which is the log in a service; then makes a call that Linux never had
    // and no policy allows, with SIGSYS blocked, which does not come back. If it does, the process ends by itself.
    unsafe {
        libc::write(libc::STDERR_FILENO, buffer.get_ref().as_ptr().cast(), length);
        libc::syscall(libc::SYS_afs_syscall, 0, 0, 0, 0, 0, 0);
        libc::_exit(128 + libc::SIGSYS);
    }
}
