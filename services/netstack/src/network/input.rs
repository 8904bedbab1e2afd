//! From a frame to a datagram for this host.

use super::Network;
use crate::{
    icmp::{self, Told},
    ip::{
        Datagram, protocol,
        reassembly::{Key, Outcome, Piece},
        v4, v6,
    },
    link::{InterfaceId, Medium, arp, ethernet, ndp, offload::Received},
    stack::counters::Drop,
    time::Instant,
};
use smoltcp::wire::{EthernetAddress, EthernetProtocol};
use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

impl Network {
    /// Takes a frame of a link.
    pub(crate) fn receive<'a>(&mut self, id: InterfaceId, frame: &'a [u8], told: Received, now: Instant) -> Option<Datagram<'a>> {
        self.counters.received += 1;
        let Ok(interface) = self.interface(id) else { return self.dropped(Drop::InterfaceDown) };
        if !interface.up {
            return self.dropped(Drop::InterfaceDown);
        }
        let Medium::Ethernet(own) = interface.config.medium else {
            return self.receive_ip(id, frame, false, told, now);
        };
        let Some(frame) = ethernet::parse(frame) else { return self.dropped(Drop::LinkMalformed) };
        if frame.destination != own && !frame.destination.is_multicast() {
            return self.dropped(Drop::OtherStation);
        }
        if frame.source == own || !frame.source.is_unicast() {
            return self.dropped(Drop::LinkMalformed);
        }
        let shared = frame.destination != own;
        match frame.protocol {
            EthernetProtocol::Arp => {
                match arp::Message::parse(frame.payload) {
                    Some(message) => self.arp_message(id, own, message, now),
                    None => self.counters.drop(Drop::NeighbourMalformed),
                }
                None
            }
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => self.receive_ip(id, frame.payload, shared, told, now),
            EthernetProtocol::Unknown(_) => self.dropped(Drop::LinkProtocol),
        }
    }

    fn dropped<T>(&mut self, reason: Drop) -> Option<T> {
        self.counters.drop(reason);
        None
    }

    /// Takes an IP packet.
    pub(crate) fn receive_ip<'a>(
        &mut self,
        id: InterfaceId,
        bytes: &'a [u8],
        shared: bool,
        told: Received,
        now: Instant,
    ) -> Option<Datagram<'a>> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => self.receive_v4(id, bytes, shared, told, now),
            Some(6) => self.receive_v6(id, bytes, shared, told, now),
            _ => self.dropped(Drop::IpMalformed),
        }
    }

    fn receive_v4<'a>(
        &mut self,
        id: InterfaceId,
        bytes: &'a [u8],
        shared: bool,
        told: Received,
        now: Instant,
    ) -> Option<Datagram<'a>> {
        let packet = match v4::parse(bytes, false) {
            Ok(packet) => packet,
            Err(reason) => return self.dropped(reason),
        };
        let interface = self.interface(id).ok()?;
        let (source, destination) = (packet.source, packet.destination);
        let to_many = destination.is_multicast() || interface.is_broadcast(destination);
        let loopback = interface.is_loopback();
        let strange = source.is_multicast()
            || interface.is_broadcast(source)
            || (!loopback && (source.is_loopback() || destination.is_loopback()))
            || (source.is_unspecified() && !to_many);
        if strange {
            return self.dropped(Drop::Martian);
        }
        let ours = if destination.is_multicast() {
            interface.listens(destination.into())
        } else {
            to_many || self.is_local(destination.into())
        };
        if !ours {
            return self.dropped(Drop::NotForUs);
        }
        let mut datagram = Datagram {
            interface: id,
            source: source.into(),
            destination: destination.into(),
            protocol: packet.protocol,
            ttl: packet.ttl,
            tos: packet.tos,
            header: Cow::Borrowed(packet.header),
            payload: Cow::Borrowed(packet.payload),
            checksum_known: told.checksum_known || loopback,
            shared: shared || to_many,
        };
        if packet.more_fragments || packet.fragment_offset > 0 {
            let key = Key {
                source: source.into(),
                destination: destination.into(),
                protocol: packet.protocol,
                ident: packet.ident.into(),
            };
            let piece = Piece {
                offset: packet.fragment_offset,
                more: packet.more_fragments,
                tos: packet.tos,
                header: packet.header,
                payload: packet.payload,
            };
            self.reassemble(&mut datagram, key, piece, now)?;
        }
        Some(datagram)
    }

    fn receive_v6<'a>(
        &mut self,
        id: InterfaceId,
        bytes: &'a [u8],
        shared: bool,
        told: Received,
        now: Instant,
    ) -> Option<Datagram<'a>> {
        let fixed = match v6::fixed(bytes) {
            Ok(fixed) => fixed,
            Err(reason) => return self.dropped(reason),
        };
        let interface = self.interface(id).ok()?;
        let (source, destination) = (fixed.source, fixed.destination);
        let loopback = interface.is_loopback();
        let strange = source.is_multicast()
            || destination.is_unspecified()
            || (!loopback && (source.is_loopback() || destination.is_loopback()));
        if strange {
            return self.dropped(Drop::Martian);
        }
        let ours =
            if destination.is_multicast() { interface.listens(destination.into()) } else { self.is_local(destination.into()) };
        if !ours {
            return self.dropped(Drop::NotForUs);
        }
        let mut datagram = Datagram {
            interface: id,
            source: source.into(),
            destination: destination.into(),
            protocol: fixed.protocol,
            ttl: fixed.ttl,
            tos: fixed.tos,
            header: Cow::Borrowed(fixed.header),
            payload: Cow::Borrowed(fixed.payload),
            checksum_known: told.checksum_known || loopback,
            shared: shared || destination.is_multicast(),
        };
        let packet = match v6::parse(bytes) {
            Ok(packet) => packet,
            Err(refused) => return self.refused(refused, &datagram, now),
        };
        datagram.protocol = packet.protocol;
        datagram.header = Cow::Borrowed(packet.header);
        datagram.payload = Cow::Borrowed(packet.payload);
        // A packet that is its own only fragment needs no others (RFC 6946).
        let Some(fragment) = packet.fragment.filter(|fragment| fragment.more || fragment.offset > 0) else {
            return match packet.fragment {
                Some(_) => self.behind_fragment(datagram, now),
                None => Some(datagram),
            };
        };
        let key =
            Key { source: source.into(), destination: destination.into(), protocol: packet.protocol, ident: fragment.ident };
        let piece = Piece {
            offset: fragment.offset,
            more: fragment.more,
            tos: packet.tos,
            header: packet.header,
            payload: packet.payload,
        };
        self.reassemble(&mut datagram, key, piece, now)?;
        self.behind_fragment(datagram, now)
    }

    /// Walks the headers that come behind a fragment header.
    fn behind_fragment<'a>(&mut self, mut datagram: Datagram<'a>, now: Instant) -> Option<Datagram<'a>> {
        if !matches!(datagram.protocol, 0 | 43 | 44 | 59 | 60) {
            return Some(datagram);
        }
        let mut bytes = datagram.header.to_vec();
        let start = bytes.len();
        bytes.extend_from_slice(&datagram.payload);
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (datagram.source, datagram.destination) else { return None };
        let mut packet = v6::Parsed {
            source,
            destination,
            protocol: datagram.protocol,
            ttl: datagram.ttl,
            tos: datagram.tos,
            fragment: None,
            header: bytes.get(..start)?,
            payload: bytes.get(start..)?,
        };
        match v6::walk(&mut packet, &bytes, 1) {
            Err(refused) => return self.refused(refused, &datagram, now),
            // Fragments of fragments are an attack.
            Ok(()) if packet.fragment.is_some() => return self.dropped(Drop::FragmentRefused),
            Ok(()) => {}
        }
        let (header, payload) = (packet.header.to_vec(), packet.payload.to_vec());
        datagram.protocol = packet.protocol;
        datagram.header = Cow::Owned(header);
        datagram.payload = Cow::Owned(payload);
        Some(datagram)
    }

    fn refused<T>(&mut self, refused: v6::Refused, datagram: &Datagram<'_>, now: Instant) -> Option<T> {
        match refused {
            v6::Refused::Silently(reason) => self.counters.drop(reason),
            v6::Refused::Tell(problem) => {
                self.counters.drop(Drop::UnknownOption);
                if !datagram.shared || problem.even_for_groups {
                    let told = Told::Parameter { code: problem.code, pointer: problem.pointer };
                    icmp::tell(self, datagram, told, now);
                }
            }
        }
        None
    }

    fn reassemble(&mut self, datagram: &mut Datagram<'_>, key: Key, piece: Piece<'_>, now: Instant) -> Option<()> {
        match self.reassembly.add(key, piece, now) {
            Outcome::Waiting => None,
            Outcome::Duplicate => self.dropped(Drop::FragmentDuplicate),
            Outcome::Refused => self.dropped(Drop::FragmentRefused),
            Outcome::Whole(whole) => {
                datagram.header = Cow::Owned(whole.header);
                datagram.payload = Cow::Owned(whole.payload);
                datagram.tos = whole.tos;
                // What the link said was about one fragment.
                datagram.checksum_known = false;
                Some(())
            }
        }
    }

    /// Gives up packets whose fragments did not come, and tells their senders.
    pub(super) fn expire_fragments(&mut self, now: Instant) {
        for expired in self.reassembly.advance(now) {
            self.counters.drop(Drop::FragmentTimeout);
            let Some((header, payload)) = expired.first else { continue };
            let Some(interface) = self.interfaces.iter().find(|one| one.has(expired.key.destination)) else { continue };
            let about = Datagram {
                interface: interface.id,
                source: expired.key.source,
                destination: expired.key.destination,
                protocol: expired.key.protocol,
                ttl: 0,
                tos: 0,
                header: Cow::Owned(header),
                payload: Cow::Owned(payload),
                checksum_known: false,
                shared: expired.key.destination.is_multicast(),
            };
            icmp::tell(self, &about, Told::ReassemblyTimeout, now);
        }
    }

    fn arp_message(&mut self, id: InterfaceId, own: EthernetAddress, message: arp::Message, now: Instant) {
        let Ok(interface) = self.interface(id) else { return };
        let ((ethernet, sender), (_, target)) = (message.sender, message.target);
        let for_us = interface.has(target.into());
        // Who claims our own address is not believed.
        if interface.has(sender.into()) {
            return;
        }
        let mut actions = Vec::new();
        if let Some((cache, random)) = self.cache(id) {
            match (message.request, for_us) {
                _ if sender.is_unspecified() => {}
                (true, for_us) => cache.heard(sender.into(), ethernet, for_us, now, &mut actions),
                (false, true) => cache.answered(sender.into(), ethernet, true, now, random, &mut actions),
                // A gratuitous reply changes what is known, and adds nothing.
                (false, false) => cache.heard(sender.into(), ethernet, false, now, &mut actions),
            }
        }
        self.act(id, actions);
        if message.request && for_us {
            let answer = arp::Message { request: false, sender: (own, target), target: (ethernet, sender) };
            let _ = self.frame(id, answer.emit(), ethernet, EthernetProtocol::Arp, Default::default());
        }
    }

    fn cache(&mut self, id: InterfaceId) -> Option<(&mut crate::link::neighbour::Neighbours, &mut crate::random::Random)> {
        let interface = self.interfaces.iter_mut().find(|interface| interface.id == id)?;
        Some((&mut interface.neighbours, &mut self.random))
    }

    /// Takes a message of neighbour discovery whose checksum and hop limit have been checked.
    pub(crate) fn neighbour_message(
        &mut self,
        id: InterfaceId,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        message: ndp::Message,
        now: Instant,
    ) {
        let Ok(interface) = self.interface(id) else { return };
        let Medium::Ethernet(own) = interface.config.medium else { return };
        let mut actions = Vec::new();
        match message {
            ndp::Message::Solicitation { target, sender } => {
                if !interface.has(target.into()) || interface.has(source.into()) {
                    return;
                }
                // Somebody who asks from no address wants to take the target: everybody is told that it is ours.
                let detection = source.is_unspecified();
                if !detection
                    && let Some(sender) = sender
                    && let Some((cache, _)) = self.cache(id)
                {
                    cache.heard(source.into(), sender, true, now, &mut actions);
                }
                self.act(id, actions);
                let to = if detection { smoltcp::wire::IPV6_LINK_LOCAL_ALL_NODES } else { source };
                let ethernet = match sender {
                    Some(sender) if !detection => sender,
                    _ => ethernet::group_address(smoltcp::wire::IPV6_LINK_LOCAL_ALL_NODES.into()),
                };
                let answer = ndp::Message::Advertisement {
                    target,
                    owner: Some(own),
                    solicited: !detection,
                    overrides: true,
                    router: false,
                };
                self.neighbour_frame(id, answer, target, to, ethernet);
            }
            ndp::Message::Advertisement { target, owner, solicited, overrides, .. } => {
                if interface.has(target.into()) || (solicited && destination.is_multicast()) {
                    return;
                }
                let known = interface.neighbours.list().find(|entry| entry.address == IpAddr::V6(target));
                let Some(ethernet) = owner.or(known.and_then(|entry| entry.ethernet)) else { return };
                if let Some((cache, random)) = self.cache(id) {
                    if solicited {
                        cache.answered(target.into(), ethernet, overrides, now, random, &mut actions);
                    } else if overrides {
                        cache.heard(target.into(), ethernet, false, now, &mut actions);
                    }
                }
                self.act(id, actions);
            }
        }
    }

    /// A packet of ours that never went out, as a datagram: its sender is found by it.
    pub(crate) fn quoted(&self, packet: &[u8]) -> Option<(IpAddr, IpAddr, u8)> {
        match packet.first()? >> 4 {
            4 => v4::parse(packet, true).ok().map(|parsed| (parsed.source.into(), parsed.destination.into(), parsed.protocol)),
            _ => v6::fixed(packet).ok().map(|parsed| (parsed.source.into(), parsed.destination.into(), parsed.protocol)),
        }
    }

    /// The IGMP part of what came in; everything else of it is for raw sockets.
    pub(crate) fn igmp(&mut self, datagram: &Datagram<'_>, now: Instant) {
        debug_assert_eq!(datagram.protocol, protocol::IGMP);
        let Ok(packet) = smoltcp::wire::IgmpPacket::new_checked(&datagram.payload[..]) else {
            return self.counters.drop(Drop::TransportMalformed);
        };
        if !packet.verify_checksum() {
            return self.counters.drop(Drop::TransportChecksum);
        }
        if let Ok(smoltcp::wire::IgmpRepr::MembershipQuery { max_resp_time, group_addr, .. }) =
            smoltcp::wire::IgmpRepr::parse(&smoltcp::wire::IgmpPacket::new_unchecked(&datagram.payload[..]))
        {
            let group = Some(group_addr).filter(|group: &Ipv4Addr| !group.is_unspecified()).map(IpAddr::V4);
            let millis = u16::try_from(max_resp_time.total_millis()).unwrap_or(10_000);
            self.queried(datagram.interface, group, millis.to_be_bytes(), now);
        }
    }
}
