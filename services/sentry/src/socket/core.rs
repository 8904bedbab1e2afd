//! What every socket has, whatever its family.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;

use super::options::{Flags, Settings};
use crate::{executor::WaitQueue, fs::ownership::LocalInode, task::Credentials};

/// Bytes that a socket's buffers hold at first (net.core.wmem_default, rmem_default).
pub const DEFAULT_BUFFER: usize = 212_992;

/// What every socket has.
pub struct Core {
    /// AF_*.
    pub domain: i32,
    /// SOCK_*.
    pub kind: i32,
    /// As socket(2) was given it.
    pub protocol: i32,
    /// Its inode.
    pub inode: LocalInode,
    /// Woken whenever `poll` may have changed.
    pub queue: Arc<WaitQueue>,
    /// SO_SNDBUF, as it is told (twice what was asked for).
    pub send_buffer: AtomicUsize,
    /// SO_RCVBUF, the same.
    pub receive_buffer: AtomicUsize,
    /// Options with a value.
    pub settings: Mutex<Settings>,
    flags: AtomicU32,
}

impl Core {
    /// Of a new socket, made by somebody with these credentials.
    pub fn new(domain: i32, kind: i32, protocol: i32, credentials: &Credentials) -> Core {
        Core {
            domain,
            kind,
            protocol,
            inode: LocalInode::new(0o777, credentials),
            queue: Arc::new(WaitQueue::new()),
            send_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            receive_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            settings: Mutex::default(),
            flags: AtomicU32::new(0),
        }
    }

    /// Options that are on or off.
    pub fn flags(&self) -> Flags {
        Flags::from_bits_truncate(self.flags.load(Relaxed))
    }

    /// Sets options, or clears them.
    pub fn set_flags(&self, flags: Flags, on: bool) {
        match on {
            true => self.flags.fetch_or(flags.bits(), Relaxed),
            false => self.flags.fetch_and(!flags.bits(), Relaxed),
        };
    }

    /// Whether it carries a stream of bytes.
    pub fn is_stream(&self) -> bool {
        self.kind == libc::SOCK_STREAM
    }
}
