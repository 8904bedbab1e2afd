//! From a transport's packet to a frame in the queue.

use super::{Frame, Looped, Network};
use crate::{
    error::{Error, Result},
    ip::{self, Fragmentation, Header, fragment, v4, v6},
    link::{
        Capabilities, InterfaceId, Medium, arp, ethernet,
        interface::{Interface, solicited_node},
        ndp,
        offload::{Cut, Offload, PartialChecksum, Segmentation},
    },
    packet::Packet,
    random::hash_of,
    stack::counters::Drop,
    time::Instant,
};
use smoltcp::wire::{EthernetAddress, EthernetProtocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How packets get to a destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub interface: InterfaceId,
    pub next_hop: IpAddr,
    pub source: IpAddr,
    /// The longest IP packet that gets there, as far as is known.
    pub mtu: usize,
    pub link_mtu: usize,
    /// It never leaves this host.
    pub local: bool,
    /// It goes to more than one.
    pub shared: bool,
    pub capabilities: Capabilities,
}

/// What a transport leaves to the link.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// The checksum is at this place of the transport's header, and holds the pseudo-header's sum.
    pub checksum: Option<u16>,
    /// Payload bytes of each piece, and the transport header's length.
    pub segments: Option<(u16, u16)>,
    /// CWR is set.
    pub ecn: bool,
}

impl Network {
    /// How to get to a destination: from `source` if it is given, by the interface `bound` if it is given.
    pub(crate) fn route(
        &self,
        destination: IpAddr,
        source: Option<IpAddr>,
        bound: Option<InterfaceId>,
        now: Instant,
    ) -> Result<Path> {
        if source.is_some_and(|source| source.is_ipv4() != destination.is_ipv4()) {
            // A socket of both families that is bound to an address of one.
            return Err(Error::NetworkUnreachable);
        }
        if self.is_local(destination) {
            let loopback = self.interfaces.iter().find(|one| one.is_loopback() && one.up).ok_or(Error::NetworkUnreachable)?;
            return Ok(Path { local: true, ..path(loopback, destination, source.unwrap_or(destination)) });
        }
        let usable = |id: InterfaceId| bound.is_none_or(|bound| bound == id) && self.interface(id).is_ok_and(|one| one.up);
        let found = self.routes.lookup(destination, usable);
        // Groups and the link's own addresses need no route where the interface is named.
        let by_link = shared(destination) || matches!(destination, IpAddr::V6(six) if six.is_unicast_link_local());
        let (interface, gateway) = match (found, bound) {
            (_, Some(bound)) if by_link && usable(bound) => (self.interface(bound)?, None),
            (Some(route), _) => (self.interface(route.interface)?, route.gateway),
            (None, _) if by_link => {
                let first = self.interfaces.iter().find(|one| one.up && !one.is_loopback());
                (first.ok_or(Error::NetworkUnreachable)?, None)
            }
            (None, _) => return Err(Error::NetworkUnreachable),
        };
        let next_hop = gateway.filter(|_| !shared(destination)).unwrap_or(destination);
        let preferred = found
            .filter(|route| route.interface == interface.id)
            .and_then(|route| route.source.filter(|source| source.is_ipv4() == destination.is_ipv4()));
        let source = source
            .or(preferred)
            .or_else(|| self.choose_source(interface, next_hop, destination))
            .ok_or(Error::AddressNotAvailable)?;
        let mut path = path(interface, next_hop, source);
        path.shared = shared(destination)
            || matches!(destination, IpAddr::V4(four) if self.interfaces.iter().any(|one| one.is_broadcast(four)));
        if let Some(mtu) = found.and_then(|route| route.mtu) {
            path.mtu = path.mtu.min(mtu);
        }
        if let Some(mtu) = self.path_mtus.get(destination, now) {
            path.mtu = path.mtu.min(mtu);
        }
        Ok(path)
    }

    /// The best of our addresses towards a destination: of the link, of its scope, with the longest common prefix
    /// (RFC 6724 as far as it concerns a host with few addresses).
    fn choose_source(&self, interface: &Interface, next_hop: IpAddr, destination: IpAddr) -> Option<IpAddr> {
        let own = |one: &Interface| -> Vec<IpAddr> {
            one.addresses.iter().map(|own| own.address).filter(|own| own.is_ipv4() == destination.is_ipv4()).collect()
        };
        let mut candidates = own(interface);
        if candidates.is_empty() {
            candidates = self.interfaces.iter().filter(|one| !one.is_loopback()).flat_map(own).collect();
        }
        let scope = |address: IpAddr| matches!(address, IpAddr::V6(six) if six.is_unicast_link_local());
        let in_network =
            |address: IpAddr| interface.addresses.iter().any(|own| own.address == address && own.network().contains(next_hop));
        // The first of the best: `max_by_key` would take the last.
        candidates
            .into_iter()
            .rev()
            .max_by_key(|&own| (scope(own) == scope(destination), in_network(own), ip::common_bits(own, destination)))
    }

    /// Sends what a transport made.
    pub(crate) fn send(&mut self, path: &Path, header: &Header, packet: Packet, work: Work, now: Instant) -> Result<()> {
        let size = packet.len() + if header.source.is_ipv4() { v4::HEADER } else { v6::HEADER };
        let limit = match header.fragmentation {
            Fragmentation::Allowed | Fragmentation::Source | Fragmentation::Forbidden => path.mtu,
            Fragmentation::Probe => path.link_mtu,
        };
        if size > limit && work.segments.is_none() {
            if matches!(header.fragmentation, Fragmentation::Forbidden | Fragmentation::Probe) {
                return Err(Error::MessageTooLong);
            }
            let ident = self.random.next() as u32;
            let fragments = fragment::fragments(header, packet.as_ref(), limit, ident).ok_or(Error::MessageTooLong)?;
            for fragment in fragments {
                self.send_ip(path, header, fragment, Work::default(), now)?;
            }
            return Ok(());
        }
        let mut packet = packet;
        self.ip_header(&mut packet, header, &work);
        self.send_ip(path, header, packet, work, now)
    }

    fn ip_header(&mut self, packet: &mut Packet, header: &Header, work: &Work) {
        if header.source.is_ipv4() {
            // Numbers that tell a peer nothing about others (RFC 7739's reasons hold for IPv4 too).
            self.idents = self.idents.wrapping_add(1);
            let base = hash_of(self.ident_key, &(header.destination, header.protocol)) as u16;
            let pieces = work.segments.map_or(1, |(size, _)| packet.len() / usize::from(size.max(1)) + 1);
            let ident = base.wrapping_add(self.idents as u16);
            self.idents = self.idents.wrapping_add(pieces as u32 - 1);
            v4::emit(packet, header, v4::Place { ident, offset: 0, more: false });
        } else {
            let flow = hash_of(self.ident_key, &(header.source, header.destination, header.protocol)) as u32;
            v6::emit(packet, header, flow);
        }
    }

    /// Sends an IP packet that fits.
    fn send_ip(&mut self, path: &Path, header: &Header, packet: Packet, work: Work, now: Instant) -> Result<()> {
        if path.local {
            return self.loop_back(path.interface, packet, work);
        }
        let interface = self.interface_mut(path.interface)?;
        if !interface.up {
            return Err(Error::NetworkDown);
        }
        let protocol = ether_type(&packet);
        if path.shared {
            let heard = match header.destination {
                IpAddr::V4(address) if !address.is_multicast() => true,
                group => interface.groups.contains_key(&group),
            };
            if heard {
                self.loop_back(path.interface, packet.clone(), work)?;
            }
            let ethernet = match header.destination {
                group if group.is_multicast() => ethernet::group_address(group),
                _ => EthernetAddress::BROADCAST,
            };
            return self.frame(path.interface, packet, ethernet, protocol, offload(header, &work));
        }
        let mut actions = Vec::new();
        let offload = offload(header, &work);
        let resolved = interface.neighbours.resolve(path.next_hop, packet, offload, now, &mut actions);
        self.act(path.interface, actions);
        match resolved {
            Ok((ethernet, packet)) => self.frame(path.interface, packet, ethernet, protocol, offload),
            // It waits for the neighbour.
            Err(()) => Ok(()),
        }
    }

    fn loop_back(&mut self, interface: InterfaceId, packet: Packet, work: Work) -> Result<()> {
        if self.looped.len() >= self.queue_limit {
            self.counters.drop(Drop::TransmitQueueFull);
            return Err(Error::NoBuffers);
        }
        let segment_size = work.segments.map_or(0, |(size, _)| size);
        self.looped.push_back(Looped { interface, packet, segment_size });
        Ok(())
    }

    /// Queues a frame.
    pub(super) fn frame(
        &mut self,
        id: InterfaceId,
        mut packet: Packet,
        destination: EthernetAddress,
        protocol: EthernetProtocol,
        offload: Offload,
    ) -> Result<()> {
        if self.out.len() >= self.queue_limit {
            self.counters.drop(Drop::TransmitQueueFull);
            return Err(Error::NoBuffers);
        }
        if let Medium::Ethernet(own) = self.interface(id)?.config.medium {
            ethernet::encapsulate(&mut packet, own, destination, protocol);
        }
        self.out.push_back(Frame { interface: id, packet, offload });
        Ok(())
    }

    /// Asks for a neighbour.
    pub(super) fn solicit(&mut self, id: InterfaceId, target: IpAddr, known: Option<EthernetAddress>) {
        let Ok(interface) = self.interface(id) else { return };
        let Medium::Ethernet(own) = interface.config.medium else { return };
        match target {
            IpAddr::V4(target) => {
                let sender = interface.address_towards(target).unwrap_or(Ipv4Addr::UNSPECIFIED);
                let message = arp::Message { request: true, sender: (own, sender), target: (EthernetAddress([0; 6]), target) };
                let to = known.unwrap_or(EthernetAddress::BROADCAST);
                let _ = self.frame(id, message.emit(), to, EthernetProtocol::Arp, Offload::default());
            }
            IpAddr::V6(target) => {
                let source = self.choose_source(interface, IpAddr::V6(target), IpAddr::V6(target));
                let Some(IpAddr::V6(source)) = source else { return };
                let to = if known.is_some() { target } else { solicited_node(target) };
                let ethernet = known.unwrap_or_else(|| ethernet::group_address(IpAddr::V6(to)));
                let message = ndp::Message::Solicitation { target, sender: Some(own) };
                self.neighbour_frame(id, message, source, to, ethernet);
            }
        }
    }

    /// Sends a message of neighbour discovery, which needs no neighbour to be known.
    pub(super) fn neighbour_frame(
        &mut self,
        id: InterfaceId,
        message: ndp::Message,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        ethernet: EthernetAddress,
    ) {
        let mut packet = message.emit(source, destination);
        let header = Header { ttl: 255, ..Header::control(source.into(), destination.into()) };
        v6::emit(&mut packet, &header, 0);
        let _ = self.frame(id, packet, ethernet, EthernetProtocol::Ipv6, Offload::default());
    }
}

fn path(interface: &Interface, next_hop: IpAddr, source: IpAddr) -> Path {
    let mtu = interface.config.mtu;
    let mut capabilities = interface.config.capabilities;
    if interface.is_loopback() {
        capabilities = Capabilities { checksum: true, segmentation: 65_000 };
    }
    Path { interface: interface.id, next_hop, source, mtu, link_mtu: mtu, local: false, shared: false, capabilities }
}

fn shared(destination: IpAddr) -> bool {
    destination.is_multicast() || matches!(destination, IpAddr::V4(four) if four.is_broadcast())
}

/// The Ethernet type of an IP packet.
pub(super) fn ether_type(packet: &Packet) -> EthernetProtocol {
    match packet.as_ref().first().map(|byte| byte >> 4) {
        Some(6) => EthernetProtocol::Ipv6,
        _ => EthernetProtocol::Ipv4,
    }
}

/// What is left to the link, in places of the frame.
fn offload(header: &Header, work: &Work) -> Offload {
    let ip = if header.source.is_ipv4() { v4::HEADER } else { v6::HEADER };
    let start = (smoltcp::wire::ETHERNET_HEADER_LEN + ip) as u16;
    let cut = match (header.protocol, header.source) {
        (ip::protocol::TCP, IpAddr::V4(_)) => Cut::Tcp4,
        (ip::protocol::TCP, IpAddr::V6(_)) => Cut::Tcp6,
        _ => Cut::Udp,
    };
    Offload {
        checksum: work.checksum.map(|offset| PartialChecksum { start, offset }),
        segmentation: work.segments.map(|(size, length)| Segmentation { cut, size, headers: start + length, ecn: work.ecn }),
    }
}
