//! A file that refers to a process (pidfd_open(2)).

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};

use super::{Process, Thread};
use crate::{
    executor::{Readiness, WaitQueue},
    fs::{FileOps, OpenFile},
};

/// The file. It is readable (poll(2)) when the process has ended.
pub struct PidFd {
    /// Whom it refers to; not to be found by number, which may be another's by now.
    pub process: Arc<Process>,
}

impl PidFd {
    /// A new open file description.
    pub fn open(process: &Arc<Process>, nonblocking: bool) -> Arc<OpenFile> {
        let flags = libc::O_RDWR | if nonblocking { libc::O_NONBLOCK } else { 0 };
        OpenFile::new(Arc::new(PidFd { process: process.clone() }), flags as u32, None)
    }
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.process.thread_count() == 0
    }
}

impl FileOps for PidFd {
    fn poll(&self, _: &OpenFile) -> Readiness {
        if self.has_ended() { Readiness::IN | Readiness::RDNORM } else { Readiness::empty() }
    }
    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.process.exit_events)
    }
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { mode: 0o600, inode: self.process.pid as u64, links: 1, block_size: 4096, ..Default::default() })
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
