//! How guest code runs: an address space to map into, a context to switch to, an event that comes back. Nothing outside this
//! folder knows which implementation is in use.
//!
//! There is one so far, [`systrap`]: guest code runs in host processes (stubs) whose system calls all trap.

mod event;
mod map;
pub mod rewrite;
mod systrap;

pub use event::{Event, Fault, Registers};
pub use map::{MapOp, Protection};
pub use systrap::{Context, Interrupter, Platform, Space};

use bulkhead_ipc::Errno;

/// Where the host's vDSO and its data pages lie in every guest address space. Fixed; not to be mapped over or unmapped; at or
/// above [`Platform::guest_end`].
#[derive(Clone, Copy, Debug)]
pub struct Vdso {
    /// First byte of the data pages (vvar).
    pub data_start: u64,
    /// First byte of the vDSO's ELF image (AT_SYSINFO_EHDR).
    pub code_start: u64,
    /// One past the image.
    pub code_end: u64,
}

/// Why the platform could not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PlatformError {
    #[error("cannot {0}: {1}")]
    Host(&'static str, Errno),
    #[error("this host has no {0}")]
    Unsupported(&'static str),
}
