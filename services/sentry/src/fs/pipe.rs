//! Pipes and FIFOs.
//!
//! Owns the bytes between a write and a read, in one ring per pipe that grows up to the pipe's capacity. Bytes go from user
//! memory to the ring and from the ring to user memory; nothing is copied in between.
//!
//! Invariants: a write of at most PIPE_BUF bytes is in one piece or not at all; a writer sees a full pipe until PIPE_BUF
//! bytes are free (as Linux, which frees whole pages), so whoever frees that much wakes it; a packet is read by one read.

use std::{
    any::Any,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;

use super::{
    FileOps, Location, Offset, OpenFile, UserBuffers,
    ownership::{LocalInode, Ownership},
    regular::stat_node,
    ring::Ring,
    vfs::NodeHandle,
};
use crate::{
    abi::{PAGE_SIZE, UserAddress},
    executor::{Readiness, WaitQueue, wait_for},
    task::{Credentials, Task, Thread},
};

/// Writes of at most this many bytes are atomic.
pub const PIPE_BUF: usize = 4096;
/// Bytes of a new pipe.
pub const DEFAULT_CAPACITY: usize = 16 * PAGE_SIZE as usize;
/// /proc/sys/fs/pipe-max-size.
pub const MAX_CAPACITY: usize = 1 << 20;

struct State {
    ring: Ring,
    /// Lengths of the packets in the ring, in order; bytes written without O_DIRECT are not in here and come before them.
    packets: VecDeque<usize>,
    /// Bytes at the ring's end that belong to no packet.
    stream: usize,
    readers: usize,
    writers: usize,
    /// How often an end was opened (FIFOs wait for a change).
    opened_reading: u64,
    opened_writing: u64,
}

/// A pipe.
pub struct Pipe {
    state: Mutex<State>,
    queue: Arc<WaitQueue>,
    inode: LocalInode,
}

impl Pipe {
    /// An empty one without ends.
    pub fn new(credentials: &Credentials) -> Arc<Pipe> {
        Arc::new(Pipe {
            state: Mutex::new(State {
                ring: Ring::new(DEFAULT_CAPACITY),
                packets: VecDeque::new(),
                stream: 0,
                readers: 0,
                writers: 0,
                opened_reading: 0,
                opened_writing: 0,
            }),
            queue: Arc::new(WaitQueue::new()),
            inode: LocalInode::new(0o600, credentials),
        })
    }

    /// pipe2(2): the reading and the writing end; `flags` may have O_NONBLOCK and O_DIRECT.
    pub fn pair(credentials: &Credentials, flags: u32) -> (Arc<OpenFile>, Arc<OpenFile>) {
        let pipe = Pipe::new(credentials);
        let reader = pipe.clone().open(flags | libc::O_RDONLY as u32, None);
        let writer = pipe.open(flags | libc::O_WRONLY as u32, None);
        (reader, writer)
    }

    /// A new description of one end, or of both.
    pub fn open(self: Arc<Self>, flags: u32, node: Option<(Arc<NodeHandle>, (u64, u64))>) -> Arc<OpenFile> {
        let location = node.as_ref().map(|(handle, _)| Location::Vfs(handle.clone()));
        let ops = PipeFile { pipe: self.clone(), node, ends: AtomicU64::new(0) };
        let (reads, writes) = access(flags);
        self.enter(&ops, reads, writes);
        OpenFile::new(Arc::new(ops), flags, location)
    }

    fn enter(&self, ops: &PipeFile, reads: bool, writes: bool) {
        ops.ends.store(reads as u64 | (writes as u64) << 1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.readers += reads as usize;
        state.opened_reading += reads as u64;
        state.writers += writes as usize;
        state.opened_writing += writes as u64;
        drop(state);
        self.queue.wake(Readiness::IN | Readiness::OUT);
    }

    fn leave(&self, reads: bool, writes: bool) {
        let mut state = self.state.lock();
        state.readers -= (reads as usize).min(state.readers);
        state.writers -= (writes as usize).min(state.writers);
        let (no_readers, no_writers) = (state.readers == 0, state.writers == 0);
        if no_readers && no_writers {
            // A FIFO that nobody has open keeps nothing.
            let capacity = state.ring.capacity();
            state.ring = Ring::new(capacity);
            state.packets.clear();
            state.stream = 0;
        }
        drop(state);
        if no_writers && writes {
            self.queue.wake(Readiness::IN | Readiness::RDNORM | Readiness::HUP);
        }
        if no_readers && reads {
            self.queue.wake(Readiness::OUT | Readiness::WRNORM | Readiness::ERR);
        }
    }

    /// Bytes to be read.
    pub fn available(&self) -> usize {
        self.state.lock().ring.len()
    }

    /// F_GETPIPE_SZ.
    pub fn capacity(&self) -> usize {
        self.state.lock().ring.capacity()
    }

    /// F_SETPIPE_SZ; the new capacity, a power of two.
    pub fn set_capacity(&self, bytes: usize, privileged: bool) -> Result<usize, Errno> {
        if bytes == 0 || bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let capacity = bytes.max(PIPE_BUF).next_power_of_two();
        let mut state = self.state.lock();
        if capacity > MAX_CAPACITY && capacity > state.ring.capacity() && !privileged {
            return Err(Errno::EPERM);
        }
        if capacity > 1 << 26 {
            return Err(Errno::ENOMEM);
        }
        if state.ring.len() > capacity {
            return Err(Errno::EBUSY);
        }
        state.ring.set_capacity(capacity);
        drop(state);
        self.queue.wake(Readiness::OUT | Readiness::WRNORM);
        Ok(capacity)
    }

    /// Takes up to `limit` bytes out through `sink`, which says how many it took; EAGAIN when there are none and somebody may
    /// still write. `keep` leaves the bytes where they are (tee).
    pub fn pull(&self, limit: usize, keep: bool, mut sink: impl FnMut(&[u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        if state.ring.len() == 0 {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        // Bytes before the first packet are a stream; a packet is read alone, and what does not fit of it is lost.
        let packet = (state.stream == 0).then(|| state.packets.front().copied()).flatten();
        let wanted = limit.min(packet.unwrap_or(match state.packets.is_empty() {
            true => state.ring.len(),
            false => state.stream,
        }));
        let (first, second) = state.ring.filled(wanted);
        let mut taken = sink(first)?;
        if taken == first.len() && !second.is_empty() {
            taken += sink(second).unwrap_or(0);
        }
        if !keep {
            if let Some(length) = packet {
                state.packets.pop_front();
                state.ring.consume(length);
            } else {
                state.ring.consume(taken);
                state.stream -= taken.min(state.stream);
            }
        }
        let room = state.ring.free() >= PIPE_BUF;
        drop(state);
        if room && !keep {
            self.queue.wake(Readiness::OUT | Readiness::WRNORM);
        }
        Ok(taken)
    }

    /// Puts up to `total` bytes in through `fill`; EPIPE without readers, EAGAIN when there is no room (for all of it, if it
    /// must be in one piece).
    pub fn push(
        &self,
        total: usize,
        packets: bool,
        mut fill: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        if total == 0 {
            return Ok(0);
        }
        // Packets and stream bytes are not mixed in the ring: the change waits for the reader.
        let mixed = if packets { state.stream > 0 } else { !state.packets.is_empty() };
        let wanted = if packets { total.min(PIPE_BUF) } else { total };
        let free = state.ring.free();
        let crowded = packets && state.packets.len() * PIPE_BUF >= state.ring.capacity();
        if mixed || crowded || free == 0 || (wanted <= PIPE_BUF && free < wanted) {
            return Err(Errno::EAGAIN);
        }
        let pushed = state.ring.push(wanted.min(free), &mut fill)?;
        if wanted <= PIPE_BUF && pushed < wanted && packets {
            state.ring.retract(pushed);
            return Err(Errno::EFAULT);
        }
        match packets {
            true => state.packets.push_back(pushed),
            false => state.stream += pushed,
        }
        drop(state);
        self.queue.wake(Readiness::IN | Readiness::RDNORM);
        Ok(pushed)
    }

    /// As `push`, for bytes that need not stay together (splice): takes what fits, but waits for PIPE_BUF bytes of room like a
    /// writer that polls.
    pub fn push_some(&self, total: usize, fill: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        let free = {
            let state = self.state.lock();
            if state.readers == 0 {
                return Err(Errno::EPIPE);
            }
            state.ring.free()
        };
        if free < PIPE_BUF {
            return Err(Errno::EAGAIN);
        }
        self.push(total.min(free), false, fill)
    }

    fn readiness(&self, reads: bool, writes: bool) -> Readiness {
        let state = self.state.lock();
        let mut ready = Readiness::empty();
        if reads {
            if state.ring.len() > 0 {
                ready |= Readiness::IN | Readiness::RDNORM;
            }
            // A FIFO that no writer has opened yet has not hung up.
            if state.writers == 0 && state.opened_writing > 0 {
                ready |= Readiness::HUP;
            }
        }
        if writes {
            let crowded = state.packets.len() * PIPE_BUF >= state.ring.capacity();
            if state.ring.free() >= PIPE_BUF && !crowded {
                ready |= Readiness::OUT | Readiness::WRNORM;
            }
            if state.readers == 0 {
                ready |= Readiness::ERR;
            }
        }
        ready
    }
}

/// (reads, writes) of an access mode.
fn access(flags: u32) -> (bool, bool) {
    match flags as i32 & libc::O_ACCMODE {
        libc::O_RDONLY => (true, false),
        libc::O_WRONLY => (false, true),
        _ => (true, true),
    }
}

/// What stands behind a pipe's end.
pub struct PipeFile {
    pipe: Arc<Pipe>,
    /// The FIFO's node and (device, inode); `None` for a pipe without a name.
    node: Option<(Arc<NodeHandle>, (u64, u64))>,
    /// Which ends this description counts for: 1 reading, 2 writing.
    ends: AtomicU64,
}

impl PipeFile {
    /// The pipe.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// (device, inode).
    pub fn inode(&self) -> (u64, u64) {
        self.node.as_ref().map_or((super::ownership::ANONYMOUS_DEVICE, self.pipe.inode.number), |node| node.1)
    }

    fn ends(&self) -> (bool, bool) {
        let ends = self.ends.load(Ordering::Relaxed);
        (ends & 1 != 0, ends & 2 != 0)
    }
}

impl FileOps for PipeFile {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        if offset != Offset::Current {
            return Err(Errno::ESPIPE);
        }
        match buffers.remaining() {
            0 => Ok(0),
            wanted => self.pipe.pull(wanted, false, |bytes| buffers.put(bytes)),
        }
    }

    fn write(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        if offset != Offset::Current {
            return Err(Errno::ESPIPE);
        }
        let total = buffers.remaining();
        self.pipe.push(total, file.has(libc::O_DIRECT), |bytes| buffers.take(bytes))
    }

    fn read_bytes(&self, _: &OpenFile, into: &mut [u8], _: Offset) -> Result<usize, Errno> {
        let mut done = 0;
        self.pipe.pull(into.len(), false, |bytes| {
            into[done..done + bytes.len()].copy_from_slice(bytes);
            done += bytes.len();
            Ok(bytes.len())
        })
    }

    fn write_bytes(&self, file: &OpenFile, from: &[u8], _: Offset) -> Result<usize, Errno> {
        let mut rest = from;
        self.pipe.push(from.len(), file.has(libc::O_DIRECT), |into| {
            let n = into.len().min(rest.len());
            into[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            Ok(n)
        })
    }

    fn poll(&self, _: &OpenFile) -> Readiness {
        let (reads, writes) = self.ends();
        self.pipe.readiness(reads, writes)
    }

    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.pipe.queue)
    }

    fn ioctl(&self, thread: &Thread, _: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        if command != libc::FIONREAD as u32 {
            return Err(Errno::ENOTTY);
        }
        thread.memory().write_value(argument, &(self.pipe.available() as i32))?;
        Ok(0)
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        match &self.node {
            Some((handle, _)) => stat_node(handle),
            None => Ok(self.pipe.inode.attributes(libc::S_IFIFO, 0)),
        }
    }

    fn ownership(&self) -> Option<&Mutex<Ownership>> {
        self.node.is_none().then_some(&self.pipe.inode.ownership)
    }

    fn reopen(&self, _: &Thread, _: &OpenFile, flags: u32) -> Result<Arc<OpenFile>, Errno> {
        Ok(self.pipe.clone().open(flags, None))
    }

    fn release(&self, _: &OpenFile) {
        let (reads, writes) = self.ends();
        self.ends.store(0, Ordering::Relaxed);
        self.pipe.leave(reads, writes);
    }

    fn describe(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.inode().1).into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens a FIFO: the pipe is shared by everybody who has the inode open, and an open of one end waits for the other one
/// (ENXIO for a writer with O_NONBLOCK and no reader).
pub async fn open_fifo(
    task: &Task,
    handle: Arc<NodeHandle>,
    attributes: &Attributes,
    flags: u32,
) -> Result<Arc<OpenFile>, Errno> {
    let inode = (attributes.device, attributes.inode);
    let pipe = {
        let mut fifos = handle.client().fifos.lock();
        match fifos.get(&inode).and_then(|pipe| pipe.upgrade()) {
            Some(pipe) => pipe,
            None => {
                fifos.retain(|_, pipe| pipe.strong_count() > 0);
                let pipe = Pipe::new(&task.credentials());
                fifos.insert(inode, Arc::downgrade(&pipe));
                pipe
            }
        }
    };
    let nonblocking = flags & libc::O_NONBLOCK as u32 != 0;
    let (reads, writes) = access(flags);
    if writes && !reads && nonblocking && pipe.state.lock().readers == 0 {
        return Err(Errno::ENXIO);
    }
    // Counters before we enter: an end that opens and closes again before we look has still been there.
    let before = {
        let state = pipe.state.lock();
        (state.opened_reading, state.opened_writing)
    };
    let file = pipe.clone().open(flags, Some((handle, inode)));
    if (reads && writes) || nonblocking {
        return Ok(file);
    }
    let met = || {
        let state = pipe.state.lock();
        let there = match reads {
            true => state.writers > 0 || state.opened_writing != before.1,
            false => state.readers > 0 || state.opened_reading != before.0,
        };
        there.then_some(())
    };
    task.interruptible(wait_for(&pipe.queue, Readiness::IN | Readiness::OUT, met)).await?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(pipe: &Pipe, bytes: &[u8]) -> Result<usize, Errno> {
        let mut rest = bytes;
        pipe.push(bytes.len(), false, |into| {
            let n = into.len().min(rest.len());
            into[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            Ok(n)
        })
    }

    fn read(pipe: &Pipe, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        pipe.pull(limit, false, |from| {
            bytes.extend_from_slice(from);
            Ok(from.len())
        })?;
        Ok(bytes)
    }

    fn pair() -> (Arc<Pipe>, Arc<OpenFile>, Arc<OpenFile>) {
        let (reader, writer) = Pipe::pair(&Credentials::default(), 0);
        (reader.downcast::<PipeFile>().unwrap().pipe.clone(), reader, writer)
    }

    #[test]
    fn bytes_come_out_in_order_around_the_end_of_the_ring() {
        let (pipe, _reader, _writer) = pair();
        let mut next_in = 0u32;
        let mut next_out = 0u32;
        for round in 1..400 {
            let block: Vec<u8> = (0..round * 7 % 3000).map(|n| (next_in.wrapping_add(n)) as u8).collect();
            next_in = next_in.wrapping_add(block.len() as u32);
            assert_eq!(write(&pipe, &block).unwrap(), block.len());
            while pipe.available() > 1000 {
                for byte in read(&pipe, 777).unwrap() {
                    assert_eq!(byte, next_out as u8);
                    next_out = next_out.wrapping_add(1);
                }
            }
        }
    }

    #[test]
    fn a_small_write_is_whole_or_not_at_all() {
        let (pipe, _reader, _writer) = pair();
        assert_eq!(write(&pipe, &vec![1; DEFAULT_CAPACITY - 10]).unwrap(), DEFAULT_CAPACITY - 10);
        assert_eq!(write(&pipe, &[2; 11]), Err(Errno::EAGAIN));
        assert_eq!(write(&pipe, &[2; 10]), Ok(10));
        assert_eq!(write(&pipe, &[2; 1]), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_large_write_is_taken_in_part() {
        let (pipe, _reader, _writer) = pair();
        assert_eq!(write(&pipe, &vec![1; DEFAULT_CAPACITY + 5000]).unwrap(), DEFAULT_CAPACITY);
    }

    #[test]
    fn a_reader_of_a_closed_pipe_sees_end_of_file() {
        let (pipe, reader, writer) = pair();
        write(&pipe, b"last").unwrap();
        assert_eq!(reader.ops.poll(&reader), Readiness::IN | Readiness::RDNORM);
        drop(writer);
        assert!(reader.ops.poll(&reader).contains(Readiness::HUP | Readiness::IN));
        assert_eq!(read(&pipe, 10).unwrap(), b"last");
        assert_eq!(read(&pipe, 10).unwrap(), b"");
    }

    #[test]
    fn an_empty_pipe_with_a_writer_says_try_again() {
        let (pipe, _reader, _writer) = pair();
        assert_eq!(read(&pipe, 10), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_writer_without_readers_gets_epipe() {
        let (pipe, reader, writer) = pair();
        drop(reader);
        assert_eq!(write(&pipe, b"x"), Err(Errno::EPIPE));
        assert!(writer.ops.poll(&writer).contains(Readiness::ERR));
    }

    #[test]
    fn a_packet_is_read_alone_and_its_tail_is_lost() {
        let (pipe, _reader, _writer) = pair();
        for packet in [&b"first"[..], b"second"] {
            pipe.push(packet.len(), true, |into| {
                into.copy_from_slice(packet);
                Ok(into.len())
            })
            .unwrap();
        }
        assert_eq!(read(&pipe, 3).unwrap(), b"fir");
        assert_eq!(read(&pipe, 100).unwrap(), b"second");
    }

    #[test]
    fn capacity_is_a_power_of_two_and_never_below_what_is_inside() {
        let (pipe, _reader, _writer) = pair();
        assert_eq!(pipe.set_capacity(5000, false), Ok(8192));
        write(&pipe, &[0; 8192]).unwrap();
        assert_eq!(pipe.set_capacity(4096, false), Err(Errno::EBUSY));
        assert_eq!(pipe.set_capacity(MAX_CAPACITY + 1, false), Err(Errno::EPERM));
    }
}
