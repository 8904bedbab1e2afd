//! execve(2)'s work: finds the interpreter, maps the program, builds the stack.

use std::sync::Arc;

use bulkhead_ipc::Errno;

use crate::{fs::OpenFile, memory::AddressSpace, platform::Registers, task::Thread};

/// A program ready to run in a new address space.
pub struct Loaded {
    /// The new memory.
    pub memory: Arc<AddressSpace>,
    /// Initial registers (rip, rsp; the rest zero).
    pub registers: Registers,
    /// The executable, for /proc/self/exe.
    pub executable: Arc<OpenFile>,
    /// Last component of the path, at most 15 bytes (PR_GET_NAME).
    pub name: Vec<u8>,
    /// The set-user-id / set-group-id owner to take on, if any, after no_new_privs and nosuid were honoured.
    pub set_uid: Option<u32>,
    /// See `set_uid`.
    pub set_gid: Option<u32>,
    /// The file cannot be read by the caller (dumpable is cleared).
    pub unreadable: bool,
}

/// Loads `file` (opened for execution; `path` as the caller gave it, for `#!` and AT_EXECFN). `reuse` is the caller's address space when no
/// other task uses it: its platform space may be taken over. Errors leave the caller as it was, unless memory ran out late.
pub fn load(
    thread: &Thread,
    file: Arc<OpenFile>,
    path: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> Result<Loaded, Errno> {
    let _ = (thread, file, path, arguments, environment);
    todo!()
}
