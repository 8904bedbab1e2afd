//! A ring of bytes: what pipes and sockets keep between a write and a read.

use bulkhead_ipc::Errno;

/// The first buffer's size.
const SMALLEST: usize = 4096;

/// A ring of bytes. `buffer` is as large as was needed so far, a power of two, and never larger than `capacity` rounded up.
pub(crate) struct Ring {
    buffer: Box<[u8]>,
    head: usize,
    length: usize,
    capacity: usize,
}

impl Ring {
    /// An empty one, which takes no memory yet.
    pub(crate) fn new(capacity: usize) -> Ring {
        Ring { buffer: Box::default(), head: 0, length: 0, capacity }
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Bytes that it is to hold at most.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Another capacity; what is in it stays, though it be more.
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Bytes that may still come.
    pub(crate) fn free(&self) -> usize {
        self.capacity.saturating_sub(self.length)
    }

    /// Makes room for `more` bytes behind the ones there.
    fn reserve(&mut self, more: usize) {
        let needed = self.length + more;
        if needed <= self.buffer.len() {
            return;
        }
        let mut grown = vec![0u8; needed.next_power_of_two().max(SMALLEST)].into_boxed_slice();
        let (first, second) = self.filled(self.length);
        grown[..first.len()].copy_from_slice(first);
        grown[first.len()..first.len() + second.len()].copy_from_slice(second);
        self.buffer = grown;
        self.head = 0;
    }

    /// The first `n` bytes, in two parts.
    pub(crate) fn filled(&self, n: usize) -> (&[u8], &[u8]) {
        let n = n.min(self.length);
        let first = n.min(self.buffer.len() - self.head);
        (&self.buffer[self.head..self.head + first], &self.buffer[..n - first])
    }

    /// Appends up to `n` bytes, which must be free, through `fill`, which says how many it gave.
    pub(crate) fn push(&mut self, n: usize, mut fill: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        self.reserve(n);
        let mut pushed = 0;
        while pushed < n {
            let size = self.buffer.len();
            let at = (self.head + self.length) % size;
            let end = size.min(at + n - pushed);
            match fill(&mut self.buffer[at..end]) {
                Ok(given) => {
                    self.length += given;
                    pushed += given;
                    if given < end - at {
                        break;
                    }
                }
                Err(errno) if pushed == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(pushed)
    }

    /// Takes the last `n` bytes back.
    pub(crate) fn retract(&mut self, n: usize) {
        self.length -= n.min(self.length);
    }

    /// Drops the first `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        let n = n.min(self.length);
        self.length -= n;
        self.head = if self.length == 0 { 0 } else { (self.head + n) % self.buffer.len() };
    }
}
