//! The two ends of a pseudo-terminal as open files.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;

use super::{
    devpts::Devpts,
    job,
    pty::Pty,
    termios::{Control, LocalFlags},
};
use crate::{
    abi::UserAddress,
    executor::{Readiness, WaitQueue},
    fs::{FileOps, Location, Offset, OpenFile, UserBuffers, ownership::Ownership, regular::stat_node, vfs::NodeHandle},
    task::{self, Task, Thread, capability},
};

/// Bytes that are copied from guest memory at a time.
const CHUNK: usize = 2048;

/// The end that programs run on.
pub struct Slave {
    pty: Arc<Pty>,
    /// Hang-ups of the terminal before it was opened.
    hangups: u64,
    /// Where it was opened, when that was not in a devpts (/dev/tty, /dev/console).
    node: Option<Arc<NodeHandle>>,
}

impl Slave {
    /// Opens it. A session's leader without a terminal gets this one, unless it says O_NOCTTY. EIO while it is locked, EBUSY when it
    /// is another's alone.
    pub fn open(thread: &Thread, pty: &Arc<Pty>, flags: u32, node: Option<Arc<NodeHandle>>) -> Result<Arc<Slave>, Errno> {
        if pty.exclusive.load(std::sync::atomic::Ordering::Relaxed) && !thread.credentials().has(capability::SYS_ADMIN) {
            return Err(Errno::EBUSY);
        }
        let slave = Slave::enter(pty, node)?;
        let readable = flags as i32 & libc::O_ACCMODE != libc::O_WRONLY;
        if readable && flags & libc::O_NOCTTY as u32 == 0 {
            job::acquire_by_opening(thread, pty);
        }
        Ok(slave)
    }

    /// Opens it on nobody's behalf.
    pub(super) fn enter(pty: &Arc<Pty>, node: Option<Arc<NodeHandle>>) -> Result<Arc<Slave>, Errno> {
        let hangups = pty.enter_slave()?;
        Ok(Arc::new(Slave { pty: pty.clone(), hangups, node }))
    }

    /// An open file description of it for reading and writing.
    pub fn description(self: Arc<Self>) -> Arc<OpenFile> {
        OpenFile::new(self, (libc::O_RDWR | crate::fs::open::O_LARGEFILE) as u32, None)
    }

    /// The terminal.
    pub fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }

    /// Whether it was hung up since it was opened.
    pub(super) fn is_dead(&self) -> bool {
        self.pty.is_dead(self.hangups)
    }

    /// The thread whose call this is.
    fn caller(&self) -> Option<Arc<Task>> {
        self.pty.kernel.pids.task(task::current_tid()?)
    }

    fn check_background(&self, signal: i32) -> Result<(), Errno> {
        self.caller().map_or(Ok(()), |task| job::check_background(&task, &self.pty, signal))
    }

    /// Reads; how many bytes, and how many a read is to get at least (VMIN).
    fn read_with(&self, limit: usize, sink: impl FnOnce(&[u8]) -> Result<usize, Errno>) -> Result<(usize, usize), Errno> {
        if self.is_dead() {
            return Ok((0, 0));
        }
        self.check_background(libc::SIGTTIN)?;
        let (read, minimum, waits) = self.pty.work(|state, _| {
            let termios = state.discipline.termios();
            let raw = !termios.has_local(LocalFlags::ICANON);
            let (minimum, time) = (termios.control(Control::Minimum), termios.control(Control::Time));
            let (minimum, waits) = if raw { (minimum.max(1), minimum > 0 || time > 0) } else { (0, true) };
            let read = state.discipline.read(limit, sink);
            (read, usize::from(minimum), waits)
        });
        match read {
            Some(read) => Ok((read?, minimum)),
            None if waits => Err(Errno::EAGAIN),
            None => Ok((0, 0)),
        }
    }

    fn write_with(&self, bytes: &[u8]) -> Result<usize, Errno> {
        if self.is_dead() {
            return Err(Errno::EIO);
        }
        if self.pty.stops_background_output() {
            self.check_background(libc::SIGTTOU)?;
        }
        match self.pty.work(|state, _| state.discipline.write(bytes, &mut state.output)) {
            0 if !bytes.is_empty() => Err(Errno::EAGAIN),
            written => Ok(written),
        }
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.pty.leave_slave();
    }
}

impl FileOps for Slave {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        if offset != Offset::Current {
            return Err(Errno::ESPIPE);
        }
        let (limit, done) = (buffers.remaining(), buffers.done);
        if limit == 0 {
            return Ok(done);
        }
        match self.read_with(limit, |bytes| buffers.put(bytes))? {
            (read, minimum) if done + read < minimum && read < limit => Err(Errno::EAGAIN),
            (read, _) => Ok(done + read),
        }
    }

    fn write(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        if offset != Offset::Current {
            return Err(Errno::ESPIPE);
        }
        let mut total = 0;
        let mut chunk = [0; CHUNK];
        while buffers.remaining() > 0 {
            let wanted = buffers.remaining().min(CHUNK);
            let taken = match buffers.take(&mut chunk[..wanted]) {
                Ok(taken) => taken,
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            };
            let written = self.write_with(&chunk[..taken]);
            // What was not written is taken again.
            buffers.done -= taken - written.unwrap_or(0);
            match written {
                Ok(written) => total += written,
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
            if written != Ok(taken) {
                break;
            }
        }
        Ok(total)
    }

    fn read_bytes(&self, _: &OpenFile, into: &mut [u8], _: Offset) -> Result<usize, Errno> {
        let limit = into.len();
        let read = self.read_with(limit, |bytes| {
            into[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        });
        // What was taken cannot wait here until there is as much as a read wants.
        read.map(|(read, _)| read)
    }

    fn write_bytes(&self, _: &OpenFile, from: &[u8], _: Offset) -> Result<usize, Errno> {
        self.write_with(from)
    }

    fn patience(&self, done: usize) -> Option<u64> {
        const TENTH_OF_A_SECOND: u64 = 100_000_000;
        let termios = self.pty.termios();
        let (minimum, time) = (termios.control(Control::Minimum), termios.control(Control::Time));
        let limited = !termios.has_local(LocalFlags::ICANON) && time > 0 && (minimum == 0 || done > 0);
        limited.then(|| u64::from(time) * TENTH_OF_A_SECOND)
    }

    fn poll(&self, _: &OpenFile) -> Readiness {
        self.pty.slave_readiness(self.hangups)
    }

    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.pty.slave_queue)
    }

    fn ioctl(&self, thread: &Thread, file: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        super::ioctl::slave(self, thread, file, command, argument)
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        match &self.node {
            Some(node) => stat_node(node),
            None => Ok(self.pty.attributes()),
        }
    }

    fn ownership(&self) -> Option<&Mutex<Ownership>> {
        Some(&self.pty.ownership)
    }

    fn reopen(&self, thread: &Thread, _: &OpenFile, flags: u32) -> Result<Arc<OpenFile>, Errno> {
        Ok(OpenFile::new(Slave::open(thread, &self.pty, flags, None)?, flags, None))
    }

    fn describe(&self) -> Vec<u8> {
        format!("/dev/pts/{}", self.pty.number).into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The end that a terminal emulator has. Closing it hangs up the other.
pub struct Master {
    pty: Arc<Pty>,
    inode: Attributes,
}

impl Master {
    /// A new pseudo-terminal's. `inode` is what stat(2) says of the node that was opened.
    pub fn open(thread: &Thread, devpts: &Arc<Devpts>, inode: Attributes) -> Result<Arc<Master>, Errno> {
        Ok(Arc::new(Master { pty: devpts.allocate(thread)?, inode }))
    }

    /// The terminal.
    pub fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.pty.hang_up();
    }
}

impl FileOps for Master {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        if offset != Offset::Current {
            return Err(Errno::ESPIPE);
        }
        match buffers.remaining() {
            0 => Ok(0),
            limit => self.pty.read_output(limit, |bytes| buffers.put(bytes)),
        }
    }

    fn write(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        if offset != Offset::Current {
            return Err(Errno::ESPIPE);
        }
        let mut total = 0;
        let mut chunk = [0; CHUNK];
        while buffers.remaining() > 0 {
            let wanted = buffers.remaining().min(CHUNK).min(self.pty.typing_room());
            if wanted == 0 {
                return if total > 0 { Ok(total) } else { Err(Errno::EAGAIN) };
            }
            match buffers.take(&mut chunk[..wanted]) {
                Ok(taken) => {
                    self.pty.type_bytes(&chunk[..taken]);
                    total += taken;
                }
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    fn read_bytes(&self, _: &OpenFile, into: &mut [u8], _: Offset) -> Result<usize, Errno> {
        let (limit, mut done) = (into.len(), 0);
        self.pty.read_output(limit, |bytes| {
            let end = limit.min(done + bytes.len());
            let taken = end - done;
            into[done..end].copy_from_slice(&bytes[..taken]);
            done = end;
            Ok(taken)
        })
    }

    fn write_bytes(&self, _: &OpenFile, from: &[u8], _: Offset) -> Result<usize, Errno> {
        let taken = from.len().min(self.pty.typing_room());
        if taken == 0 && !from.is_empty() {
            return Err(Errno::EAGAIN);
        }
        self.pty.type_bytes(&from[..taken]);
        Ok(taken)
    }

    fn poll(&self, _: &OpenFile) -> Readiness {
        self.pty.master_readiness()
    }

    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.pty.master_queue)
    }

    fn ioctl(&self, thread: &Thread, file: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        super::ioctl::master(self, thread, file, command, argument)
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(self.inode)
    }

    fn describe(&self) -> Vec<u8> {
        b"/dev/ptmx".to_vec()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Where the slave of a master that was opened at `location` is, if that is in a devpts.
pub(super) fn slave_location(thread: &Thread, file: &OpenFile, pty: &Pty) -> Option<Location> {
    let Some(Location::Special(place)) = &file.location else { return None };
    let slave = place.parent.as_ref()?.child(thread, pty.number.to_string().as_bytes()).ok()?;
    Some(Location::Special(slave))
}
