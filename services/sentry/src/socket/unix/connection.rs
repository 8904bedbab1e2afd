//! Names, connections, options: what [`Socket`] asks of a socket of this family besides its messages.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use bulkhead_ipc::Errno;

use super::{
    inbox::{Backlog, discard},
    socket::{Link, NO_RECEIVE, NO_SEND, NOTHING, PeerCredentials, READABLE, UnixSocket, WRITABLE, wake_crowd},
};
use crate::{
    abi::UserAddress,
    executor::Readiness,
    socket::{Address, Core, Incoming, Outgoing, Shutdown, Socket, message::Identity, options::Flags},
    task::{PidFd, Thread},
};

const SIOCINQ: u32 = libc::FIONREAD as u32;
const SIOCOUTQ: u32 = libc::TIOCOUTQ as u32;
const SIOCATMARK: u32 = 0x8905;
const SO_PEERPIDFD: i32 = 77;

impl UnixSocket {
    fn listens_for_connections(&self) -> Result<(), Errno> {
        if self.is_datagram() { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
    }

    /// A socket that passes credentials gets a name when it first sends or connects.
    pub(super) fn name_if_credentials_pass(&self) -> Result<(), Errno> {
        if self.name.get().is_some() || !self.core.flags().intersects(Flags::PASSCRED | Flags::PASSPIDFD) {
            return Ok(());
        }
        self.name_automatically()
    }

    fn name_automatically(&self) -> Result<(), Errno> {
        let mut binding = self.binding.lock();
        if self.name.get().is_none() {
            let (new, name) = self.world.bind_automatically(&self.me, self.kind())?;
            *binding = Some(new);
            let _ = self.name.set(name);
        }
        Ok(())
    }

    fn connect_stream(&self, thread: &Thread, address: &Address) -> Result<(), Errno> {
        let me = self.me.upgrade().ok_or(Errno::EBADF)?;
        let target = self.world.find(thread, address, self.kind())?;
        self.name_if_credentials_pass()?;
        let mut link = self.link.lock();
        match &*link {
            Link::None => {}
            Link::Connected(_) => return Err(Errno::EISCONN),
            Link::Listening => return Err(Errno::EINVAL),
        }
        {
            let mut inbox = target.inbox.lock();
            if inbox.dead || target.has_ended(NO_RECEIVE) {
                return Err(Errno::ECONNREFUSED);
            }
            let backlog = inbox.backlog.as_mut().ok_or(Errno::ECONNREFUSED)?;
            if backlog.waiting.len() > backlog.most {
                inbox.join_crowd(&self.me);
                return Err(Errno::EAGAIN);
            }
            let embryo = target.embryo(&me, thread);
            backlog.waiting.push_back(embryo.clone());
            *link = Link::Connected(embryo);
            self.peer.lock().clone_from(&target.peer.lock());
        }
        drop(link);
        target.core.queue.wake(READABLE);
        Ok(())
    }

    fn connect_datagram(&self, thread: &Thread, address: &Address) -> Result<(), Errno> {
        let new = if address.family() == Some(libc::AF_UNSPEC) {
            Link::None
        } else {
            let target = self.world.find(thread, address, self.kind())?;
            self.name_if_credentials_pass()?;
            if target.is_connected() && !target.is_connected_to(self) {
                return Err(Errno::EPERM);
            }
            Link::Connected(target)
        };
        let same = |old: &Link| match (old, &new) {
            (Link::Connected(old), Link::Connected(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        let old = {
            let mut link = self.link.lock();
            if same(&link) {
                return Ok(());
            }
            std::mem::replace(&mut *link, new)
        };
        if let Link::Connected(old) = old {
            self.part_from(&old);
        }
        self.core.queue.wake(WRITABLE);
        Ok(())
    }

    /// A datagram socket is not connected to this one any more: what was sent by it is lost, and it is told.
    pub(super) fn part_from(&self, old: &Arc<UnixSocket>) {
        let (segments, crowd) = self.inbox.lock().clear();
        discard(segments);
        wake_crowd(crowd);
        let dead = old.inbox.lock().dead;
        if !dead && old.is_connected_to(self) {
            old.error.store(libc::ECONNRESET, SeqCst);
            old.core.queue.wake(Readiness::ERR);
        }
    }

    /// Whether a datagram socket would have to wait for room at the one it is connected to; it is told then when there is some.
    fn peer_is_full(&self) -> bool {
        let Some(peer) = self.connected() else { return false };
        if peer.is_connected_to(self) {
            return false;
        }
        let mut inbox = peer.inbox.lock();
        let full = inbox.segments.len() > super::socket::MOST_DATAGRAMS && !inbox.dead;
        if full {
            inbox.join_crowd(&self.me);
        }
        full
    }
}

impl Socket for UnixSocket {
    fn core(&self) -> &Core {
        &self.core
    }

    fn bind(&self, thread: &Thread, address: &Address) -> Result<(), Errno> {
        let mut binding = self.binding.lock();
        let automatic = address.family() == Some(libc::AF_UNIX) && address.rest().is_empty();
        if self.name.get().is_some() {
            return if automatic { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let permissions = self.core.inode.ownership.lock().permissions;
        let (new, name) = self.world.bind(thread, address, &self.me, self.kind(), permissions)?;
        *binding = Some(new);
        let _ = self.name.set(name);
        Ok(())
    }

    fn listen(&self, thread: &Thread, backlog: u32) -> Result<(), Errno> {
        self.listens_for_connections()?;
        if self.name.get().is_none() {
            return Err(Errno::EINVAL);
        }
        let mut link = self.link.lock();
        if let Link::Connected(_) = &*link {
            return Err(Errno::EINVAL);
        }
        let crowd = {
            let mut inbox = self.inbox.lock();
            let waiting = inbox.backlog.take().map(|backlog| backlog.waiting).unwrap_or_default();
            inbox.backlog = Some(Backlog { waiting, most: backlog as usize });
            std::mem::take(&mut inbox.crowd)
        };
        *link = Link::Listening;
        *self.peer.lock() = Some(PeerCredentials::of(thread));
        drop(link);
        wake_crowd(crowd);
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        self.listens_for_connections()?;
        let ended = self.has_ended(NO_RECEIVE);
        let (embryo, crowd) = {
            let mut inbox = self.inbox.lock();
            let backlog = inbox.backlog.as_mut().ok_or(Errno::EINVAL)?;
            match backlog.waiting.pop_front() {
                Some(embryo) => (embryo, std::mem::take(&mut inbox.crowd)),
                None => return Err(if ended { Errno::EINVAL } else { Errno::EAGAIN }),
            }
        };
        wake_crowd(crowd);
        embryo.has_file.store(true, SeqCst);
        embryo.core.set_flags(self.core.flags() & (Flags::PASSCRED | Flags::PASSSEC | Flags::PASSPIDFD), true);
        Ok(embryo)
    }

    fn connect(&self, thread: &Thread, address: &Address, _: bool) -> Result<(), Errno> {
        if self.is_datagram() { self.connect_datagram(thread, address) } else { self.connect_stream(thread, address) }
    }

    fn name(&self) -> Result<Address, Errno> {
        Ok(Address::new(libc::AF_UNIX, self.name.get().map_or(&[], Vec::as_slice)))
    }

    fn peer_name(&self) -> Result<Address, Errno> {
        self.connected().ok_or(Errno::ENOTCONN)?.name()
    }

    fn send(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags & libc::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.core.is_stream() { self.send_stream(message) } else { self.send_message(message) }
    }

    fn receive(&self, message: &mut Incoming<'_>) -> Result<usize, Errno> {
        if message.flags & libc::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.core.is_stream() { self.receive_stream(message) } else { self.receive_message(message) }
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        let (own, theirs) = match how {
            Shutdown::Read => (NO_RECEIVE, NO_SEND),
            Shutdown::Write => (NO_SEND, NO_RECEIVE),
            Shutdown::Both => (NOTHING, NOTHING),
        };
        self.end(own);
        if let Some(peer) = self.connected()
            && !self.is_datagram()
        {
            peer.end(theirs);
        }
        Ok(())
    }

    fn take_error(&self) -> Option<Errno> {
        self.pending_error()
    }

    fn set_option(&self, _: &Thread, level: i32, _: i32, _: &[u8]) -> Result<(), Errno> {
        Err(if level == libc::SOL_SOCKET { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP })
    }

    fn option(&self, thread: &Thread, level: i32, name: i32, room: usize) -> Result<Vec<u8>, Errno> {
        const NOBODY: Identity = Identity { pid: 0, uid: u32::MAX, gid: u32::MAX };
        if level != libc::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let peer = self.peer.lock().clone();
        match name {
            libc::SO_PEERCRED => Ok(peer.map_or(NOBODY, |peer| peer.identity).bytes().to_vec()),
            libc::SO_PEERGROUPS => {
                let groups: Vec<u8> = peer.ok_or(Errno::ENODATA)?.groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
                if groups.len() > room { Err(Errno::ERANGE) } else { Ok(groups) }
            }
            SO_PEERPIDFD => {
                let pid = peer.ok_or(Errno::ENODATA)?.identity.pid;
                let process = thread.kernel.pids.process(pid).ok_or(Errno::ESRCH)?;
                let limit = thread.limit(libc::RLIMIT_NOFILE).0;
                let number = thread.files().install(PidFd::open(&process, false), true, 0, limit)?;
                Ok(number.0.to_ne_bytes().to_vec())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn buffers_changed(&self) {
        self.account.set_limit(self.core.send_buffer.load(SeqCst));
    }

    fn listens(&self) -> bool {
        self.is_listening()
    }

    fn ioctl(&self, thread: &Thread, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        let number = match command {
            SIOCOUTQ => self.account.charged(),
            SIOCINQ if self.is_listening() => return Err(Errno::EINVAL),
            SIOCINQ => {
                let inbox = self.inbox.lock();
                match self.is_datagram() {
                    true => inbox.segments.front().map_or(0, |segment| segment.length),
                    false => inbox.bytes(),
                }
            }
            SIOCATMARK => 0,
            _ => return Err(Errno::ENOTTY),
        };
        thread.memory().write_value(argument, &(number as i32))?;
        Ok(0)
    }

    fn poll(&self) -> Readiness {
        let ended = self.ended.load(SeqCst);
        let mut ready = Readiness::empty();
        ready.set(Readiness::ERR, self.error.load(SeqCst) != 0);
        ready.set(Readiness::HUP, ended == NOTHING);
        ready.set(Readiness::RDHUP | READABLE, ended & NO_RECEIVE != 0);
        {
            let inbox = self.inbox.lock();
            let waits = inbox.backlog.as_ref().is_some_and(|backlog| !backlog.waiting.is_empty());
            if waits || !inbox.segments.is_empty() {
                ready |= READABLE;
            }
        }
        let (listening, unconnected) = match &*self.link.lock() {
            Link::None => (false, true),
            Link::Listening => (true, false),
            Link::Connected(_) => (false, false),
        };
        if unconnected && !self.is_datagram() {
            ready |= Readiness::HUP;
        }
        let writable = !listening && self.account.writable() && !(self.is_datagram() && self.peer_is_full());
        ready.set(WRITABLE, writable);
        ready
    }

    fn close(&self) {
        self.end_of_life(false);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
