//! Messages on their way in and out of a socket, and where their bytes are.

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::Address;
use crate::{
    fs::{OpenFile, UserBuffers},
    task::Thread,
};

/// Where bytes to send come from.
pub trait Source: Send {
    /// Bytes that are left.
    fn remaining(&self) -> usize;
    /// Takes some out; fewer than `into` has place for only at the end or before a fault. EFAULT when it is none.
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno>;
}

/// Where received bytes go.
pub trait Sink: Send {
    /// Bytes that there is room for.
    fn remaining(&self) -> usize;
    /// Puts some in; as [`Source::take`].
    fn put(&mut self, from: &[u8]) -> Result<usize, Errno>;
}

impl Source for UserBuffers<'_> {
    fn remaining(&self) -> usize {
        UserBuffers::remaining(self)
    }
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        UserBuffers::take(self, into)
    }
}

impl Sink for UserBuffers<'_> {
    fn remaining(&self) -> usize {
        UserBuffers::remaining(self)
    }
    fn put(&mut self, from: &[u8]) -> Result<usize, Errno> {
        UserBuffers::put(self, from)
    }
}

impl Source for &[u8] {
    fn remaining(&self) -> usize {
        self.len()
    }
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let n = self.len().min(into.len());
        let (taken, rest) = self.split_at(n);
        into[..n].copy_from_slice(taken);
        *self = rest;
        Ok(n)
    }
}

impl Sink for &mut [u8] {
    fn remaining(&self) -> usize {
        self.len()
    }
    fn put(&mut self, from: &[u8]) -> Result<usize, Errno> {
        let n = self.len().min(from.len());
        let (filled, rest) = std::mem::take(self).split_at_mut(n);
        filled.copy_from_slice(&from[..n]);
        *self = rest;
        Ok(n)
    }
}

/// struct ucred: who sent a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Process id; 0 of nobody.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Identity {
    /// What is told of a sender that was not noted.
    pub const UNKNOWN: Identity = Identity { pid: 0, uid: 65534, gid: 65534 };

    /// The bytes of struct ucred.
    pub fn bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.pid.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.uid.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.gid.to_ne_bytes());
        bytes
    }
}

/// Ancillary data of a level that a family knows and this module does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlItem {
    /// cmsg_level.
    pub level: i32,
    /// cmsg_type.
    pub kind: i32,
    /// What is behind the header.
    pub data: Vec<u8>,
}

/// Ancillary data.
#[derive(Default)]
pub struct Control {
    /// SCM_RIGHTS.
    pub rights: Vec<Arc<OpenFile>>,
    /// SCM_CREDENTIALS.
    pub identity: Option<Identity>,
    /// What belongs to other levels than SOL_SOCKET.
    pub others: Vec<ControlItem>,
}

/// A message to send. A socket takes from it what it has sent.
pub struct Outgoing<'a> {
    /// Who sends; `None` for splice(2) and sendfile(2), which name no destination.
    pub thread: Option<&'a Thread>,
    /// The bytes.
    pub data: &'a mut dyn Source,
    /// Where to.
    pub address: Option<&'a Address>,
    /// Ancillary data; the rights go with the first bytes.
    pub control: Control,
    /// MSG_*.
    pub flags: i32,
}

/// A message to receive.
pub struct Incoming<'a> {
    /// Where the bytes go.
    pub data: &'a mut dyn Sink,
    /// MSG_*.
    pub flags: i32,
    /// Whether the sender's address is asked for.
    pub wants_address: bool,
    /// Whether ancillary data is asked for (recvmsg); otherwise it is dropped.
    pub wants_control: bool,
    /// Filled in: the sender's address.
    pub address: Option<Address>,
    /// Filled in: ancillary data.
    pub control: Control,
    /// Filled in: MSG_TRUNC and the like.
    pub result: i32,
}

impl<'a> Incoming<'a> {
    /// Nothing but bytes, as read(2) has it.
    pub fn bytes(data: &'a mut dyn Sink, flags: i32) -> Incoming<'a> {
        Incoming {
            data,
            flags,
            wants_address: false,
            wants_control: false,
            address: None,
            control: Control::default(),
            result: 0,
        }
    }
}

impl<'a> Outgoing<'a> {
    /// Nothing but bytes, as write(2) has it.
    pub fn bytes(thread: Option<&'a Thread>, data: &'a mut dyn Source, flags: i32) -> Outgoing<'a> {
        Outgoing { thread, data, address: None, control: Control::default(), flags }
    }
}
