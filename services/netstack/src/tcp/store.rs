//! Where a stream's bytes lie. A trait, so that the bytes can lie in memory that is shared with whoever reads and writes
//! them; and the one that lies in this process's memory.

/// A ring of bytes, addressed by their place in the stream. Which places hold something the connection knows.
pub trait Store: Send + std::fmt::Debug {
    /// How many bytes fit.
    fn capacity(&self) -> usize;

    /// Makes room for so many, keeping what lies between the places `from` and `to`. Says how many fit now.
    fn grow(&mut self, bytes: usize, from: u64, to: u64) -> usize;

    /// Writes bytes at a place. No more than [`capacity`](Store::capacity) of them.
    fn write(&mut self, at: u64, bytes: &[u8]);

    /// Appends `length` bytes from a place on to `into`.
    fn read(&self, at: u64, length: usize, into: &mut Vec<u8>);

    /// Copies bytes from a place on.
    fn copy(&self, at: u64, into: &mut [u8]);
}

/// A ring in this process's memory, which takes no more than was ever needed.
#[derive(Debug, Default)]
pub struct Heap {
    bytes: Vec<u8>,
}

impl Heap {
    /// Where a place is: up to two pieces.
    fn pieces(&self, at: u64, length: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let capacity = self.bytes.len();
        let length = length.min(capacity);
        let start = if capacity == 0 { 0 } else { (at % capacity as u64) as usize };
        let first = length.min(capacity - start);
        (start..start + first, 0..length - first)
    }
}

impl Store for Heap {
    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    fn grow(&mut self, bytes: usize, from: u64, to: u64) -> usize {
        if bytes > self.bytes.len() {
            let held = to.saturating_sub(from).min(self.bytes.len() as u64) as usize;
            let mut kept = Vec::with_capacity(held);
            self.read(from, held, &mut kept);
            self.bytes = vec![0; bytes.next_power_of_two()];
            self.write(from, &kept);
        }
        self.bytes.len()
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let (first, second) = self.pieces(at, bytes.len());
        let (head, tail) = bytes.split_at(first.len());
        self.bytes[first].copy_from_slice(head);
        let length = second.len();
        self.bytes[second].copy_from_slice(&tail[..length]);
    }

    fn read(&self, at: u64, length: usize, into: &mut Vec<u8>) {
        let (first, second) = self.pieces(at, length);
        into.extend_from_slice(&self.bytes[first]);
        into.extend_from_slice(&self.bytes[second]);
    }

    fn copy(&self, at: u64, into: &mut [u8]) {
        let (first, second) = self.pieces(at, into.len());
        let split = first.len();
        into[..split].copy_from_slice(&self.bytes[first]);
        let end = split + second.len();
        into[split..end].copy_from_slice(&self.bytes[second]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_its_bytes_when_it_wraps_and_when_it_grows() {
        let mut ring = Heap::default();
        assert_eq!(ring.grow(16, 0, 0), 16);
        ring.write(10, b"0123456789");
        let mut read = Vec::new();
        ring.read(12, 6, &mut read);
        assert_eq!(read, b"234567");
        ring.grow(40, 10, 20);
        let mut copied = [0; 10];
        ring.copy(10, &mut copied);
        assert_eq!(&copied, b"0123456789");
    }
}
