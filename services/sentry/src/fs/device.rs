//! Character devices that the sentry implements: null, zero, full, random and urandom, and the nodes of terminals. They are
//! recognised by device number, wherever their node lies.

use std::{any::Any, os::fd::AsRawFd, sync::Arc};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, NodeId},
};

use super::{
    FileOps, Location, Offset, OpenFile, UserBuffers, host_io,
    regular::{path_of, stat_node},
    vfs::NodeHandle,
};
use crate::{
    memory::MappableFile,
    task::Thread,
    tty::file::{Master, Slave},
};

/// Which device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Device {
    Null,
    Zero,
    Full,
    Random,
}

/// An open device.
pub struct CharDevice {
    device: Device,
    handle: Option<Arc<NodeHandle>>,
}

impl CharDevice {
    /// Behind a node of vfs.
    pub fn new(device: Device, handle: Arc<NodeHandle>) -> CharDevice {
        CharDevice { device, handle: Some(handle) }
    }

    /// Without a node.
    pub fn unnamed(device: Device) -> CharDevice {
        CharDevice { device, handle: None }
    }
}

/// Opens the character device of a node; ENXIO when there is none with that number.
pub fn open(thread: &Thread, handle: Arc<NodeHandle>, attributes: &Attributes, flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let number = (libc::major(attributes.special_device), libc::minor(attributes.special_device));
    let device = match number {
        (1, 3) => Device::Null,
        (1, 5) => Device::Zero,
        (1, 7) => Device::Full,
        (1, 8) | (1, 9) => Device::Random,
        _ => return open_terminal(thread, handle, attributes, number, flags),
    };
    let ops = CharDevice::new(device, handle.clone());
    Ok(OpenFile::new(Arc::new(ops), flags, Some(Location::Vfs(handle))))
}

/// /dev/tty, ptmx, and nodes of the container's terminals that are not in its devpts (/dev/console).
fn open_terminal(
    thread: &Thread,
    handle: Arc<NodeHandle>,
    attributes: &Attributes,
    number: (u32, u32),
    flags: u32,
) -> Result<Arc<OpenFile>, Errno> {
    let devpts = || thread.kernel.terminals.devpts(&thread.kernel);
    let ops: Arc<dyn FileOps> = match number {
        (5, 0) => {
            let own = thread.process.terminal.lock().clone();
            Slave::open(thread, &own.ok_or(Errno::ENXIO)?, flags | libc::O_NOCTTY as u32, Some(handle.clone()))?
        }
        (5, 2) => Master::open(thread, &devpts(), *attributes)?,
        (136, number) => Slave::open(thread, &devpts().get(number).ok_or(Errno::EIO)?, flags, None)?,
        _ => return Err(Errno::ENXIO),
    };
    Ok(OpenFile::new(ops, flags, Some(Location::Vfs(handle))))
}

static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

impl FileOps for CharDevice {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        match self.device {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => {
                let mut done = 0;
                loop {
                    let wanted = buffers.remaining().min(ZEROS.len());
                    if wanted == 0 {
                        return Ok(done);
                    }
                    match buffers.put(&ZEROS[..wanted]) {
                        Ok(n) if n == wanted => done += n,
                        Ok(n) => return Ok(done + n),
                        Err(errno) if done == 0 => return Err(errno),
                        Err(_) => return Ok(done),
                    }
                }
            }
            Device::Random => buffers.direct(true, host_io::random_vectors),
        }
    }

    fn write(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        if self.device == Device::Full {
            return Err(Errno::ENOSPC);
        }
        let all = buffers.remaining();
        buffers.done += all;
        Ok(all)
    }

    fn read_bytes(&self, _: &OpenFile, into: &mut [u8], _: Offset) -> Result<usize, Errno> {
        match self.device {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => {
                into.fill(0);
                Ok(into.len())
            }
            Device::Random => {
                host_io::random_vectors(&mut [libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() }])
            }
        }
    }

    fn write_bytes(&self, _: &OpenFile, from: &[u8], _: Offset) -> Result<usize, Errno> {
        if self.device == Device::Full { Err(Errno::ENOSPC) } else { Ok(from.len()) }
    }

    fn seek(&self, _: &OpenFile, _: i64, _: i32) -> Result<u64, Errno> {
        Ok(0)
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        match &self.handle {
            Some(handle) => stat_node(handle),
            None => Ok(Attributes { mode: libc::S_IFCHR | 0o666, links: 1, block_size: 4096, ..Attributes::default() }),
        }
    }

    fn mappable(&self) -> Result<MappableFile, Errno> {
        if self.device != Device::Zero {
            return Err(Errno::ENODEV);
        }
        // A fresh sparse file reads as zeros, privately and shared, as a mapping of /dev/zero does.
        let fd = host_io::memfd(c"zero", libc::MFD_CLOEXEC)?;
        host_io::truncate(fd.as_raw_fd(), 1 << 46)?;
        let inode = host_io::stat(fd.as_raw_fd())?.st_ino;
        Ok(MappableFile {
            fd: Arc::new(fd),
            writable: true,
            device: 1,
            inode,
            name: Arc::new(|| b"/dev/zero (deleted)".to_vec()),
        })
    }

    fn describe(&self) -> Vec<u8> {
        self.handle.as_ref().and_then(|handle| path_of(handle, NodeId::ROOT).ok()).unwrap_or_else(|| b"/dev/null".to_vec())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
