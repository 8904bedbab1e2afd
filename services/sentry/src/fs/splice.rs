//! Bytes from one file to another without passing through guest memory: sendfile, copy_file_range, splice, tee.
//!
//! Invariant: two pipes are never locked by two copies in opposite order, because copies between pipes take turns.

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{
    Offset, OpenFile, io,
    pipe::{Pipe, PipeFile},
};
use crate::{executor::Readiness, task::Task};

/// Bytes copied at a time.
const CHUNK: usize = 64 * 1024;

/// One side of a copy.
pub struct End<'a> {
    /// The file.
    pub file: &'a OpenFile,
    /// An explicit offset, which advances; `None` for the file's position.
    pub offset: Option<u64>,
}

impl End<'_> {
    fn place(&self) -> Offset {
        self.offset.map_or(Offset::Current, Offset::At)
    }

    /// The same end, `bytes` further on if it has an offset.
    fn after(&self, bytes: usize) -> End<'_> {
        End { file: self.file, offset: self.offset.map(|offset| offset + bytes as u64) }
    }

    fn advance(&mut self, bytes: usize) {
        if let Some(offset) = &mut self.offset {
            *offset += bytes as u64;
        }
    }

    fn pipe(&self) -> Option<&Pipe> {
        self.file.downcast::<PipeFile>().map(|file| &**file.pipe())
    }

    fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        self.file.ops.read_bytes(self.file, into, self.place())
    }

    fn write(&self, from: &[u8]) -> Result<usize, Errno> {
        self.file.ops.write_bytes(self.file, from, self.place())
    }
}

/// Copies between two pipes one after the other.
static BETWEEN_PIPES: Mutex<()> = Mutex::new(());

/// One step of at most `length` bytes; EAGAIN when an end is not ready.
fn step(from: &mut End<'_>, to: &mut End<'_>, length: usize, keep: bool) -> Result<usize, Errno> {
    let length = length.min(CHUNK);
    let done = match (from.pipe(), to.pipe()) {
        (Some(source), Some(sink)) => {
            if std::ptr::eq(source, sink) {
                return Err(Errno::EINVAL);
            }
            let _turn = BETWEEN_PIPES.lock();
            source.pull(length, keep, |bytes| {
                // In pieces that need not be whole, as splice moves whatever fits.
                let mut rest = bytes;
                sink.push_some(bytes.len(), |into| {
                    let n = into.len().min(rest.len());
                    into[..n].copy_from_slice(&rest[..n]);
                    rest = &rest[n..];
                    Ok(n)
                })
            })?
        }
        // A ring gives and takes bytes in up to two pieces, so the other end's offset moves on between them.
        (Some(source), None) => {
            let mut done = 0;
            source.pull(length, false, |bytes| {
                let n = to.after(done).write(bytes)?;
                done += n;
                Ok(n)
            })?
        }
        (None, Some(sink)) => {
            let mut done = 0;
            sink.push_some(length, |into| {
                let n = from.after(done).read(into)?;
                done += n;
                Ok(n)
            })?
        }
        (None, None) => copy(from, to, length)?,
    };
    from.advance(done);
    to.advance(done);
    Ok(done)
}

fn copy(from: &End<'_>, to: &End<'_>, length: usize) -> Result<usize, Errno> {
    if from.offset.is_none() {
        // What was read from a position and could not be written must not be lost: ask the sink first.
        let writable = Readiness::OUT | Readiness::ERR | Readiness::HUP;
        if to.file.ops.wait_queue().is_some() && !to.file.ops.poll(to.file).intersects(writable) {
            return Err(Errno::EAGAIN);
        }
    }
    let mut buffer = vec![0; length];
    let got = from.read(&mut buffer)?;
    let mut written = 0;
    while written < got {
        match to.after(written).write(&buffer[written..got]) {
            Ok(0) => break,
            Ok(n) => written += n,
            Err(errno) if written == 0 => {
                put_back(from, got);
                return Err(errno);
            }
            Err(_) => break,
        }
    }
    put_back(from, got - written);
    Ok(written)
}

/// Sets a position back by what was read and not written.
fn put_back(from: &End<'_>, bytes: usize) {
    if from.offset.is_none() && bytes > 0 {
        let mut position = from.file.position.lock();
        *position = position.saturating_sub(bytes as u64);
    }
}

/// How long a copy goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Until `length` bytes are done, the source ends or an end would block after some (sendfile, copy_file_range).
    All,
    /// Until something was moved (splice).
    Some,
    /// As `Some`, and the bytes stay in the source pipe (tee).
    Keep,
}

/// Copies up to `length` bytes, waiting for both ends unless `nonblocking` (or the end's O_NONBLOCK).
pub async fn transfer(
    task: &Task,
    from: &mut End<'_>,
    to: &mut End<'_>,
    length: usize,
    extent: Extent,
    nonblocking: bool,
) -> Result<usize, Errno> {
    let mut total = 0;
    while total < length {
        let outcome = match step(from, to, length - total, extent == Extent::Keep) {
            Err(Errno::EAGAIN) if total > 0 && extent != Extent::All => return Ok(total),
            Err(Errno::EAGAIN) => match wait(task, from.file, to.file, nonblocking).await {
                Ok(()) => continue,
                Err(errno) => Err(errno),
            },
            outcome => outcome,
        };
        match outcome {
            Ok(0) => break,
            Ok(n) => total += n,
            Err(errno) => {
                if errno == Errno::EPIPE {
                    io::broken_pipe(task);
                }
                return if total > 0 { Ok(total) } else { Err(errno) };
            }
        }
        if extent != Extent::All {
            break;
        }
    }
    Ok(total)
}

/// Waits for the end that is not ready.
async fn wait(task: &Task, from: &OpenFile, to: &OpenFile, nonblocking: bool) -> Result<(), Errno> {
    let source = Readiness::IN | Readiness::HUP | Readiness::ERR;
    let sink = Readiness::OUT | Readiness::HUP | Readiness::ERR;
    let blocked = |file: &OpenFile, wanted| file.ops.wait_queue().is_some() && !file.ops.poll(file).intersects(wanted);
    let (file, wanted) = if blocked(from, source) { (from, source) } else { (to, sink) };
    let ready = || if blocked(file, wanted) { Err(Errno::EAGAIN) } else { Ok(()) };
    io::retry(task, file, wanted, nonblocking, ready).await
}
