//! What every socket has: a handle, a place in the table, options, readiness; and how an incoming packet finds it.

pub(crate) mod demux;
pub(crate) mod options;
pub(crate) mod port;
pub(crate) mod table;

pub use options::{Family, Kind, SocketOption};

use bitflags::bitflags;

/// Names a socket. A handle is never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

bitflags! {
    /// What a socket is ready for, in the terms of poll(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Readiness: u8 {
        /// POLLIN: a read would not wait (there is data, a connection to accept, an end or an error).
        const READABLE = 1;
        /// POLLOUT: a write would not wait.
        const WRITABLE = 2;
        /// POLLPRI: urgent data.
        const PRIORITY = 4;
        /// POLLERR: an error to be asked for.
        const ERROR = 8;
        /// POLLHUP: both directions are over.
        const HANG_UP = 16;
        /// POLLRDHUP: the peer sends no more.
        const READ_HANG_UP = 32;
    }
}

/// Something happened to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// To which.
    pub socket: Handle,
    /// What it is ready for now.
    pub readiness: Readiness,
    /// What came anew since the last event, though it may have been there before: what edge-triggered epoll reports.
    pub edges: Readiness,
}

/// What shutdown(2) ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// No more is read.
    Read,
    /// No more is written.
    Write,
    /// Neither.
    Both,
}

impl Shutdown {
    pub(crate) fn reads(self) -> bool {
        matches!(self, Shutdown::Read | Shutdown::Both)
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Shutdown::Write | Shutdown::Both)
    }
}
