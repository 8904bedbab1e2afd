//! Receiving.

use bulkhead_ipc::Errno;

use super::{
    inbox::{NameCell, Taken},
    socket::{NO_RECEIVE, UnixSocket, wake_crowd},
};
use crate::socket::{Address, Incoming, message::Identity, options::Flags};

/// An address as recvfrom(2) tells it: nothing of a socket without a name.
fn told(name: Option<&NameCell>) -> Address {
    name.and_then(NameCell::get).map(|path| Address::new(libc::AF_UNIX, path)).unwrap_or_default()
}

impl UnixSocket {
    pub(super) fn receive_stream(&self, message: &mut Incoming<'_>) -> Result<usize, Errno> {
        let peer = self.connected().ok_or(Errno::EINVAL)?;
        let asks = self.core.flags().intersects(Flags::PASSCRED | Flags::PASSPIDFD);
        let peek = message.flags & libc::MSG_PEEK != 0;
        // Looked at first: what was sent before the end is there then.
        let ended = self.has_ended(NO_RECEIVE);
        let taken = {
            let _flight = peek.then(|| self.world.flight.lock());
            let mut inbox = self.inbox.lock();
            match inbox.segments.is_empty() {
                true => None,
                false => Some(inbox.take_stream(message.data, peek, asks.then_some(message.control.identity))?),
            }
        };
        let Some(taken) = taken else {
            if let Some(errno) = self.pending_error() {
                return Err(errno);
            }
            return if ended { Ok(0) } else { Err(Errno::EAGAIN) };
        };
        if message.wants_address && message.address.is_none() {
            message.address = Some(told(Some(&peer.name)));
        }
        Ok(self.deliver(message, taken, asks))
    }

    pub(super) fn receive_message(&self, message: &mut Incoming<'_>) -> Result<usize, Errno> {
        let peer = if self.is_datagram() { None } else { Some(self.connected().ok_or(Errno::ENOTCONN)?) };
        let asks = self.core.flags().intersects(Flags::PASSCRED | Flags::PASSPIDFD);
        let peek = message.flags & libc::MSG_PEEK != 0;
        if let Some(errno) = self.pending_error() {
            return Err(errno);
        }
        let ended = self.has_ended(NO_RECEIVE);
        let (taken, crowd) = {
            let _flight = peek.then(|| self.world.flight.lock());
            let mut inbox = self.inbox.lock();
            let taken = inbox.take_message(message.data, peek);
            let crowd = if peek || taken.is_none() { Vec::new() } else { std::mem::take(&mut inbox.crowd) };
            (taken, crowd)
        };
        wake_crowd(crowd);
        let Some(mut taken) = taken else {
            // Only who may wait, or is connected, is told of the end.
            let quiet = self.is_datagram() && message.flags & libc::MSG_DONTWAIT != 0;
            return if ended && !quiet { Ok(0) } else { Err(Errno::EAGAIN) };
        };
        if message.wants_address {
            message.address = Some(told(taken.sender.as_deref().or(peer.as_ref().map(|peer| &*peer.name))));
        }
        if taken.bytes < taken.length {
            message.result |= libc::MSG_TRUNC;
        }
        let length = if message.flags & libc::MSG_TRUNC != 0 { taken.length } else { taken.bytes };
        let fault = taken.fault.take();
        self.deliver(message, taken, asks);
        fault.map_or(Ok(length), Err)
    }

    /// Hands over what came with the bytes, and tells the sender that there is room.
    fn deliver(&self, message: &mut Incoming<'_>, taken: Taken, asks: bool) -> usize {
        if let Some((account, cost)) = taken.released {
            account.release(cost);
        }
        if asks {
            message.control.identity = Some(taken.identity.unwrap_or(Identity::UNKNOWN));
        }
        if let Some(rights) = taken.rights {
            let files = rights.into_files();
            if message.wants_control {
                message.control.rights = files;
            }
        }
        taken.bytes
    }
}
