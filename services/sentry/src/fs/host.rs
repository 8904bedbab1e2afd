//! Files of the host that the container was started with: its standard input, output and error.
//!
//! A worker never sleeps on one: what may block is polled first and written in pieces that cannot block, or asked not to wait.
//! When the host says "not now", the host poller wakes the file's queue.

use std::{
    any::Any,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, Timestamp},
};
use parking_lot::Mutex;

use super::{FileOps, Offset, OpenFile, UserBuffers, host_io, host_io::HOST_POSITION, ownership::Ownership, pipe::PIPE_BUF};
use crate::{
    abi::UserAddress,
    executor::{HostPoller, Readiness, WaitQueue},
    task::Thread,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Terminal,
    /// Pipe, socket, or a device that is no terminal.
    Stream,
    /// A regular file: always ready, has the host's position.
    Regular,
}

/// A file of the host.
pub struct HostFile {
    fd: OwnedFd,
    kind: Kind,
    queue: Arc<WaitQueue>,
    stat: libc::stat,
    ownership: Mutex<Ownership>,
    /// The host file knows RWF_NOWAIT.
    nowait: AtomicBool,
}

/// struct termios of the kernel (TCGETS) and struct termios2 (TCGETS2).
const TERMIOS: usize = 36;
const TERMIOS2: usize = 44;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;

impl HostFile {
    /// The host file `fd`, and the access mode (O_RDONLY, …) it is open with.
    pub fn new(fd: OwnedFd) -> Result<(Arc<HostFile>, u32), Errno> {
        let stat = host_io::stat(fd.as_raw_fd())?;
        let flags = host_io::control(fd.as_raw_fd(), libc::F_GETFL, 0)? as u32;
        let terminal = host_io::ioctl(&fd, libc::TCGETS as u32, &mut [0; TERMIOS2]).is_ok();
        let kind = match stat.st_mode & libc::S_IFMT {
            _ if terminal => Kind::Terminal,
            libc::S_IFREG | libc::S_IFBLK => Kind::Regular,
            _ => Kind::Stream,
        };
        let ownership = Ownership { permissions: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
        let file = HostFile {
            fd,
            kind,
            queue: Arc::new(WaitQueue::new()),
            stat,
            ownership: Mutex::new(ownership),
            nowait: AtomicBool::new(true),
        };
        Ok((Arc::new(file), flags & (libc::O_ACCMODE | libc::O_APPEND) as u32))
    }

    /// An open file description of it.
    pub fn open(fd: OwnedFd) -> Result<Arc<OpenFile>, Errno> {
        let (file, flags) = HostFile::new(fd)?;
        Ok(OpenFile::new(file, flags | super::open::O_LARGEFILE as u32, None))
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.kind == Kind::Terminal
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn host_offset(&self, offset: Offset) -> Result<i64, Errno> {
        match offset {
            Offset::Current => Ok(HOST_POSITION),
            Offset::At(_) if self.kind != Kind::Regular => Err(Errno::ESPIPE),
            Offset::At(at) => host_io::offset(at),
        }
    }

    fn ready(&self, events: i16) -> bool {
        host_io::poll(self.raw(), events) != 0
    }

    fn read_step(&self, iovecs: &mut [libc::iovec], at: i64) -> Result<usize, Errno> {
        if self.kind == Kind::Regular {
            return host_io::read_vectors(self.raw(), iovecs, at, 0);
        }
        if self.nowait.load(Ordering::Relaxed) {
            match host_io::read_vectors(self.raw(), iovecs, at, libc::RWF_NOWAIT) {
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ESPIPE) => self.nowait.store(false, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        if !self.ready(libc::POLLIN) {
            return Err(Errno::EAGAIN);
        }
        host_io::read_vectors(self.raw(), iovecs, at, 0)
    }

    fn write_step(&self, iovecs: &mut [libc::iovec], at: i64) -> Result<usize, Errno> {
        if self.kind == Kind::Regular {
            return host_io::write_vectors(self.raw(), iovecs, at, 0);
        }
        if self.nowait.load(Ordering::Relaxed) {
            match host_io::write_vectors(self.raw(), iovecs, at, libc::RWF_NOWAIT) {
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ESPIPE) => self.nowait.store(false, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        if !self.ready(libc::POLLOUT) {
            return Err(Errno::EAGAIN);
        }
        // A host pipe that is ready to be written takes this much without waiting.
        let used = host_io::shorten(iovecs, PIPE_BUF);
        host_io::write_vectors(self.raw(), &mut iovecs[..used], at, 0)
    }

    /// Passes a structure of `N` bytes to the host's terminal.
    fn terminal_set<const N: usize>(&self, thread: &Thread, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        let mut bytes = [0; N];
        thread.memory().read(argument, &mut bytes)?;
        host_io::ioctl(&self.fd, command, &mut bytes)?;
        Ok(0)
    }

    /// Gets one from it.
    fn terminal_get<const N: usize>(&self, thread: &Thread, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        let mut bytes = [0; N];
        host_io::ioctl(&self.fd, command, &mut bytes)?;
        thread.memory().write(argument, &bytes)?;
        Ok(0)
    }

    fn terminal(&self, thread: &Thread, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        match command as libc::c_ulong {
            libc::TCGETS => self.terminal_get::<TERMIOS>(thread, command, argument),
            libc::TCSETS | libc::TCSETSW | libc::TCSETSF => self.terminal_set::<TERMIOS>(thread, command, argument),
            libc::TIOCGWINSZ => self.terminal_get::<8>(thread, command, argument),
            libc::TIOCSWINSZ => self.terminal_set::<8>(thread, command, argument),
            libc::TCSBRK | libc::TCXONC | libc::TCFLSH => {
                host_io::ioctl_value(&self.fd, command, argument.0 as i32)?;
                Ok(0)
            }
            // It is nobody's controlling terminal here: that is the host's business.
            libc::TIOCSCTTY => Err(Errno::EPERM),
            _ => match command {
                TCGETS2 => self.terminal_get::<TERMIOS2>(thread, command, argument),
                TCSETS2 | TCSETSW2 | TCSETSF2 => self.terminal_set::<TERMIOS2>(thread, command, argument),
                _ => Err(Errno::ENOTTY),
            },
        }
    }
}

impl FileOps for HostFile {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        let at = self.host_offset(offset)?;
        let mut done = 0;
        buffers.direct(true, |iovecs| {
            // A stream that gave something is not asked again by the same call.
            if done > 0 && self.kind != Kind::Regular {
                return Ok(0);
            }
            let n = self.read_step(iovecs, if at < 0 { at } else { at + done as i64 })?;
            done += n;
            Ok(n)
        })
    }

    fn write(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        let at = self.host_offset(offset)?;
        let mut done = 0;
        buffers.direct(false, |iovecs| {
            let n = self.write_step(iovecs, if at < 0 { at } else { at + done as i64 })?;
            done += n;
            Ok(n)
        })
    }

    fn read_bytes(&self, _: &OpenFile, into: &mut [u8], offset: Offset) -> Result<usize, Errno> {
        let iovec = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        self.read_step(&mut [iovec], self.host_offset(offset)?)
    }

    fn write_bytes(&self, _: &OpenFile, from: &[u8], offset: Offset) -> Result<usize, Errno> {
        let iovec = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
        self.write_step(&mut [iovec], self.host_offset(offset)?)
    }

    fn seek(&self, _: &OpenFile, offset: i64, whence: i32) -> Result<u64, Errno> {
        match self.kind {
            Kind::Regular => host_io::seek(self.raw(), offset, whence),
            Kind::Terminal | Kind::Stream => Err(Errno::ESPIPE),
        }
    }

    fn poll(&self, _: &OpenFile) -> Readiness {
        if self.kind == Kind::Regular {
            return Readiness::IN | Readiness::OUT | Readiness::RDNORM | Readiness::WRNORM;
        }
        let events = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP | libc::POLLRDNORM | libc::POLLWRNORM;
        Readiness::from_bits_truncate(host_io::poll(self.raw(), events) as u16 as u32)
    }

    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        (self.kind != Kind::Regular).then_some(&self.queue)
    }

    fn prepare_wait(&self, interest: Readiness) {
        if self.kind != Kind::Regular {
            HostPoller::arm(self.raw(), interest, self.queue.clone());
        }
    }

    fn ioctl(&self, thread: &Thread, _: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        if command == libc::FIONREAD as u32 {
            return self.terminal_get::<4>(thread, command, argument);
        }
        match self.kind {
            Kind::Terminal => self.terminal(thread, command, argument),
            Kind::Stream | Kind::Regular => Err(Errno::ENOTTY),
        }
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        let stat = host_io::stat(self.raw())?;
        let ownership = *self.ownership.lock();
        let time = |seconds, nanoseconds: i64| Timestamp { seconds, nanoseconds: nanoseconds as u32 };
        Ok(Attributes {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode & libc::S_IFMT | ownership.permissions,
            links: stat.st_nlink as u32,
            uid: ownership.uid,
            gid: ownership.gid,
            special_device: stat.st_rdev,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            block_size: stat.st_blksize as u32,
            accessed: time(stat.st_atime, stat.st_atime_nsec),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            ..Attributes::default()
        })
    }

    fn ownership(&self) -> Option<&Mutex<Ownership>> {
        Some(&self.ownership)
    }

    /// One host fd stands behind all descriptions of it (/proc/self/fd/0, /dev/stdout).
    fn reopen(&self, _: &Thread, file: &OpenFile, flags: u32) -> Result<Arc<OpenFile>, Errno> {
        if flags & libc::O_TRUNC as u32 != 0 && self.kind == Kind::Regular {
            host_io::truncate(self.raw(), 0)?;
            // The position is the host's, shared by all descriptions: left beyond the end it would make a hole.
            host_io::seek(self.raw(), 0, libc::SEEK_SET)?;
        }
        Ok(OpenFile::new(file.ops.clone(), flags, None))
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        match self.kind {
            Kind::Regular => host_io::sync(self.raw(), data_only),
            Kind::Terminal | Kind::Stream => Err(Errno::EINVAL),
        }
    }

    fn truncate(&self, _: &OpenFile, size: u64) -> Result<(), Errno> {
        match self.kind {
            Kind::Regular => host_io::truncate(self.raw(), host_io::offset(size)?),
            Kind::Terminal | Kind::Stream => Err(Errno::EINVAL),
        }
    }

    fn describe(&self) -> Vec<u8> {
        match self.stat.st_mode & libc::S_IFMT {
            libc::S_IFIFO => format!("pipe:[{}]", self.stat.st_ino).into_bytes(),
            libc::S_IFSOCK => format!("socket:[{}]", self.stat.st_ino).into_bytes(),
            libc::S_IFCHR if self.is_terminal() => b"/dev/console".to_vec(),
            libc::S_IFCHR if self.stat.st_rdev == libc::makedev(1, 3) => b"/dev/null".to_vec(),
            _ => format!("host:[{}]", self.stat.st_ino).into_bytes(),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(fd: OwnedFd) -> Arc<OpenFile> {
        HostFile::open(fd).expect("a fresh fd can be examined")
    }

    #[test]
    fn an_empty_host_pipe_says_try_again_until_it_ends() {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let (reader, writer) = (open(reader), open(writer));
        assert!(reader.readable() && !reader.writable() && writer.writable());
        let mut bytes = [0; 8];
        assert_eq!(reader.ops.read_bytes(&reader, &mut bytes, Offset::Current), Err(Errno::EAGAIN));
        assert_eq!(writer.ops.write_bytes(&writer, b"abc", Offset::Current), Ok(3));
        assert_eq!(reader.ops.read_bytes(&reader, &mut bytes, Offset::Current), Ok(3));
        assert_eq!(reader.ops.read_bytes(&reader, &mut bytes, Offset::At(0)), Err(Errno::ESPIPE));
        drop(writer);
        assert_eq!(reader.ops.read_bytes(&reader, &mut bytes, Offset::Current), Ok(0));
    }

    #[test]
    fn a_full_host_pipe_takes_what_fits_and_then_says_try_again() {
        let (_reader, writer) = nix::unistd::pipe().expect("a pipe");
        let writer = open(writer);
        let block = vec![0; 1 << 20];
        let mut total = 0;
        let end = loop {
            match writer.ops.write_bytes(&writer, &block, Offset::Current) {
                Ok(n) => total += n,
                Err(errno) => break errno,
            }
        };
        assert_eq!((end, total), (Errno::EAGAIN, 65536));
    }
}
