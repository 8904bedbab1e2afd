//! Multicast membership: which groups we listen to, and how routers learn of it (IGMPv2, MLDv2).

use super::{Network, output::ether_type};
use crate::{
    error::{Error, Result},
    ip::{Header, protocol, v4, v6},
    link::{InterfaceId, Medium, ethernet},
    packet::Packet,
    time::Instant,
};
use smoltcp::wire::{Icmpv6Packet, IgmpPacket, IgmpRepr, IgmpVersion};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// As many groups as an interface listens to.
const MAX_GROUPS: usize = 1024;
const UNSOLICITED_INTERVAL_MS: u64 = 1000;
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);

const MLD_INCLUDE_NONE: u8 = 3;
const MLD_EXCLUDE_NONE: u8 = 4;

impl Network {
    /// One more socket listens to a group.
    pub(crate) fn join(&mut self, id: InterfaceId, group: IpAddr, now: Instant) -> Result<()> {
        if !group.is_multicast() {
            return Err(Error::InvalidArgument);
        }
        let interface = self.interface_mut(id)?;
        if interface.groups.len() >= MAX_GROUPS && !interface.groups.contains_key(&group) {
            return Err(Error::NoBuffers);
        }
        let membership = interface.groups.entry(group).or_default();
        membership.joined += 1;
        if membership.joined == 1 {
            membership.reports = 2;
            membership.due = Some(now);
            self.report_groups(id, now);
        }
        Ok(())
    }

    /// One socket less.
    pub(crate) fn leave(&mut self, id: InterfaceId, group: IpAddr) -> Result<()> {
        let interface = self.interface_mut(id)?;
        let membership = interface.groups.get_mut(&group).ok_or(Error::AddressNotAvailable)?;
        membership.joined = membership.joined.saturating_sub(1);
        if membership.joined == 0 {
            interface.groups.remove(&group);
            self.send_report(id, group, false);
        }
        Ok(())
    }

    /// A router asks who listens, to one group or to any, and wants answers within so many milliseconds.
    pub(crate) fn queried(&mut self, id: InterfaceId, group: Option<IpAddr>, within: [u8; 2], now: Instant) {
        let within = u64::from(u16::from_be_bytes(within)).max(1);
        let Some(interface) = self.interfaces.iter_mut().find(|interface| interface.id == id) else { return };
        for (address, membership) in &mut interface.groups {
            if group.is_none_or(|group| group == *address) {
                let due = now + Duration::from_millis(self.random.below(within));
                membership.reports = membership.reports.max(1);
                membership.due = Some(membership.due.map_or(due, |at| at.min(due)));
            }
        }
    }

    /// Sends the reports that are due.
    pub(super) fn report_groups(&mut self, id: InterfaceId, now: Instant) {
        let Some(interface) = self.interfaces.iter_mut().find(|interface| interface.id == id) else { return };
        let mut due = Vec::new();
        for (&group, membership) in &mut interface.groups {
            if membership.due.is_some_and(|at| at <= now) {
                due.push(group);
                membership.reports = membership.reports.saturating_sub(1);
                let pause = Duration::from_millis(1 + self.random.below(UNSOLICITED_INTERVAL_MS));
                membership.due = (membership.reports > 0).then(|| now + pause);
            }
        }
        for group in due {
            self.send_report(id, group, true);
        }
    }

    fn send_report(&mut self, id: InterfaceId, group: IpAddr, listening: bool) {
        let Ok(interface) = self.interface(id) else { return };
        if !matches!(interface.config.medium, Medium::Ethernet(_)) || !interface.up {
            return;
        }
        let (packet, destination) = match group {
            IpAddr::V4(group) => {
                let source = interface.address_towards(group).unwrap_or(Ipv4Addr::UNSPECIFIED);
                igmp_report(source, group, listening)
            }
            IpAddr::V6(group) => {
                let source = interface.link_local().unwrap_or(Ipv6Addr::UNSPECIFIED);
                mld_report(source, group, listening)
            }
        };
        let protocol = ether_type(&packet);
        let _ = self.frame(id, packet, ethernet::group_address(destination), protocol, Default::default());
    }
}

fn igmp_report(source: Ipv4Addr, group: Ipv4Addr, listening: bool) -> (Packet, IpAddr) {
    let (repr, destination) = if listening {
        (IgmpRepr::MembershipReport { group_addr: group, version: IgmpVersion::Version2 }, group)
    } else {
        (IgmpRepr::LeaveGroup { group_addr: group }, ALL_ROUTERS)
    };
    let mut packet = Packet::with_room(0);
    repr.emit(&mut IgmpPacket::new_unchecked(packet.prepend(repr.buffer_len())));
    let control = Header::control(source.into(), destination.into());
    v4::emit(&mut packet, &Header { protocol: protocol::IGMP, ttl: 1, ..control }, v4::Place::default());
    (packet, destination.into())
}

/// A report of one changed record, behind a hop-by-hop header with a router alert (RFC 3810, 5.2).
fn mld_report(source: Ipv6Addr, group: Ipv6Addr, listening: bool) -> (Packet, IpAddr) {
    const TYPE: u8 = 143;
    const HOP_BY_HOP: u8 = 0;
    let destination = smoltcp::wire::IPV6_LINK_LOCAL_ALL_MLDV2_ROUTERS;
    let mut packet = Packet::with_room(0);
    let message = packet.prepend(28);
    message[0] = TYPE;
    message[7] = 1;
    message[8] = if listening { MLD_EXCLUDE_NONE } else { MLD_INCLUDE_NONE };
    message[12..28].copy_from_slice(&group.octets());
    Icmpv6Packet::new_unchecked(message).fill_checksum(&source, &destination);
    packet.prepend(8)[..8].copy_from_slice(&[protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    let control = Header::control(source.into(), destination.into());
    v6::emit(&mut packet, &Header { protocol: HOP_BY_HOP, ttl: 1, ..control }, 0);
    (packet, destination.into())
}
