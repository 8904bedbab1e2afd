//! Everything beneath the sockets: interfaces, routes, neighbours, fragments, and the queue of what goes out.
//!
//! | part | what it does |
//! |---|---|
//! | `input` | a frame to a datagram for this host |
//! | `output` | a route, a header, fragments, a neighbour, the queue |
//! | `groups` | multicast membership: IGMP and MLD |

mod groups;
mod input;
mod output;

pub(crate) use output::{Path, Work};

use crate::{
    error::{Error, Result},
    icmp::limit::Limit,
    ip::{Route, path_mtu::PathMtus, reassembly::Reassembly, route::Table},
    link::{
        InterfaceAddress, InterfaceConfig, InterfaceId,
        interface::Interface,
        neighbour::{Action, Neighbours},
        offload::Offload,
    },
    packet::Packet,
    random::{Key, Random},
    stack::{config::Config, counters::Counters},
    time::{Instant, earlier},
};
use std::{collections::VecDeque, net::IpAddr};

/// A frame to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where.
    pub interface: InterfaceId,
    /// Its bytes.
    pub packet: Packet,
    /// What the link is to do with it.
    pub offload: Offload,
}

/// A packet that comes back to us.
#[derive(Debug)]
pub(crate) struct Looped {
    pub interface: InterfaceId,
    pub packet: Packet,
    pub segment_size: u16,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Table,
    pub(crate) path_mtus: PathMtus,
    pub(crate) icmp_limit: Limit,
    pub(crate) counters: Counters,
    pub(crate) random: Random,
    reassembly: Reassembly,
    out: VecDeque<Frame>,
    looped: VecDeque<Looped>,
    queue_limit: usize,
    neighbour_limit: usize,
    ident_key: Key,
    idents: u32,
    /// Packets whose neighbour did not answer: their senders are told.
    unreachable: Vec<Packet>,
}

impl Network {
    pub(crate) fn new(config: &Config) -> Network {
        let limits = &config.limits;
        Network {
            interfaces: Vec::new(),
            routes: Table::default(),
            path_mtus: PathMtus::new(limits.path_mtus),
            icmp_limit: Limit::new(config.key.derive(1)),
            counters: Counters::default(),
            random: Random::new(config.key.derive(2)),
            reassembly: Reassembly::new(limits.reassembly_bytes),
            out: VecDeque::new(),
            looped: VecDeque::new(),
            queue_limit: limits.transmit_packets,
            neighbour_limit: limits.neighbours,
            ident_key: config.key.derive(3),
            idents: 0,
            unreachable: Vec::new(),
        }
    }

    pub(crate) fn add_interface(&mut self, config: InterfaceConfig) -> InterfaceId {
        let id = InterfaceId(self.interfaces.len() as u32 + 1);
        self.interfaces.push(Interface {
            id,
            config,
            up: true,
            addresses: Vec::new(),
            neighbours: Neighbours::new(self.neighbour_limit),
            groups: Default::default(),
        });
        id
    }

    pub(crate) fn interface(&self, id: InterfaceId) -> Result<&Interface> {
        self.interfaces.iter().find(|interface| interface.id == id).ok_or(Error::NoDevice)
    }

    pub(crate) fn interface_mut(&mut self, id: InterfaceId) -> Result<&mut Interface> {
        self.interfaces.iter_mut().find(|interface| interface.id == id).ok_or(Error::NoDevice)
    }

    /// Gives an interface an address, and a route to its network.
    pub(crate) fn add_address(&mut self, id: InterfaceId, address: InterfaceAddress) -> Result<()> {
        let interface = self.interface_mut(id)?;
        if interface.has(address.address) {
            return Err(Error::AddressInUse);
        }
        interface.addresses.push(address);
        if !interface.is_loopback() {
            let source = Some(address.address).filter(IpAddr::is_ipv4);
            let destination = address.network();
            self.routes.add(Route { destination, gateway: None, interface: id, metric: 0, source, mtu: None });
        }
        Ok(())
    }

    /// Takes an address, and the route to its network, away.
    pub(crate) fn remove_address(&mut self, id: InterfaceId, address: IpAddr) -> Result<()> {
        let interface = self.interface_mut(id)?;
        let place = interface.addresses.iter().position(|own| own.address == address).ok_or(Error::AddressNotAvailable)?;
        let gone = interface.addresses.remove(place);
        if !interface.addresses.iter().any(|own| own.network() == gone.network()) {
            self.routes.remove(|route| route.interface == id && route.destination == gone.network() && route.gateway.is_none());
        }
        Ok(())
    }

    /// Whether packets to it are for this host.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        let loopback = address.is_loopback() && self.interfaces.iter().any(|one| one.is_loopback() && one.up);
        loopback || self.interfaces.iter().any(|interface| interface.has(address))
    }

    /// Whether a socket may have it as its own address.
    pub(crate) fn can_bind(&self, address: IpAddr) -> bool {
        let broadcast = |one: &Interface| matches!(address, IpAddr::V4(address) if one.is_broadcast(address));
        address.is_unspecified() || address.is_multicast() || self.is_local(address) || self.interfaces.iter().any(broadcast)
    }

    pub(crate) fn reassembly_bytes(&self) -> usize {
        self.reassembly.bytes()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let each = self.interfaces.iter().flat_map(|interface| {
            let groups = interface.groups.values().filter_map(|group| group.due).min();
            [interface.neighbours.deadline(), groups]
        });
        each.fold(self.reassembly.deadline(), earlier)
    }

    /// Does what is due beneath the sockets.
    pub(crate) fn advance(&mut self, now: Instant) {
        for index in 0..self.interfaces.len() {
            let mut actions = Vec::new();
            let Some(interface) = self.interfaces.get_mut(index) else { continue };
            interface.neighbours.advance(now, &mut actions);
            let id = interface.id;
            self.act(id, actions);
            self.report_groups(id, now);
        }
        self.expire_fragments(now);
    }

    /// Forgets what waits to go out on an interface that went down.
    pub(crate) fn set_up(&mut self, id: InterfaceId, up: bool) -> Result<()> {
        let limit = self.neighbour_limit;
        let interface = self.interface_mut(id)?;
        if interface.up != up {
            interface.up = up;
            interface.neighbours = Neighbours::new(limit);
            self.out.retain(|frame| up || frame.interface != id);
        }
        Ok(())
    }

    /// The next frame that was queued.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        let frame = self.out.pop_front()?;
        self.counters.sent += 1;
        Some(frame)
    }

    /// The next packet that came back.
    pub(crate) fn pop_looped(&mut self) -> Option<Looped> {
        self.looped.pop_front()
    }

    /// Whether TCP may make more segments, or the queues are long enough.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() < self.queue_limit / 2 && self.looped.len() < self.queue_limit / 2
    }

    /// A neighbour hears us: what we sent through it was acknowledged.
    pub(crate) fn confirm(&mut self, id: InterfaceId, address: IpAddr, now: Instant) {
        if let Ok(interface) = self.interface_mut(id) {
            interface.neighbours.confirm(address, now);
        }
    }

    /// Packets whose neighbour did not answer, as they would have gone out, without the link's header.
    pub(crate) fn take_unreachable(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.unreachable)
    }

    fn act(&mut self, id: InterfaceId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Solicit { target, known } => self.solicit(id, target, known),
                Action::Send { packets, ethernet } => {
                    for (packet, offload) in packets {
                        let protocol = output::ether_type(&packet);
                        let _ = self.frame(id, packet, ethernet, protocol, offload);
                    }
                }
                Action::Unreachable { packets } => {
                    for _ in &packets {
                        self.counters.drop(crate::stack::counters::Drop::NeighbourUnreachable);
                    }
                    self.unreachable.extend(packets.into_iter().map(|(packet, _)| packet));
                }
            }
        }
    }
}
