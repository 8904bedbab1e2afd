//! Sending.

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::{
    inbox::Attached,
    rights::Rights,
    socket::{Link, MOST_DATAGRAMS, NO_RECEIVE, NO_SEND, READABLE, UnixSocket},
};
use crate::socket::{Outgoing, message::Identity, options::Flags};

/// Bytes of a stream that are one message at most, as Linux cuts them.
const MOST_OF_A_STREAM: usize = 36_544;
/// What Linux keeps of SO_SNDBUF for the header of a stream's message, and of a datagram.
const STREAM_HEADER: usize = 64;
const DATAGRAM_HEADER: usize = 32;

impl UnixSocket {
    /// What goes with a message: the rights, which are taken, and who sends, if it is said or anybody wants to know.
    fn attach(&self, message: &mut Outgoing<'_>, peer: &UnixSocket) -> Result<Option<Box<Attached>>, Errno> {
        let mut attached = Attached { identity: message.control.identity, rights: None };
        if let Some(thread) = message.thread {
            let wanted = |socket: &UnixSocket| socket.core.flags().intersects(Flags::PASSCRED | Flags::PASSPIDFD);
            let accepted = peer.has_file.load(std::sync::atomic::Ordering::SeqCst);
            if attached.identity.is_none() && (wanted(self) || !accepted || wanted(peer)) {
                let own = thread.credentials();
                attached.identity = Some(Identity { pid: thread.process.pid, uid: own.uid, gid: own.gid });
            }
            if !message.control.rights.is_empty() {
                let files = std::mem::take(&mut message.control.rights);
                attached.rights = Some(Rights::new(&self.world, thread, files)?);
            }
        }
        Ok((attached.identity.is_some() || attached.rights.is_some()).then(|| Box::new(attached)))
    }

    /// Whether one more message may be sent: EAGAIN; the pending error; EPIPE after shutdown(2).
    fn may_send(&self) -> Result<(), Errno> {
        if let Some(errno) = self.pending_error() {
            return Err(errno);
        }
        if self.has_ended(NO_SEND) {
            return Err(Errno::EPIPE);
        }
        if self.account.exhausted() {
            return Err(Errno::ENOBUFS);
        }
        if self.account.has_room() { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    pub(super) fn send_stream(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let peer = self.connected();
        if message.address.is_some() {
            return Err(if peer.is_some() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = peer.ok_or(Errno::ENOTCONN)?;
        if self.has_ended(NO_SEND) {
            return Err(Errno::EPIPE);
        }
        let mut sent = 0;
        while message.data.remaining() > 0 {
            match self.send_piece(message, &peer) {
                Ok((wanted, pushed)) => {
                    sent += pushed;
                    if pushed < wanted {
                        break;
                    }
                }
                Err(_) if sent > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(sent)
    }

    /// Sends one message's worth of a stream; its size, and how much of it there was.
    fn send_piece(&self, message: &mut Outgoing<'_>, peer: &Arc<UnixSocket>) -> Result<(usize, usize), Errno> {
        self.may_send()?;
        let most = (self.account.limit() / 2).saturating_sub(STREAM_HEADER).clamp(1, MOST_OF_A_STREAM);
        let size = message.data.remaining().min(most);
        let mut attached = self.attach(message, peer)?;
        let pushed = {
            let mut inbox = peer.inbox.lock();
            match inbox.dead || peer.has_ended(NO_RECEIVE) {
                true => Err(Errno::EPIPE),
                false => inbox.push(message.data, size, false, &self.account, None, &mut attached),
            }
        };
        let pushed = pushed?;
        peer.core.queue.wake(READABLE);
        Ok((size, pushed))
    }

    pub(super) fn send_message(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let address = message.address.filter(|_| self.is_datagram());
        let target = match (address, message.thread) {
            (Some(address), Some(thread)) => self.world.find(thread, address, self.kind())?,
            _ => self.connected().ok_or(Errno::ENOTCONN)?,
        };
        self.name_if_credentials_pass()?;
        let length = message.data.remaining();
        if length > self.account.limit().saturating_sub(DATAGRAM_HEADER) {
            return Err(Errno::EMSGSIZE);
        }
        self.may_send()?;
        let itself = std::ptr::eq(&*target, self);
        let mutual = target.is_connected_to(self);
        if self.is_datagram() && !mutual && target.is_connected() {
            return Err(Errno::EPERM);
        }
        if !itself && !mutual {
            // Before the rights are taken, which a message that has to wait keeps.
            let mut inbox = target.inbox.lock();
            let open = !inbox.dead && !target.has_ended(NO_RECEIVE);
            if open && inbox.segments.len() > MOST_DATAGRAMS {
                inbox.join_crowd(&self.me);
                return Err(Errno::EAGAIN);
            }
        }
        let mut attached = self.attach(message, &target)?;
        let outcome = {
            let mut inbox = target.inbox.lock();
            if inbox.dead {
                Err(Errno::ECONNREFUSED)
            } else if target.has_ended(NO_RECEIVE) {
                Err(Errno::EPIPE)
            } else {
                let sender = self.is_datagram().then(|| self.name.clone());
                inbox.push(message.data, length, true, &self.account, sender, &mut attached)
            }
        };
        match outcome {
            Ok(sent) => {
                target.core.queue.wake(READABLE);
                Ok(sent)
            }
            Err(Errno::ECONNREFUSED) if !self.is_datagram() => Err(Errno::EPIPE),
            Err(Errno::ECONNREFUSED) if address.is_none() => {
                self.lose(&target);
                Err(Errno::ECONNREFUSED)
            }
            Err(errno) => Err(errno),
        }
    }

    /// The socket that this one was connected to is gone.
    fn lose(&self, target: &Arc<UnixSocket>) {
        {
            let mut link = self.link.lock();
            match &*link {
                Link::Connected(peer) if Arc::ptr_eq(peer, target) => *link = Link::None,
                _ => return,
            }
        }
        self.part_from(target);
    }
}
