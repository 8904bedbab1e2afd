//! What a sandbox takes over from its network namespace.

use std::{net::IpAddr, os::fd::OwnedFd};

use bulkhead_ipc::setup::{AddressSpec, InterfaceSpec, NeighbourSpec, Network, RouteSpec};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};

use super::{Namespace, netlink::Tables};
use crate::{
    error::{Error, Result},
    host::open_packet_socket,
    log::Log,
};

/// A network that is the sandbox's.
#[derive(Debug)]
pub struct Takeover {
    /// What netstack is told.
    pub network: Network,
    /// One packet socket per interface.
    pub sockets: Vec<OwnedFd>,
    /// What the host's kernel has lost; kept when the namespace outlives the container.
    taken: Vec<RouteNetlinkMessage>,
}

/// What the kernel's tables say about a namespace.
#[derive(Default)]
struct Found {
    links: Vec<LinkMessage>,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
    neighbours: Vec<NeighbourMessage>,
}

impl Takeover {
    /// Takes what is in the namespace that this process is in; `None` when there is no interface but loopback.
    pub fn take(namespace: &Namespace, log: &Log) -> Result<Option<Takeover>> {
        if *namespace == Namespace::Host {
            return Ok(None);
        }
        let doing = "look at the network namespace";
        let mut tables = Tables::open().map_err(Error::host(doing))?;
        let mut found = Found::default();
        found.links(&mut tables).map_err(Error::host(doing))?;
        if !found.links.iter().any(usable) {
            return Ok(None);
        }
        found.others(&mut tables).map_err(Error::host(doing))?;
        let network = found.network(log);
        let doing = "open an interface of the container";
        let sockets = network.interfaces.iter().map(|interface| open_packet_socket(interface.index));
        let sockets = sockets.collect::<std::io::Result<Vec<_>>>().map_err(Error::host(doing))?;
        let taken = found.take(&network, &mut tables)?;
        let outlives = matches!(namespace, Namespace::Existing(_));
        Ok(Some(Takeover { network, sockets, taken: if outlives { taken } else { Vec::new() } }))
    }

    /// Puts back what was taken, if the namespace outlives the container.
    pub fn give_back(&self, log: &Log) {
        if self.taken.is_empty() {
            return;
        }
        // The namespace may have lost its interfaces meanwhile.
        let done = Tables::open().map(|mut tables| {
            let failed = |message: &RouteNetlinkMessage| tables.enter(message.clone()).err();
            self.taken.iter().filter_map(failed).last()
        });
        if let Ok(Some(error)) | Err(error) = done {
            log.warning(&format!("cannot give the host's kernel its addresses back: {error}"));
        }
    }
}

/// Whether the sandbox can use it: Ethernet, and not loopback.
fn usable(link: &LinkMessage) -> bool {
    link.header.link_layer_type == LinkLayerType::Ether && !link.header.flags.contains(LinkFlags::Loopback)
}

impl Found {
    fn links(&mut self, tables: &mut Tables) -> std::io::Result<()> {
        for entry in tables.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
            if let RouteNetlinkMessage::NewLink(link) = entry {
                self.links.push(link);
            }
        }
        Ok(())
    }

    fn others(&mut self, tables: &mut Tables) -> std::io::Result<()> {
        let requests = [
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            RouteNetlinkMessage::GetRoute(route_request(AddressFamily::Inet)),
            RouteNetlinkMessage::GetRoute(route_request(AddressFamily::Inet6)),
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        ];
        for request in requests {
            for entry in tables.dump(request)? {
                match entry {
                    RouteNetlinkMessage::NewAddress(address) => self.addresses.push(address),
                    RouteNetlinkMessage::NewRoute(route) => self.routes.push(route),
                    RouteNetlinkMessage::NewNeighbour(neighbour) => self.neighbours.push(neighbour),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn network(&self, log: &Log) -> Network {
        let interfaces: Vec<_> = self.links.iter().filter(|link| usable(link)).filter_map(|link| self.interface(link)).collect();
        for link in self.links.iter().filter(|link| !usable(link) && !link.header.flags.contains(LinkFlags::Loopback)) {
            log.warning(&format!("the network interface {} is no Ethernet and is left out", name(link).unwrap_or_default()));
        }
        let mine = |index| interfaces.iter().any(|interface| interface.index == index);
        let routes = self.routes.iter().filter_map(route).filter(|route| mine(route.interface)).collect();
        Network { interfaces, routes }
    }

    fn interface(&self, link: &LinkMessage) -> Option<InterfaceSpec> {
        let index = link.header.index;
        let hardware_address = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(address) => <[u8; 6]>::try_from(address.as_slice()).ok(),
            _ => None,
        })?;
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })?;
        let own = self.addresses.iter().filter(|message| message.header.index == index);
        let addresses = own.filter_map(address).collect();
        let neighbours = self.neighbours.iter().filter(|message| message.header.ifindex == index).filter_map(neighbour).collect();
        Some(InterfaceSpec { index, name: name(link)?, hardware_address, mtu: mtu.min(65535), addresses, neighbours })
    }

    /// Takes the addresses of these interfaces from the kernel, and with them the routes that depend on them.
    fn take(self, network: &Network, tables: &mut Tables) -> Result<Vec<RouteNetlinkMessage>> {
        let mine = |index: u32| network.interfaces.iter().any(|interface| interface.index == index);
        let mut taken = Vec::new();
        for address in self.addresses.into_iter().filter(|message| mine(message.header.index)) {
            tables
                .change(RouteNetlinkMessage::DelAddress(address.clone()))
                .map_err(Error::host("take an address from the host's kernel"))?;
            taken.push(RouteNetlinkMessage::NewAddress(address));
        }
        let routes = self.routes.into_iter().filter(|message| route(message).is_some_and(|route| mine(route.interface)));
        // Those by way of nobody first: the others need them.
        let (mut direct, indirect): (Vec<_>, Vec<_>) =
            routes.partition(|message| route(message).is_none_or(|r| r.gateway.is_none()));
        direct.extend(indirect);
        taken.extend(direct.into_iter().map(RouteNetlinkMessage::NewRoute));
        Ok(taken)
    }
}

fn route_request(family: AddressFamily) -> RouteMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn address(message: &AddressMessage) -> Option<AddressSpec> {
    // IFA_LOCAL is the own address where IFA_ADDRESS is the peer's.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    Some(AddressSpec { address, prefix: message.header.prefix_len })
}

fn neighbour(message: &NeighbourMessage) -> Option<NeighbourSpec> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let mut address = None;
    let mut hardware_address = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(mac) => hardware_address = <[u8; 6]>::try_from(mac.as_slice()).ok(),
            _ => {}
        }
    }
    Some(NeighbourSpec { address: address?, hardware_address: hardware_address? })
}

/// A unicast route of the main table.
fn route(message: &RouteMessage) -> Option<RouteSpec> {
    if message.header.kind != RouteType::Unicast || message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let nowhere = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let prefix = message.header.destination_prefix_length;
    let mut route = RouteSpec { destination: nowhere, prefix, gateway: None, source: None, interface: 0, metric: 0 };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.destination = ip(to)?,
            RouteAttribute::Gateway(by) => route.gateway = ip(by),
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            RouteAttribute::Oif(index) => route.interface = *index,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
