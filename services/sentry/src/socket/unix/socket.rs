//! A socket of this family: what it is connected to, what it is called, and its life.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering::SeqCst},
};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{
    account::Account,
    inbox::{Backlog, Inbox, NameCell, discard},
    names::{Binding, World},
    rights,
};
use crate::{
    executor::Readiness,
    socket::{Core, core::DEFAULT_BUFFER, message::Identity},
    task::{Credentials, Thread},
};

/// A socket does not receive any more.
pub(super) const NO_RECEIVE: u8 = 1;
/// A socket does not send any more.
pub(super) const NO_SEND: u8 = 2;
/// Neither.
pub(super) const NOTHING: u8 = NO_RECEIVE | NO_SEND;
/// Datagrams that wait in a socket, beyond which its senders wait (net.unix.max_dgram_qlen).
pub(super) const MOST_DATAGRAMS: usize = 10;

/// Readiness to read.
pub(super) const READABLE: Readiness = Readiness::IN.union(Readiness::RDNORM);
/// Readiness to write.
pub(super) const WRITABLE: Readiness = Readiness::OUT.union(Readiness::WRNORM).union(Readiness::WRBAND);

/// What a socket is connected to.
pub(super) enum Link {
    None,
    Listening,
    Connected(Arc<UnixSocket>),
}

/// SO_PEERCRED and SO_PEERGROUPS.
#[derive(Clone)]
pub(super) struct PeerCredentials {
    pub identity: Identity,
    pub groups: Vec<u32>,
}

impl PeerCredentials {
    pub(super) fn of(thread: &Thread) -> PeerCredentials {
        let credentials = thread.credentials();
        let identity = Identity { pid: thread.process.pid, uid: credentials.euid, gid: credentials.egid };
        PeerCredentials { identity, groups: credentials.groups.clone() }
    }
}

/// A socket.
pub struct UnixSocket {
    pub(super) me: Weak<UnixSocket>,
    pub(super) core: Core,
    pub(super) world: Arc<World>,
    /// Its name; a connection that was accepted has that of the listener.
    pub(super) name: Arc<NameCell>,
    pub(super) binding: Mutex<Option<Binding>>,
    pub(super) account: Arc<Account>,
    pub(super) link: Mutex<Link>,
    pub(super) inbox: Mutex<Inbox>,
    pub(super) ended: AtomicU8,
    pub(super) error: AtomicI32,
    /// Whether it has a file: not yet, where it waits to be accepted.
    pub(super) has_file: AtomicBool,
    pub(super) peer: Mutex<Option<PeerCredentials>>,
}

impl UnixSocket {
    fn make(world: &Arc<World>, kind: i32, credentials: &Credentials, name: Arc<NameCell>, has_file: bool) -> Arc<UnixSocket> {
        let core = Core::new(libc::AF_UNIX, kind, 0, credentials);
        let account = Account::new(DEFAULT_BUFFER, core.queue.clone(), world.charged.clone());
        let socket = Arc::new_cyclic(|me| UnixSocket {
            me: me.clone(),
            core,
            world: world.clone(),
            name,
            binding: Mutex::new(None),
            account,
            link: Mutex::new(Link::None),
            inbox: Mutex::new(Inbox::new()),
            ended: AtomicU8::new(0),
            error: AtomicI32::new(0),
            has_file: AtomicBool::new(has_file),
            peer: Mutex::new(None),
        });
        world.enter(socket.core.inode.number, &socket.me);
        socket
    }

    pub(super) fn new(world: &Arc<World>, kind: i32, credentials: &Credentials) -> Arc<UnixSocket> {
        UnixSocket::make(world, kind, credentials, Arc::default(), true)
    }

    /// socketpair(2).
    pub(super) fn pair(world: &Arc<World>, kind: i32, thread: &Thread) -> [Arc<UnixSocket>; 2] {
        let pair = [(); 2].map(|()| UnixSocket::new(world, kind, &thread.credentials()));
        for (socket, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            *socket.link.lock() = Link::Connected(other.clone());
            *socket.peer.lock() = Some(PeerCredentials::of(thread));
        }
        pair
    }

    /// The listener's end of a new connection from `client`, which waits to be accepted.
    pub(super) fn embryo(&self, client: &Arc<UnixSocket>, thread: &Thread) -> Arc<UnixSocket> {
        let embryo = UnixSocket::make(&self.world, self.kind(), &thread.credentials(), self.name.clone(), false);
        *embryo.link.lock() = Link::Connected(client.clone());
        *embryo.peer.lock() = Some(PeerCredentials::of(thread));
        embryo
    }

    /// SOCK_*.
    pub(super) fn kind(&self) -> i32 {
        self.core.kind
    }

    pub(super) fn is_datagram(&self) -> bool {
        self.kind() == libc::SOCK_DGRAM
    }

    /// Its name, if it has one.
    pub(super) fn sun_path(&self) -> Option<Vec<u8>> {
        self.name.get().cloned()
    }

    pub(super) fn is_listening(&self) -> bool {
        matches!(*self.link.lock(), Link::Listening)
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(*self.link.lock(), Link::Connected(_))
    }

    /// SS_* of /proc/net/unix.
    pub(super) fn state_number(&self) -> u8 {
        const UNCONNECTED: u8 = 1;
        const CONNECTING: u8 = 2;
        const CONNECTED: u8 = 3;
        match (self.is_connected(), self.has_file.load(SeqCst)) {
            (false, _) => UNCONNECTED,
            (true, false) => CONNECTING,
            (true, true) => CONNECTED,
        }
    }

    /// The other end.
    pub(super) fn connected(&self) -> Option<Arc<UnixSocket>> {
        match &*self.link.lock() {
            Link::Connected(peer) => Some(peer.clone()),
            _ => None,
        }
    }

    /// Whether it is connected to this socket.
    pub(super) fn is_connected_to(&self, other: &UnixSocket) -> bool {
        matches!(&*self.link.lock(), Link::Connected(peer) if std::ptr::eq(&**peer, other))
    }

    pub(super) fn has_ended(&self, half: u8) -> bool {
        self.ended.load(SeqCst) & half != 0
    }

    pub(super) fn pending_error(&self) -> Option<Errno> {
        match self.error.swap(0, SeqCst) {
            0 => None,
            number => Some(Errno::new(number)),
        }
    }

    /// Ends halves, and tells everybody who waits.
    pub(super) fn end(&self, halves: u8) {
        self.ended.fetch_or(halves, SeqCst);
        self.core.queue.wake(Readiness::HUP | Readiness::RDHUP | READABLE | WRITABLE);
    }

    /// Its file was released, or (`embryo`) that of the socket that would have accepted it.
    pub(super) fn end_of_life(&self, embryo: bool) {
        let binding = self.binding.lock().take();
        self.world.leave(self.core.inode.number, binding.as_ref(), self.kind());
        drop(binding);
        let link = std::mem::replace(&mut *self.link.lock(), Link::None);
        self.ended.store(NOTHING, SeqCst);
        let (segments, crowd, backlog) = {
            let mut inbox = self.inbox.lock();
            inbox.dead = true;
            let (segments, crowd) = inbox.clear();
            (segments, crowd, inbox.backlog.take())
        };
        if let Link::Connected(peer) = link
            && !self.is_datagram()
        {
            if !segments.is_empty() || embryo {
                peer.error.store(libc::ECONNRESET, SeqCst);
            }
            peer.end(NOTHING);
        }
        self.core.queue.wake(Readiness::HUP);
        wake_crowd(crowd);
        for embryo in backlog.into_iter().flat_map(|Backlog { waiting, .. }| waiting) {
            embryo.end_of_life(true);
        }
        discard(segments);
        rights::collect(&self.world);
    }
}

/// Wakes sockets that wait for room in another's inbox.
pub(super) fn wake_crowd(crowd: Vec<Weak<UnixSocket>>) {
    for socket in crowd.iter().filter_map(Weak::upgrade) {
        socket.core.queue.wake(WRITABLE);
    }
}
