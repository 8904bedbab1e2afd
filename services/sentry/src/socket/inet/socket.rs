//! A socket of netstack.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use bulkhead_ipc::{
    Errno,
    net::{self, DATA_LIMIT, Reply, Request, SocketId, VALUE_LIMIT, readiness::Ready},
};
use parking_lot::Mutex;

use super::{
    client::{NetClient, readiness, unexpected},
    device, name,
};
use crate::{
    abi::UserAddress,
    executor::Readiness,
    socket::{Address, Core, Incoming, Outgoing, Shutdown, Socket, core::DEFAULT_BUFFER, options::Flags},
    task::{Credentials, Thread, capability},
};

/// Ports below this are for those with CAP_NET_BIND_SERVICE (net.ipv4.ip_unprivileged_port_start).
const UNPRIVILEGED_PORTS: u16 = 1024;

/// See the module.
pub struct InetSocket {
    core: Core,
    client: Arc<NetClient>,
    id: SocketId,
    credentials: Arc<Credentials>,
    listening: AtomicBool,
    /// The options of the socket level that netstack knows of.
    told: AtomicU32,
    /// SO_RCVBUF as netstack knows it; a stream's buffers grow by themselves until they are set.
    told_receive_buffer: AtomicUsize,
    /// SO_SNDBUF.
    told_send_buffer: AtomicUsize,
    /// One sender at a time, so that what was seen to fit does fit.
    sending: Mutex<()>,
}

impl InetSocket {
    /// socket(2).
    pub fn open(
        client: &Arc<NetClient>,
        domain: i32,
        kind: i32,
        protocol: u16,
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<InetSocket>, Errno> {
        let request = Request::Open { family: domain as u16, kind: kind as u16, protocol, owner: credentials.euid };
        match client.call(&request)? {
            Reply::Opened(id) => Ok(InetSocket::adopt(client, domain, kind, protocol, credentials, id)),
            other => Err(unexpected(&other)),
        }
    }

    fn adopt(
        client: &Arc<NetClient>,
        domain: i32,
        kind: i32,
        protocol: u16,
        credentials: &Arc<Credentials>,
        id: SocketId,
    ) -> Arc<InetSocket> {
        let protocol = match (kind, protocol) {
            (libc::SOCK_STREAM, 0) => libc::IPPROTO_TCP,
            (libc::SOCK_DGRAM, 0) => libc::IPPROTO_UDP,
            (_, protocol) => protocol.into(),
        };
        let core = Core::new(domain, kind, protocol, credentials);
        client.watch(id, &core.queue);
        Arc::new(InetSocket {
            core,
            client: client.clone(),
            id,
            credentials: credentials.clone(),
            listening: AtomicBool::new(false),
            told: AtomicU32::new(0),
            told_receive_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            told_send_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            sending: Mutex::default(),
        })
    }

    fn tell(&self, name: i32, value: i32) -> Result<(), Errno> {
        let value = value.to_ne_bytes().to_vec();
        match self.client.order(&Request::SetOption { socket: self.id, level: libc::SOL_SOCKET, name, value }) {
            // Not every kind of socket knows every option; those of the socket level can be set all the same.
            Err(Errno::ENOPROTOOPT) => Ok(()),
            outcome => outcome,
        }
    }

    /// Bytes of the next datagram; 0 when there is none.
    fn waiting(&self) -> Result<u32, Errno> {
        match self.client.call(&Request::Receive { socket: self.id, room: 0, flags: net::RECEIVE_PEEK }) {
            Ok(Reply::Received { length, .. }) => Ok(length),
            Ok(other) => Err(unexpected(&other)),
            Err(Errno::EAGAIN) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    fn is_stream(&self) -> bool {
        self.core.is_stream()
    }

    fn said(&self, ready: Ready) -> bool {
        self.client.ready(self.id).intersects(ready)
    }

    /// What has become of a connection that was being made.
    fn connected(&self) -> Result<(), Errno> {
        if let Some(errno) = self.take_error() {
            return Err(errno);
        }
        if self.said(Ready::OUT | Ready::HUP) { Ok(()) } else { Err(Errno::EINPROGRESS) }
    }
}

impl Socket for InetSocket {
    fn core(&self) -> &Core {
        &self.core
    }

    fn bind(&self, thread: &Thread, address: &Address) -> Result<(), Errno> {
        let address = name::read(self.core.domain, address)?;
        let privileged = (1..UNPRIVILEGED_PORTS).contains(&address.port()) && self.core.kind != libc::SOCK_RAW;
        if privileged && !thread.credentials().has(capability::NET_BIND_SERVICE) {
            return Err(Errno::EACCES);
        }
        self.client.order(&Request::Bind { socket: self.id, address })
    }

    fn listen(&self, _: &Thread, backlog: u32) -> Result<(), Errno> {
        self.client.order(&Request::Listen { socket: self.id, backlog })?;
        self.listening.store(true, Relaxed);
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        if !self.is_stream() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.listens() && !self.said(Ready::IN | Ready::ERR | Ready::HUP) {
            return Err(Errno::EAGAIN);
        }
        match self.client.call(&Request::Accept { socket: self.id })? {
            Reply::Accepted { socket, .. } => {
                let core = &self.core;
                Ok(InetSocket::adopt(&self.client, core.domain, core.kind, core.protocol as u16, &self.credentials, socket))
            }
            other => Err(unexpected(&other)),
        }
    }

    fn connect(&self, _: &Thread, address: &Address, again: bool) -> Result<(), Errno> {
        if again {
            return self.connected();
        }
        let peer = match address.family() {
            Some(libc::AF_UNSPEC) => None,
            _ => Some(name::read(self.core.domain, address)?),
        };
        // EINPROGRESS even on loopback, where it is made or refused by now: as Linux, which looks only later.
        self.client.order(&Request::Connect { socket: self.id, peer })
    }

    fn name(&self) -> Result<Address, Errno> {
        match self.client.call(&Request::LocalName { socket: self.id })? {
            Reply::Name(address) => Ok(name::write(self.core.domain, address)),
            other => Err(unexpected(&other)),
        }
    }

    fn peer_name(&self) -> Result<Address, Errno> {
        match self.client.call(&Request::PeerName { socket: self.id })? {
            Reply::Name(address) => Ok(name::write(self.core.domain, address)),
            other => Err(unexpected(&other)),
        }
    }

    fn send(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let to = match message.address {
            Some(address) if !address.0.is_empty() && !self.is_stream() => Some(name::read(self.core.domain, address)?),
            _ => None,
        };
        if !self.is_stream() && message.data.remaining() > DATA_LIMIT {
            return Err(Errno::EMSGSIZE);
        }
        let _alone = self.sending.lock();
        let room = if self.is_stream() { self.client.room(self.id) } else { DATA_LIMIT };
        // An error, or an end, is netstack's to tell.
        if room == 0 && !self.said(Ready::OUT | Ready::ERR | Ready::HUP) {
            return Err(Errno::EAGAIN);
        }
        let mut data = vec![0; message.data.remaining().min(room).min(DATA_LIMIT)];
        let taken = message.data.take(&mut data)?;
        data.truncate(taken);
        let mut flags = 0;
        for (flag, meaning) in [(libc::MSG_MORE, net::SEND_MORE), (libc::MSG_OOB, net::SEND_URGENT)] {
            if message.flags & flag != 0 {
                flags |= meaning;
            }
        }
        match self.client.call(&Request::Send { socket: self.id, data, to, flags })? {
            Reply::Sent(0) if room == 0 => Err(Errno::EAGAIN),
            Reply::Sent(sent) if sent as usize == taken => Ok(taken),
            other => {
                // What was taken from the sender cannot be given back: the stream ends rather than that it has a gap.
                let _ = self.client.order(&Request::Shutdown { socket: self.id, read: true, write: true });
                Err(unexpected(&other))
            }
        }
    }

    fn receive(&self, message: &mut Incoming<'_>) -> Result<usize, Errno> {
        if message.flags & libc::MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        let urgent = message.flags & libc::MSG_OOB != 0;
        if !urgent
            && !self.said(Ready::IN | Ready::ERR | Ready::HUP | Ready::RDHUP)
            && (!self.is_stream() || self.said(Ready::OUT))
        {
            // The usual case of an empty socket needs no call; netstack knows why an unconnected stream has nothing.
            return Err(Errno::EAGAIN);
        }
        let room = message.data.remaining().min(DATA_LIMIT) as u32;
        let mut flags = 0;
        for (flag, meaning) in [(libc::MSG_PEEK, net::RECEIVE_PEEK), (libc::MSG_OOB, net::RECEIVE_URGENT)] {
            if message.flags & flag != 0 {
                flags |= meaning;
            }
        }
        let Reply::Received { data, length, from } = self.client.call(&Request::Receive { socket: self.id, room, flags })? else {
            return Err(Errno::EIO);
        };
        let done = message.data.put(&data)?;
        if let Some(from) = from {
            if message.wants_address {
                message.address = Some(name::write(self.core.domain, from));
            }
            if length > room {
                message.result |= libc::MSG_TRUNC;
                if message.flags & libc::MSG_TRUNC != 0 {
                    return Ok(length as usize);
                }
            }
        }
        Ok(done)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        let (read, write) = match how {
            Shutdown::Read => (true, false),
            Shutdown::Write => (false, true),
            Shutdown::Both => (true, true),
        };
        self.client.order(&Request::Shutdown { socket: self.id, read, write })
    }

    fn take_error(&self) -> Option<Errno> {
        if !self.said(Ready::ERR) {
            return None;
        }
        match self.client.call(&Request::TakeError { socket: self.id }) {
            Ok(Reply::Pending(errno)) => errno,
            Ok(other) => Some(unexpected(&other)),
            Err(errno) => Some(errno),
        }
    }

    fn set_option(&self, _: &Thread, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let value = value[..value.len().min(VALUE_LIMIT)].to_vec();
        self.client.order(&Request::SetOption { socket: self.id, level, name, value })
    }

    fn option(&self, _: &Thread, level: i32, name: i32, _: usize) -> Result<Vec<u8>, Errno> {
        match self.client.call(&Request::Option { socket: self.id, level, name })? {
            Reply::Value(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    fn flags_changed(&self) -> Result<(), Errno> {
        let now = self.core.flags();
        let told = Flags::from_bits_truncate(self.told.swap(now.bits(), Relaxed));
        let changed = now.symmetric_difference(told);
        for (flag, name) in [
            (Flags::REUSEADDR, libc::SO_REUSEADDR),
            (Flags::REUSEPORT, libc::SO_REUSEPORT),
            (Flags::BROADCAST, libc::SO_BROADCAST),
            (Flags::KEEPALIVE, libc::SO_KEEPALIVE),
            (Flags::OOBINLINE, libc::SO_OOBINLINE),
        ] {
            if changed.contains(flag) {
                self.tell(name, i32::from(now.contains(flag)))?;
            }
        }
        Ok(())
    }

    fn buffers_changed(&self) {
        for (name, size, told) in [
            (libc::SO_RCVBUF, &self.core.receive_buffer, &self.told_receive_buffer),
            (libc::SO_SNDBUF, &self.core.send_buffer, &self.told_send_buffer),
        ] {
            let size = size.load(Relaxed);
            if told.swap(size, Relaxed) != size
                && let Err(errno) = self.tell(name, size as i32)
            {
                tracing::debug!(%errno, name, "netstack does not take a buffer's size");
            }
        }
    }

    fn listens(&self) -> bool {
        self.listening.load(Relaxed)
    }

    fn ioctl(&self, thread: &Thread, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        if u64::from(command) == libc::FIONREAD {
            thread.memory().write_value(argument, &(self.waiting()? as i32))?;
            return Ok(0);
        }
        device::ioctl(&self.client, thread, command, argument)
    }

    fn poll(&self) -> Readiness {
        readiness(self.client.ready(self.id))
    }

    fn close(&self) {
        self.client.forget(self.id);
        if self.is_stream() && self.core.settings.lock().linger == (true, 0) {
            let value = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
            let request = Request::SetOption { socket: self.id, level: libc::SOL_SOCKET, name: libc::SO_LINGER, value };
            if let Err(errno) = self.client.order(&request) {
                tracing::debug!(%errno, "netstack does not reset a connection");
            }
        }
        if let Err(errno) = self.client.order(&Request::Close { socket: self.id }) {
            tracing::debug!(%errno, "netstack does not close a socket");
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
