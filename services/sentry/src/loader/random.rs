//! Randomness for addresses and AT_RANDOM, from the host.

/// Fills the buffer. A host without entropy is no place to run: addresses would be known.
pub fn fill(into: &mut [u8]) {
    let mut done = 0;
    while done < into.len() {
        // SAFETY: the slice is ours to write.
        let n = unsafe { libc::getrandom(into[done..].as_mut_ptr().cast(), into.len() - done, 0) };
        if n > 0 {
            done += n as usize;
        } else if n < 0 && bulkhead_ipc::Errno::last() != bulkhead_ipc::Errno::EINTR {
            tracing::error!("the host gives no random bytes");
            return;
        }
    }
}

/// A number below `bound`, which is a power of two.
pub fn below(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_ne_bytes(bytes) & (bound - 1)
}
