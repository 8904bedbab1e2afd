//! A socket as an open file.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;

use super::{Incoming, Outgoing, Socket};
use crate::{
    abi::UserAddress,
    executor::{Readiness, WaitQueue},
    fs::{FileOps, Offset, OpenFile, UserBuffers, ownership::Ownership},
    task::Thread,
};

/// What stands behind a socket's descriptor. The system calls go to the socket by [`super::transfer`], which knows the caller;
/// the methods here serve splice(2) and sendfile(2).
pub struct SocketFile {
    /// The socket.
    pub socket: Arc<dyn Socket>,
}

impl SocketFile {
    /// A new open file; `flags` may have O_NONBLOCK.
    pub fn open(socket: Arc<dyn Socket>, flags: u32) -> Arc<OpenFile> {
        OpenFile::new(Arc::new(SocketFile { socket }), libc::O_RDWR as u32 | flags, None)
    }
}

fn only_here(offset: Offset) -> Result<(), Errno> {
    if offset == Offset::Current { Ok(()) } else { Err(Errno::ESPIPE) }
}

impl FileOps for SocketFile {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        only_here(offset)?;
        self.socket.receive(&mut Incoming::bytes(buffers, 0))
    }

    fn write(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        only_here(offset)?;
        self.socket.send(&mut Outgoing::bytes(None, buffers, 0))
    }

    fn read_bytes(&self, _: &OpenFile, into: &mut [u8], offset: Offset) -> Result<usize, Errno> {
        only_here(offset)?;
        let mut sink = into;
        self.socket.receive(&mut Incoming::bytes(&mut sink, 0))
    }

    fn write_bytes(&self, _: &OpenFile, from: &[u8], offset: Offset) -> Result<usize, Errno> {
        only_here(offset)?;
        let mut source = from;
        self.socket.send(&mut Outgoing::bytes(None, &mut source, 0))
    }

    fn poll(&self, _: &OpenFile) -> Readiness {
        self.socket.poll()
    }

    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.socket.core().queue)
    }

    fn ioctl(&self, thread: &Thread, file: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        const FIOSETOWN: u32 = 0x8901;
        const SIOCSPGRP: u32 = 0x8902;
        const FIOGETOWN: u32 = 0x8903;
        const SIOCGPGRP: u32 = 0x8904;
        let memory = thread.memory();
        match command {
            FIOSETOWN | SIOCSPGRP => {
                let id: i32 = memory.read_value(argument)?;
                file.set_owner(id)?;
            }
            FIOGETOWN | SIOCGPGRP => memory.write_value(argument, &file.owner_number())?,
            _ => return self.socket.ioctl(thread, command, argument),
        }
        Ok(0)
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(self.socket.core().inode.attributes(libc::S_IFSOCK, 0))
    }

    fn ownership(&self) -> Option<&Mutex<Ownership>> {
        Some(&self.socket.core().inode.ownership)
    }

    fn release(&self, _: &OpenFile) {
        self.socket.close();
    }

    fn describe(&self) -> Vec<u8> {
        format!("socket:[{}]", self.socket.core().inode.number).into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
