//! The calls of datagram, ping and raw sockets.

use super::{Stack, calls::binding};
use crate::{
    error::{Error, Result},
    ip::{self, Fragmentation, Header, protocol},
    link::InterfaceId,
    network::{Path, Work},
    packet::Packet,
    socket::{Handle, demux::Ends, options::Common, table::Body},
    time::Instant,
    udp::{self, Message, QueuedError},
};
use std::net::{IpAddr, SocketAddr};

/// What sendmsg(2) can say of one datagram (IP_PKTINFO, IP_TTL, IP_TOS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendOptions {
    /// From this address.
    pub source: Option<IpAddr>,
    /// Through this interface.
    pub interface: Option<InterfaceId>,
    /// With this TTL or hop limit.
    pub ttl: Option<u8>,
    /// With this TOS or traffic class.
    pub tos: Option<u8>,
}

/// The longest payload of UDP over IPv4.
const MAX_UDP: usize = 65_535 - 8;

impl Stack {
    /// connect(2) of a datagram socket: where it sends, and from whom it receives.
    pub(super) fn connect_datagram(&mut self, socket: Handle, remote: SocketAddr, now: Instant) -> Result<()> {
        self.bind_any(socket)?;
        let common = &self.sockets.user(socket)?.common;
        let path = self.path(common, remote.ip(), &SendOptions::default(), now)?;
        let (number, own) = (common.protocol, common.own_address());
        let port = common.local.map_or(0, |local| local.port());
        let (reuse_address, reuse_port) = (common.reuse_address, common.reuse_port);
        if let (Some(local), Some(old)) = (common.local, common.remote) {
            self.disconnect_ends(&Ends { protocol: number, local, remote: old }, socket);
        }
        let local = SocketAddr::new(own.unwrap_or(path.source), port);
        // An echo has no port on the far end.
        let far = if number == protocol::UDP { remote } else { SocketAddr::new(remote.ip(), 0) };
        if !self.demux.connect(Ends { protocol: number, local, remote: far }, socket, reuse_address, reuse_port) {
            return Err(Error::AddressInUse);
        }
        self.demux.unbind(number, port, socket);
        let common = &mut self.sockets.user_mut(socket)?.common;
        common.local = Some(local);
        common.remote = Some(far);
        Ok(())
    }

    /// connect(2) with AF_UNSPEC: from everybody again.
    pub fn disconnect(&mut self, socket: Handle) -> Result<()> {
        let entry = self.sockets.user_mut(socket)?;
        if !matches!(entry.body, Body::Datagram(_)) {
            return Err(Error::NotSupported);
        }
        let common = &mut entry.common;
        let (Some(local), Some(remote)) = (common.local, common.remote.take()) else { return Ok(()) };
        let (number, bound) = (common.protocol, SocketAddr::new(common.wildcard(), local.port()));
        common.local = Some(bound);
        let binding = binding(socket, common, bound.ip());
        self.disconnect_ends(&Ends { protocol: number, local, remote }, socket);
        self.demux.bind(number, bound.port(), binding);
        Ok(())
    }

    fn path(&self, common: &Common, destination: IpAddr, options: &SendOptions, now: Instant) -> Result<Path> {
        let group = destination.is_multicast();
        let source = options.source.or_else(|| common.own_address().filter(|own| !own.is_multicast()));
        let interface = options.interface.or(common.interface).or(common.multicast_interface.filter(|_| group));
        self.network.route(destination, source, interface, now)
    }

    /// sendto(2) and sendmsg(2) of a datagram or raw socket. All of it is sent, or none.
    pub fn send_to(
        &mut self,
        socket: Handle,
        data: &[u8],
        destination: Option<SocketAddr>,
        options: &SendOptions,
        now: Instant,
    ) -> Result<usize> {
        let entry = self.sockets.user_mut(socket)?;
        if let Some(error) = entry.common.error.take() {
            return Err(error);
        }
        let destination = match destination {
            Some(destination) => entry.common.canonical(destination)?,
            None => entry.common.remote.ok_or(Error::DestinationRequired)?,
        };
        match &entry.body {
            Body::Datagram(datagrams) if datagrams.write_shut => return Err(Error::BrokenPipe),
            Body::Datagram(_) => {
                if entry.common.protocol == protocol::UDP && destination.port() == 0 {
                    return Err(Error::InvalidArgument);
                }
                self.bind_any(socket)?;
            }
            Body::Raw(_) => {}
            Body::Stream(_) | Body::Request(_) | Body::TimeWait(_) => return Err(Error::NotSupported),
        }
        let entry = self.sockets.user(socket)?;
        let common = &entry.common;
        let path = self.path(common, destination.ip(), options, now)?;
        if path.shared && !destination.ip().is_multicast() && !common.broadcast {
            return Err(Error::AccessDenied);
        }
        let ttl = if destination.ip().is_multicast() { common.multicast_ttl } else { common.ttl };
        let header = Header {
            source: path.source,
            destination: destination.ip(),
            protocol: common.protocol,
            ttl: options.ttl.unwrap_or(ttl),
            tos: options.tos.unwrap_or(common.tos),
            fragmentation: common.fragmentation,
        };
        let local = SocketAddr::new(path.source, common.local.map_or(0, |local| local.port()));
        let (packet, work) = match &entry.body {
            Body::Raw(raw) if raw.header_included => return self.send_with_header(&path, &header, data, now),
            Body::Raw(_) => (raw_packet(&header, data), Work::default()),
            Body::Datagram(_) if common.protocol == protocol::UDP => {
                if data.len() > MAX_UDP - if path.source.is_ipv4() { ip::v4::HEADER } else { 0 } {
                    return Err(Error::MessageTooLong);
                }
                udp::emit(&path, local, destination, data)
            }
            Body::Datagram(_) | Body::Stream(_) | Body::Request(_) | Body::TimeWait(_) => {
                (echo(&header, local.port(), data)?, Work::default())
            }
        };
        self.network.send(&path, &header, packet, work, now)?;
        Ok(data.len())
    }

    /// A packet whose IPv4 header its sender has written; addresses that are zero, the checksum and the length are ours.
    fn send_with_header(&mut self, path: &Path, header: &Header, data: &[u8], now: Instant) -> Result<usize> {
        let given = smoltcp::wire::Ipv4Packet::new_checked(data).map_err(|_| Error::InvalidArgument)?;
        if given.version() != 4 || given.header_len() as usize != ip::v4::HEADER || given.more_frags() || given.frag_offset() > 0
        {
            return Err(Error::InvalidArgument);
        }
        let source = if given.src_addr().is_unspecified() { header.source } else { given.src_addr().into() };
        let header = Header {
            source,
            protocol: given.next_header().into(),
            ttl: given.hop_limit(),
            tos: given.dscp() << 2 | given.ecn(),
            fragmentation: if given.dont_frag() { Fragmentation::Forbidden } else { Fragmentation::Allowed },
            ..*header
        };
        let payload = data.get(ip::v4::HEADER..).unwrap_or(&[]);
        self.network.send(path, &header, Packet::of(payload), Work::default(), now)?;
        Ok(data.len())
    }

    /// recvmsg(2) of a datagram or raw socket: the next message whole, for the caller to cut.
    pub fn receive_from(&mut self, socket: Handle, peek: bool) -> Result<Message> {
        let entry = self.sockets.user_mut(socket)?;
        if let Some(error) = entry.common.error.take() {
            return Err(error);
        }
        let (queue, shut) = match &mut entry.body {
            Body::Datagram(datagrams) => (&mut datagrams.queue, datagrams.read_shut),
            Body::Raw(raw) => (&mut raw.queue, false),
            Body::Stream(_) | Body::Request(_) | Body::TimeWait(_) => return Err(Error::NotSupported),
        };
        let message = if peek { queue.front().cloned() } else { queue.pop() };
        match message {
            Some(mut message) => {
                message.source = entry.common.presented(message.source);
                Ok(message)
            }
            // The sentry reads it as an end: zero bytes.
            None if shut => Err(Error::BrokenPipe),
            None => Err(Error::WouldBlock),
        }
    }

    /// recvmsg(2) with MSG_ERRQUEUE.
    pub fn receive_error(&mut self, socket: Handle) -> Result<QueuedError> {
        match &mut self.sockets.user_mut(socket)?.body {
            Body::Datagram(datagrams) => datagrams.errors.pop_front().ok_or(Error::WouldBlock),
            _ => Err(Error::WouldBlock),
        }
    }

    /// IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP.
    pub fn join(&mut self, socket: Handle, interface: Option<InterfaceId>, group: IpAddr, now: Instant) -> Result<()> {
        let interface = self.interface_for_group(interface, group, now)?;
        let Body::Datagram(datagrams) = &mut self.sockets.user_mut(socket)?.body else { return Err(Error::NotSupported) };
        if datagrams.groups.contains(&(interface, group)) {
            return Err(Error::AddressInUse);
        }
        // igmp_max_memberships.
        if datagrams.groups.len() >= 20 {
            return Err(Error::NoBuffers);
        }
        self.network.join(interface, group, now)?;
        datagrams.groups.push((interface, group));
        Ok(())
    }

    /// IP_DROP_MEMBERSHIP, IPV6_LEAVE_GROUP.
    pub fn leave(&mut self, socket: Handle, interface: Option<InterfaceId>, group: IpAddr, now: Instant) -> Result<()> {
        let interface = self.interface_for_group(interface, group, now)?;
        let Body::Datagram(datagrams) = &mut self.sockets.user_mut(socket)?.body else { return Err(Error::NotSupported) };
        let place = datagrams.groups.iter().position(|joined| *joined == (interface, group));
        datagrams.groups.remove(place.ok_or(Error::AddressNotAvailable)?);
        self.network.leave(interface, group)
    }
}

/// A raw packet; for ICMPv6 the stack writes the checksum (RFC 3542, 3.1).
fn raw_packet(header: &Header, data: &[u8]) -> Packet {
    let mut packet = Packet::of(data);
    if let (protocol::ICMPV6, IpAddr::V6(source), IpAddr::V6(destination), true) =
        (header.protocol, header.source, header.destination, data.len() >= 4)
    {
        smoltcp::wire::Icmpv6Packet::new_unchecked(packet.as_mut()).fill_checksum(&source, &destination);
    }
    packet
}

/// An echo request with the socket's identifier.
fn echo(header: &Header, ident: u16, data: &[u8]) -> Result<Packet> {
    let request = if header.source.is_ipv4() { 8 } else { 128 };
    if data.len() < 8 || data[0] != request || data[1] != 0 {
        return Err(Error::InvalidArgument);
    }
    let mut packet = Packet::of(data);
    packet.as_mut()[4..6].copy_from_slice(&ident.to_be_bytes());
    match (header.source, header.destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            smoltcp::wire::Icmpv6Packet::new_unchecked(packet.as_mut()).fill_checksum(&source, &destination);
        }
        _ => smoltcp::wire::Icmpv4Packet::new_unchecked(packet.as_mut()).fill_checksum(),
    }
    Ok(packet)
}
