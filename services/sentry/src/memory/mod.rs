//! Guest memory: address spaces over one memory file.
//!
//! What a guest has mapped is described by *areas* ([`areas`]: where, with which access, showing what). What it has written, and
//! anonymous memory that it could write, lies in the *memory file* ([`file`]), and *pieces* ([`pieces`]) say which of its pages lie
//! where. The host answers a first touch; the sentry is asked only when a page must be copied, a stack grows, or a mapping was so
//! large that it was left for later.
//!
//! Invariants:
//! - The stub's mapping of a page follows from its area and piece: a piece is mapped shared from the memory file, with the area's
//!   protection less write if it is copy-on-write; a file without a piece is mapped from its fd, without write if it is private;
//!   anonymous memory without a piece is not mapped.
//! - A page of the memory file with more than one reference is copy-on-write in all private areas that show it.
//! - A page is released only after the stub was told to unmap it.
//! - A rewritten page of text ([`text`]) is a copy-on-write piece too.
//! - One lock per address space; it is held while the stub carries out changes, never across an await.

mod access;
mod advise;
mod areas;
mod fault;
mod file;
mod fork;
mod frames;
mod guarded;
mod map;
mod object;
mod pieces;
mod remap;
mod report;
mod space;
mod text;

pub use advise::Advice;
pub use areas::AreaFlags;
pub use file::MemoryFile;
pub use map::{Limits, MapRequest, Placement, Source};
pub use object::MappableFile;
pub use remap::RemapRequest;
pub use report::{MapLine, MemoryUsage, ProgramLayout};
pub use space::AddressSpace;
pub use text::CallSite;

/// Identity of a futex word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FutexKey {
    /// In one address space (its number) at this address.
    Private(u64, u64),
    /// In a memory object (its number) at this offset.
    Shared(u64, u64),
}

/// The lowest address that can be mapped (vm.mmap_min_addr).
pub const MIN_ADDRESS: u64 = 0x10000;
