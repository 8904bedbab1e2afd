//! The code of this process that only its start needed.
//!
//! What a process has run stays mapped, and counts as its own where nobody else runs the same program: most of what an idle service
//! would take. The host has it in its page cache, and maps again what is needed again.

use std::ffi::{c_int, c_void};

/// Unmaps the pages of the program and its libraries that hold code and constants. They come back, a few at a time, when they are used.
/// Breakpoints of a debugger are lost.
pub fn unmap_for_now() {
    // SAFETY: the callback has the signature that is asked for and uses no data.
    unsafe { libc::dl_iterate_phdr(Some(unmap_object), std::ptr::null_mut()) };
}

unsafe extern "C" fn unmap_object(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the loader hands a valid description, whose headers are as many as it says.
    let (base, headers) = unsafe {
        let object = &*object;
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        // The vDSO has no file to come back from, but its mapping refuses advice or does not mind it.
        let start = (base + header.p_vaddr).next_multiple_of(PAGE);
        let end = (base + header.p_vaddr + header.p_memsz) / PAGE * PAGE;
        if start < end {
            // SAFETY: nothing ever writes to a segment that is not writable, not even the loader (there are no text relocations), so that
            // each page is the file's and comes back from there.
            unsafe { libc::madvise(start as *mut c_void, (end - start) as usize, libc::MADV_DONTNEED) };
        }
    }
    0
}

const PAGE: u64 = 4096;

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Held while the loader's lock is, or while a test forks: a child that inherits that lock held can never take it.
    pub(crate) fn loader() -> MutexGuard<'static, ()> {
        static LOADER: Mutex<()> = Mutex::new(());
        LOADER.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pages of the test program's own file that are mapped in executable memory, in kilobytes.
    fn resident() -> u64 {
        let program = std::fs::read_link("/proc/self/exe").unwrap().display().to_string();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut own = false;
        let mut sum = 0;
        for line in maps.lines() {
            if line.contains("r-xp") {
                own = line.ends_with(&program);
            } else if let Some(rest) = line.strip_prefix("Rss:").filter(|_| own) {
                sum += rest.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap();
                own = false;
            }
        }
        sum
    }

    #[test]
    fn code_goes_and_comes_back_when_it_is_used() {
        let _loader = loader();
        let before = resident();
        super::unmap_for_now();
        let after = resident();
        assert!(after < before, "{before} kB, then {after} kB");
    }
}
