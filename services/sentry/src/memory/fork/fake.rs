//! Page tables as the stub's would be, and guest accesses through them.

use std::{collections::BTreeMap, os::fd::RawFd, sync::Arc};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use crate::{
    abi::{PAGE_SIZE, page_down},
    memory::{
        AddressSpace, MemoryFile,
        space::{Host, State},
    },
    platform::{Fault, MapOp, Protection},
};

#[derive(Clone, Copy, Debug)]
struct Page {
    fd: RawFd,
    offset: u64,
    protection: Protection,
    private: bool,
}

/// The stub of tests.
#[derive(Default)]
pub struct FakeSpace {
    pages: Mutex<BTreeMap<u64, Page>>,
    /// Operations so far.
    pub operations: Mutex<usize>,
}

impl FakeSpace {
    pub fn replace(&self, changes: &[MapOp]) -> Result<(), Errno> {
        self.pages.lock().clear();
        self.apply(changes)
    }

    pub fn apply(&self, changes: &[MapOp]) -> Result<(), Errno> {
        *self.operations.lock() += changes.len();
        let mut pages = self.pages.lock();
        for change in changes {
            match *change {
                MapOp::Map { address, length, protection, fd, offset, private, .. } => {
                    for at in (0..length).step_by(PAGE_SIZE as usize) {
                        pages.insert(address + at, Page { fd, offset: offset + at, protection, private });
                    }
                }
                MapOp::Unmap { address, length } => pages.retain(|page, _| *page < address || *page >= address + length),
                MapOp::Protect { address, length, protection } => {
                    pages.range_mut(address..address + length).for_each(|(_, page)| page.protection = protection);
                }
            }
        }
        Ok(())
    }
}

impl AddressSpace {
    /// One without a stub.
    pub(crate) fn for_tests() -> Arc<AddressSpace> {
        let memory = MemoryFile::with_span(u64::MAX, 1 << 32).unwrap();
        let state = State { mmap_top: 0x7000_0000_0000, ..State::default() };
        AddressSpace::with(Host::Fake(Default::default()), &memory, state)
    }

    fn fake(&self) -> &FakeSpace {
        match &self.host {
            Host::Fake(fake) => fake,
            Host::Platform { .. } => unreachable!(),
        }
    }

    pub(crate) fn operations(&self) -> usize {
        *self.fake().operations.lock()
    }

    /// One byte as guest code would access it; `None` reads. The signal that it would get.
    pub(crate) fn touch(&self, address: u64, store: Option<u8>) -> Result<u8, i32> {
        for _ in 0..8 {
            let page = self.fake().pages.lock().get(&page_down(address)).copied();
            let needed = if store.is_some() { Protection::WRITE } else { Protection::READ };
            if let Some(page) = page
                && page.protection.contains(needed)
            {
                assert!(!(page.private && store.is_some()), "private file pages are never writable in the stub");
                let mut byte = [store.unwrap_or(0)];
                let at = (page.offset + address % PAGE_SIZE) as i64;
                // SAFETY: one byte of our own.
                let n = unsafe {
                    match store {
                        Some(_) => libc::pwrite(page.fd, byte.as_ptr().cast(), 1, at),
                        None => libc::pread(page.fd, byte.as_mut_ptr().cast(), 1, at),
                    }
                };
                assert!(n >= 0);
                return Ok(byte[0]);
            }
            let error = if store.is_some() { 2 } else { 0 };
            let fault = Fault { signal: libc::SIGSEGV, code: 0, address, trap: 14, error };
            self.handle_fault(&fault, address).map_err(|(signal, _)| signal)?;
        }
        panic!("faults for ever at {address:#x}");
    }
}
