//! The calls that every kind of socket has.

use super::Stack;
use crate::{
    error::{Error, Result},
    ip::protocol,
    raw,
    socket::{
        Family, Handle, Kind, Readiness, Shutdown, SocketOption,
        demux::{Binding, Ends},
        options::Common,
        table::Body,
    },
    tcp,
    time::Instant,
    udp,
};
use std::net::{IpAddr, SocketAddr};

impl Stack {
    /// socket(2). `owner` is the user's id, by whom a port can be shared.
    pub fn socket(&mut self, family: Family, kind: Kind, owner: u32) -> Result<Handle> {
        let limit = self.config.datagram_receive_buffer;
        let (number, body) = match kind {
            Kind::Stream => (protocol::TCP, Body::Stream(Box::new(tcp::Socket::new()))),
            Kind::Datagram => (protocol::UDP, Body::Datagram(Box::new(udp::Socket::new(limit)))),
            Kind::Ping => {
                let number = if family == Family::V4 { protocol::ICMP } else { protocol::ICMPV6 };
                (number, Body::Datagram(Box::new(udp::Socket::new(limit))))
            }
            Kind::Raw { protocol } => (protocol, Body::Raw(Box::new(raw::Socket::new(limit)))),
        };
        let raw = matches!(body, Body::Raw(_));
        let handle = self.sockets.insert(Common::new(family, number, owner), body, false)?;
        if raw {
            self.raw.push((number, handle));
        }
        Ok(handle)
    }

    /// bind(2). Port 0 is one that the stack chooses.
    pub fn bind(&mut self, socket: Handle, address: SocketAddr) -> Result<()> {
        let entry = self.sockets.user(socket)?;
        let common = &entry.common;
        let raw = matches!(entry.body, Body::Raw(_));
        if common.local.is_some() && !raw {
            return Err(Error::InvalidArgument);
        }
        let address = common.canonical(address)?;
        if !self.network.can_bind(address.ip()) {
            return Err(Error::AddressNotAvailable);
        }
        if raw {
            self.sockets.user_mut(socket)?.common.local = Some(address);
            return Ok(());
        }
        if common.protocol == protocol::TCP && address.ip().is_multicast() {
            return Err(Error::AddressNotAvailable);
        }
        let binding = binding(socket, common, address.ip());
        let number = common.protocol;
        let port = match address.port() {
            0 => {
                let free = |port| self.demux.may_bind(number, port, &binding) && self.demux.is_unbound(number, port);
                self.ports.for_bind(&mut self.network.random, free).ok_or(Error::AddressInUse)?
            }
            port => port,
        };
        if !self.demux.may_bind(number, port, &binding) {
            return Err(Error::AddressInUse);
        }
        self.demux.bind(number, port, binding);
        self.sockets.user_mut(socket)?.common.local = Some(SocketAddr::new(address.ip(), port));
        Ok(())
    }

    /// connect(2). A stream answers `InProgress` and becomes writable when it is connected, or has an error.
    pub fn connect(&mut self, socket: Handle, remote: SocketAddr, now: Instant) -> Result<()> {
        let entry = self.sockets.user(socket)?;
        let mut remote = entry.common.canonical(remote)?;
        if remote.ip().is_unspecified() {
            // Linux takes it for this host.
            let loopback: IpAddr = if remote.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            remote.set_ip(loopback);
        }
        match &entry.body {
            Body::Datagram(_) => self.connect_datagram(socket, remote, now),
            Body::Stream(_) => self.connect_stream(socket, remote, now),
            Body::Request(_) | Body::TimeWait(_) => Err(Error::BadHandle),
            Body::Raw(_) => {
                let path = self.network.route(remote.ip(), entry.common.own_address(), entry.common.interface, now)?;
                let common = &mut self.sockets.user_mut(socket)?.common;
                common.remote = Some(remote);
                common.local.get_or_insert(SocketAddr::new(path.source, 0));
                Ok(())
            }
        }
    }

    /// shutdown(2).
    pub fn shutdown(&mut self, socket: Handle, how: Shutdown, now: Instant) -> Result<()> {
        let entry = self.sockets.user_mut(socket)?;
        let connected = entry.common.remote.is_some();
        match &mut entry.body {
            Body::Datagram(datagrams) => {
                if !connected {
                    return Err(Error::NotConnected);
                }
                datagrams.read_shut |= how.reads();
                datagrams.write_shut |= how.writes();
                let edges = Readiness::READABLE | Readiness::READ_HANG_UP;
                self.sockets.notify(socket, if how.reads() { edges } else { Readiness::WRITABLE });
                Ok(())
            }
            Body::Stream(_) => self.shutdown_stream(socket, how, now),
            Body::Raw(_) | Body::Request(_) | Body::TimeWait(_) => Err(Error::NotConnected),
        }
    }

    /// close(2). The handle names nothing afterwards, though a stream may go on by itself for a while.
    pub fn close(&mut self, socket: Handle, now: Instant) -> Result<()> {
        let entry = self.sockets.user_mut(socket)?;
        match &mut entry.body {
            Body::Stream(_) => {
                self.close_stream(socket, now);
                return Ok(());
            }
            Body::Datagram(datagrams) => {
                for (interface, group) in std::mem::take(&mut datagrams.groups) {
                    let _ = self.network.leave(interface, group);
                }
                self.release(socket);
            }
            Body::Raw(_) => self.raw.retain(|(_, handle)| *handle != socket),
            Body::Request(_) | Body::TimeWait(_) => return Err(Error::BadHandle),
        }
        self.sockets.remove(socket);
        Ok(())
    }

    /// Forgets where a socket is bound and connected.
    pub(super) fn release(&mut self, socket: Handle) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let common = &mut entry.common;
        let number = common.protocol;
        if let Some(local) = common.local.take() {
            self.demux.unbind(number, local.port(), socket);
            if let Some(remote) = common.remote.take() {
                self.disconnect_ends(&Ends { protocol: number, local, remote }, socket);
            }
        }
    }

    pub(super) fn disconnect_ends(&mut self, ends: &Ends, socket: Handle) {
        if self.demux.connection(ends) == Some(socket) {
            self.demux.disconnect(ends);
        }
    }

    /// Sets an option that every socket has.
    pub fn set_option(&mut self, socket: Handle, option: SocketOption) -> Result<()> {
        let entry = self.sockets.user_mut(socket)?;
        if !entry.common.set(option)? {
            match (&mut entry.body, option) {
                (Body::Datagram(datagrams), SocketOption::ReceiveBuffer(bytes)) => datagrams.queue.limit = bytes.max(2304),
                (Body::Raw(raw), SocketOption::ReceiveBuffer(bytes)) => raw.queue.limit = bytes.max(2304),
                (Body::Raw(raw), SocketOption::HeaderIncluded(on)) => raw.header_included = on,
                (Body::Stream(stream), SocketOption::ReceiveBuffer(bytes)) => stream.set_receive_buffer(bytes.max(2304)),
                (Body::Stream(stream), SocketOption::SendBuffer(bytes)) => stream.set_send_buffer(bytes.max(4608)),
                (_, SocketOption::SendBuffer(_)) => {}
                _ => return Err(Error::NoProtocol),
            }
        }
        let common = &entry.common;
        if let Some(local) = common.local {
            let changed = binding(socket, common, local.ip());
            self.demux.update(common.protocol, local.port(), socket, |binding| {
                *binding = Binding { listening: binding.listening, ..changed };
            });
        }
        Ok(())
    }

    /// getsockname(2).
    pub fn local_address(&self, socket: Handle) -> Result<SocketAddr> {
        let common = &self.sockets.user(socket)?.common;
        Ok(common.local.map_or_else(|| SocketAddr::new(common.wildcard(), 0), |local| common.presented(local)))
    }

    /// getpeername(2).
    pub fn remote_address(&self, socket: Handle) -> Result<SocketAddr> {
        let common = &self.sockets.user(socket)?.common;
        common.remote.map(|remote| common.presented(remote)).ok_or(Error::NotConnected)
    }

    /// SO_ERROR: the pending error, which is forgotten.
    pub fn take_error(&mut self, socket: Handle) -> Result<Option<Error>> {
        Ok(self.sockets.user_mut(socket)?.common.error.take())
    }

    /// Binds a socket that is not bound to a port of the stack's choice.
    pub(super) fn bind_any(&mut self, socket: Handle) -> Result<()> {
        let common = &self.sockets.user(socket)?.common;
        match common.local {
            Some(_) => Ok(()),
            None => self.bind(socket, SocketAddr::new(common.wildcard(), 0)),
        }
    }
}

pub(super) fn binding(handle: Handle, common: &Common, address: IpAddr) -> Binding {
    Binding {
        handle,
        address: Some(address).filter(|address| !address.is_unspecified()),
        family: common.family,
        v6_only: common.v6_only,
        interface: common.interface,
        reuse_address: common.reuse_address,
        reuse_port: common.reuse_port,
        owner: common.owner,
        listening: false,
    }
}
