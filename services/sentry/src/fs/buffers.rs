//! Guest memory as the source or target of one I/O call.
//!
//! Owns the cursor over a call's buffers. Every copy goes through the address space and may fault at any byte.

use bulkhead_ipc::Errno;

use crate::{abi::UserAddress, memory::AddressSpace};

/// Guest memory for one I/O call: a list of buffers in an address space with a cursor. The copies are checked; a fault after
/// some bytes gives a short count, as Linux does.
pub struct UserBuffers<'a> {
    /// Whose memory.
    pub memory: &'a AddressSpace,
    /// (address, length) of each buffer.
    pub parts: Vec<(UserAddress, usize)>,
    /// Bytes done.
    pub done: usize,
    /// RWF_* flags of preadv2(2) and pwritev2(2).
    pub flags: i32,
}

impl<'a> UserBuffers<'a> {
    /// One buffer.
    pub fn one(memory: &'a AddressSpace, address: UserAddress, length: usize) -> Self {
        UserBuffers::many(memory, vec![(address, length)])
    }

    /// Several buffers.
    pub fn many(memory: &'a AddressSpace, parts: Vec<(UserAddress, usize)>) -> Self {
        UserBuffers { memory, parts, done: 0, flags: 0 }
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.parts.iter().map(|p| p.1).sum::<usize>().saturating_sub(self.done)
    }

    /// Cuts the buffers so that at most `bytes` are left.
    pub fn limit(&mut self, bytes: usize) {
        let mut allowed = self.done.saturating_add(bytes);
        for part in &mut self.parts {
            part.1 = part.1.min(allowed);
            allowed -= part.1;
        }
    }

    /// What is left of the buffer at the cursor; `None` at the end.
    fn current(&self) -> Option<(UserAddress, usize)> {
        let mut skip = self.done;
        for &(address, length) in &self.parts {
            if skip < length {
                return Some((address.offset(skip as u64), length - skip));
            }
            skip -= length;
        }
        None
    }

    /// Copies piece by piece until `total` bytes are done, the buffers end or a copy falls short.
    fn copy(
        &mut self,
        total: usize,
        mut piece: impl FnMut(&AddressSpace, UserAddress, usize, usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut copied = 0;
        while copied < total {
            let Some((address, length)) = self.current() else { break };
            let wanted = length.min(total - copied);
            match piece(self.memory, address, copied, wanted) {
                Ok(n) => {
                    let n = n.min(wanted);
                    self.done += n;
                    copied += n;
                    if n < wanted {
                        break;
                    }
                }
                Err(errno) if copied == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(copied)
    }

    /// Kernel → guest: copies `from` to the cursor and advances; bytes copied (short only at the end of the buffers or a
    /// fault); EFAULT if nothing could be copied.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Errno> {
        self.copy(from.len(), |memory, address, at, length| memory.write_some(address, &from[at..at + length]))
    }

    /// Guest → kernel.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let total = into.len();
        self.copy(total, |memory, address, at, length| memory.read_some(address, &mut into[at..at + length]))
    }

    /// Lets a host call work on guest memory directly: `f` gets host iovecs from the cursor on (`write` = the host call writes
    /// into them) and returns how many bytes it did; the cursor advances. `f` is called once per guest buffer until it falls
    /// short; an error after some bytes gives a short count.
    pub fn direct(&mut self, write: bool, mut f: impl FnMut(&mut [libc::iovec]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        let total = self.remaining();
        self.copy(total, |memory, address, _, length| {
            let mut done = 0;
            while done < length {
                let step = memory.with_host_iovecs(address.offset(done as u64), length - done, write, |iovecs| {
                    let offered: usize = iovecs.iter().map(|v| v.iov_len).sum();
                    f(iovecs).map(|n| (n, offered))
                });
                match step {
                    Ok(Ok((n, offered))) => {
                        done += n;
                        if n < offered || n == 0 {
                            break;
                        }
                    }
                    Ok(Err(errno)) | Err(errno) if done == 0 => return Err(errno),
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            Ok(done)
        })
    }
}
