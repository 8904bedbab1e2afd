//! What a socket is to receive: messages of a stream or datagrams, or connections that wait to be accepted.
//!
//! Owns the bytes between a send and a receive, in one ring, and where each message ends in it. Bytes go from the sender's memory to
//! the ring and from the ring to the receiver's.
//!
//! Invariant: the ring holds the bytes of all segments, in their order, and no others.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, Weak},
};

use bulkhead_ipc::Errno;

use super::{account::Account, rights::Rights, socket::UnixSocket};
use crate::{
    fs::ring::Ring,
    socket::{Sink, Source, message::Identity},
};

/// A name, once there is one: the bytes of sun_path.
pub(super) type NameCell = OnceLock<Vec<u8>>;

/// What comes with a message.
#[derive(Default)]
pub(super) struct Attached {
    pub identity: Option<Identity>,
    pub rights: Option<Rights>,
}

/// A message, or what is left of one of a stream.
pub(super) struct Segment {
    /// Its bytes in the ring.
    pub length: usize,
    /// Who is charged for it, and how much.
    pub account: Arc<Account>,
    pub cost: usize,
    /// The name of who sent a datagram.
    pub sender: Option<Arc<NameCell>>,
    /// Most have nothing.
    pub attached: Option<Box<Attached>>,
}

impl Segment {
    fn identity(&self) -> Option<Identity> {
        self.attached.as_ref().and_then(|attached| attached.identity)
    }

    fn has_rights(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.rights.is_some())
    }
}

/// Connections that wait to be accepted.
pub(super) struct Backlog {
    pub waiting: VecDeque<Arc<UnixSocket>>,
    pub most: usize,
}

/// What a socket is to receive.
pub(super) struct Inbox {
    ring: Ring,
    pub segments: VecDeque<Segment>,
    /// Of a socket that listens.
    pub backlog: Option<Backlog>,
    /// The socket was closed: nothing comes in any more.
    pub dead: bool,
    /// Sockets that wait for room in here.
    pub crowd: Vec<Weak<UnixSocket>>,
}

/// What was taken out.
#[derive(Default)]
pub(super) struct Taken {
    /// Bytes that were copied.
    pub bytes: usize,
    /// The whole message's length, or `bytes` of a stream.
    pub length: usize,
    pub identity: Option<Identity>,
    pub rights: Option<Rights>,
    pub sender: Option<Arc<NameCell>>,
    /// The message could not be copied; it is gone all the same.
    pub fault: Option<Errno>,
    /// Who sent what is done with, and what it was charged with for that.
    pub released: Option<(Arc<Account>, usize)>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { ring: Ring::new(usize::MAX), segments: VecDeque::new(), backlog: None, dead: false, crowd: Vec::new() }
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.ring.len()
    }

    /// Adds a segment of `length` bytes from `source`: all of them or none (EFAULT), or of a stream as many as can be read.
    /// `attached` is taken if it goes in.
    pub(super) fn push(
        &mut self,
        source: &mut dyn Source,
        length: usize,
        whole: bool,
        account: &Arc<Account>,
        sender: Option<Arc<NameCell>>,
        attached: &mut Option<Box<Attached>>,
    ) -> Result<usize, Errno> {
        let pushed = self.ring.push(length, |into| source.take(into))?;
        if pushed < length && whole {
            self.ring.retract(pushed);
            return Err(Errno::EFAULT);
        }
        let cost = super::account::cost(pushed);
        account.charge(cost);
        self.segments.push_back(Segment { length: pushed, account: account.clone(), cost, sender, attached: attached.take() });
        Ok(pushed)
    }

    /// Copies the first `n` bytes out; how many could be written.
    fn copy(&self, n: usize, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let (first, second) = self.ring.filled(n);
        let mut copied = sink.put(first)?;
        if copied == first.len() && !second.is_empty() {
            copied += sink.put(second).unwrap_or(0);
        }
        Ok(copied)
    }

    /// Takes bytes of a stream. Those of several senders are not mixed if `told` asks who sent them (`Some(Some)`: they must be
    /// of this one, as those before were), and what came with rights is the last of a call. `Ok` with 0 bytes if the next are another's.
    pub(super) fn take_stream(
        &mut self,
        sink: &mut dyn Sink,
        peek: bool,
        told: Option<Option<Identity>>,
    ) -> Result<Taken, Errno> {
        let room = sink.remaining();
        let (mut span, mut identity) = (0, told.flatten());
        for segment in &self.segments {
            if told.is_some() {
                let theirs = segment.identity().unwrap_or(Identity::UNKNOWN);
                if *identity.get_or_insert(theirs) != theirs {
                    break;
                }
            }
            span += segment.length.min(room - span);
            if span == room || segment.has_rights() {
                break;
            }
        }
        let bytes = self.copy(span, sink)?;
        let mut taken = Taken { bytes, length: bytes, identity, ..Taken::default() };
        if peek {
            let mut end = 0;
            for segment in &mut self.segments {
                if end >= bytes {
                    break;
                }
                end += segment.length;
                if let Some(rights) = segment.attached.as_ref().and_then(|attached| attached.rights.as_ref()) {
                    taken.rights = Some(rights.duplicate());
                }
            }
            return Ok(taken);
        }
        let mut left = bytes;
        while left > 0 {
            let Some(segment) = self.segments.front_mut() else { break };
            if let Some(attached) = &mut segment.attached {
                taken.rights = attached.rights.take().or(taken.rights);
            }
            let n = segment.length.min(left);
            segment.length -= n;
            left -= n;
            if segment.length == 0
                && let Some(segment) = self.segments.pop_front()
            {
                let (_, released) = taken.released.get_or_insert_with(|| (segment.account.clone(), 0));
                *released += segment.cost;
            }
        }
        self.ring.consume(bytes);
        Ok(taken)
    }

    /// Takes a message; what there is no room for is lost. `None` when there is none.
    pub(super) fn take_message(&mut self, sink: &mut dyn Sink, peek: bool) -> Option<Taken> {
        let length = self.segments.front()?.length;
        let copied = match length {
            0 => Ok(0),
            _ => self.copy(length.min(sink.remaining()), sink),
        };
        let mut taken = Taken { length, ..Taken::default() };
        if peek {
            let segment = self.segments.front()?;
            let attached = segment.attached.as_ref();
            taken.identity = segment.identity();
            taken.sender = segment.sender.clone();
            taken.rights = attached.and_then(|attached| attached.rights.as_ref()).map(Rights::duplicate);
        } else {
            let segment = self.segments.pop_front()?;
            self.ring.consume(length);
            taken.released = Some((segment.account, segment.cost));
            taken.sender = segment.sender;
            if let Some(attached) = segment.attached {
                (taken.identity, taken.rights) = (attached.identity, attached.rights);
            }
        }
        match copied {
            Ok(bytes) => taken.bytes = bytes,
            Err(errno) => taken.fault = Some(errno),
        }
        Some(taken)
    }

    /// Throws everything away. The caller drops the segments, and wakes the crowd, when the lock is released.
    pub(super) fn clear(&mut self) -> (VecDeque<Segment>, Vec<Weak<UnixSocket>>) {
        self.ring = Ring::new(usize::MAX);
        (std::mem::take(&mut self.segments), std::mem::take(&mut self.crowd))
    }

    /// Puts a socket among those that wait for room.
    pub(super) fn join_crowd(&mut self, socket: &Weak<UnixSocket>) {
        if !self.crowd.iter().any(|waiting| waiting.ptr_eq(socket)) {
            self.crowd.retain(|waiting| waiting.strong_count() > 0);
            self.crowd.push(socket.clone());
        }
    }

    /// The rights in all segments (the collector follows them).
    pub(super) fn rights(&self) -> impl Iterator<Item = &Rights> {
        self.segments.iter().filter_map(|segment| segment.attached.as_ref()?.rights.as_ref())
    }

    /// Takes them out; the messages stay.
    pub(super) fn take_rights(&mut self) -> Vec<Rights> {
        self.segments.iter_mut().filter_map(|segment| segment.attached.as_mut()?.rights.take()).collect()
    }
}

/// Gives back what thrown-away segments were charged with.
pub(super) fn discard(segments: VecDeque<Segment>) {
    for segment in segments {
        segment.account.release(segment.cost);
    }
}
