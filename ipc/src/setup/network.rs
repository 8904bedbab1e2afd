//! The network of a sandbox, as the supervisor found it in the namespace that the container was given.

use std::net::IpAddr;

use capnp::struct_list;

use super::decode::{list, string};
use crate::{
    control_capnp as schema,
    wire::{DecodeError, hardware_address, ip, list_length, put_ip, required_ip},
};

/// Interfaces and routes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    /// All but loopback, which every sandbox has by itself.
    pub interfaces: Vec<InterfaceSpec>,
    /// Unicast routes of the main table.
    pub routes: Vec<RouteSpec>,
}

/// An Ethernet interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceSpec {
    /// The number that the namespace has for it, which the guest sees as well.
    pub index: u32,
    /// Such as "eth0"; shorter than IFNAMSIZ.
    pub name: String,
    /// The MAC address.
    pub hardware_address: [u8; 6],
    /// Bytes of an IP packet at most.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<AddressSpec>,
    /// Neighbours that somebody has entered for good.
    pub neighbours: Vec<NeighbourSpec>,
}

/// An address and the length of its network's prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressSpec {
    /// The address.
    pub address: IpAddr,
    /// Bits.
    pub prefix: u8,
}

/// A permanent neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourSpec {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub hardware_address: [u8; 6],
}

/// A route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteSpec {
    /// Where it leads.
    pub destination: IpAddr,
    /// Bits of that that count; 0 is a default route.
    pub prefix: u8,
    /// By way of whom; the destination is a neighbour otherwise.
    pub gateway: Option<IpAddr>,
    /// The address to speak as.
    pub source: Option<IpAddr>,
    /// Index of the interface.
    pub interface: u32,
    /// The lower, the better.
    pub metric: u32,
}

/// IFNAMSIZ without its NUL.
const NAME_LIMIT: usize = 15;
/// The least MTU of IPv4 (RFC 791), and the most that its length field can say.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

pub(super) fn encode(from: &Network, mut to: schema::network::Builder<'_>) {
    let mut interfaces = to.reborrow().init_interfaces(list_length(from.interfaces.len()));
    for (n, from) in (0..).zip(&from.interfaces) {
        let mut to = interfaces.reborrow().get(n);
        to.set_index(from.index);
        to.set_name(from.name.as_str());
        to.set_hardware_address(&from.hardware_address);
        to.set_mtu(from.mtu);
        let mut addresses = to.reborrow().init_addresses(list_length(from.addresses.len()));
        for (n, from) in (0..).zip(&from.addresses) {
            let mut to = addresses.reborrow().get(n);
            put_ip(from.address, |octets| to.set_address(octets));
            to.set_prefix(from.prefix);
        }
        let mut neighbours = to.init_neighbours(list_length(from.neighbours.len()));
        for (n, from) in (0..).zip(&from.neighbours) {
            let mut to = neighbours.reborrow().get(n);
            put_ip(from.address, |octets| to.set_address(octets));
            to.set_hardware_address(&from.hardware_address);
        }
    }
    let mut routes = to.init_routes(list_length(from.routes.len()));
    for (n, from) in (0..).zip(&from.routes) {
        let mut to = routes.reborrow().get(n);
        put_ip(from.destination, |octets| to.set_destination(octets));
        to.set_prefix(from.prefix);
        from.gateway.into_iter().for_each(|gateway| put_ip(gateway, |octets| to.set_gateway(octets)));
        from.source.into_iter().for_each(|source| put_ip(source, |octets| to.set_source(octets)));
        to.set_interface(from.interface);
        to.set_metric(from.metric);
    }
}

pub(super) fn decode(from: schema::network::Reader<'_>) -> Result<Network, DecodeError> {
    let interfaces = list(from.get_interfaces()?, "interfaces", |from| {
        let mtu = from.get_mtu();
        Ok(InterfaceSpec {
            index: from.get_index(),
            name: string(from.get_name()?, NAME_LIMIT, "name of an interface")?,
            hardware_address: hardware_address(from.get_hardware_address()?)?,
            mtu: if MTU.contains(&mtu) { mtu } else { return Err(DecodeError::Invalid("MTU")) },
            addresses: addresses(from.get_addresses()?)?,
            neighbours: list(from.get_neighbours()?, "neighbours", |from| {
                Ok(NeighbourSpec {
                    address: required_ip(from.get_address()?)?,
                    hardware_address: hardware_address(from.get_hardware_address()?)?,
                })
            })?,
        })
    })?;
    let routes = list(from.get_routes()?, "routes", |from| {
        let destination = required_ip(from.get_destination()?)?;
        Ok(RouteSpec {
            destination,
            prefix: prefix(destination, from.get_prefix())?,
            gateway: ip(from.get_gateway()?)?,
            source: ip(from.get_source()?)?,
            interface: from.get_interface(),
            metric: from.get_metric(),
        })
    })?;
    Ok(Network { interfaces, routes })
}

fn addresses(from: struct_list::Reader<'_, schema::address_spec::Owned>) -> Result<Vec<AddressSpec>, DecodeError> {
    list(from, "addresses", |from| {
        let address = required_ip(from.get_address()?)?;
        Ok(AddressSpec { address, prefix: prefix(address, from.get_prefix())? })
    })
}

fn prefix(address: IpAddr, bits: u8) -> Result<u8, DecodeError> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    if bits <= most { Ok(bits) } else { Err(DecodeError::Invalid("prefix")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Order;

    fn network() -> Network {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        Network {
            interfaces: vec![InterfaceSpec {
                index: 7,
                name: "eth0".into(),
                hardware_address: [2, 0, 0, 0, 0, 1],
                mtu: 1500,
                addresses: vec![
                    AddressSpec { address: address("10.0.0.2"), prefix: 24 },
                    AddressSpec { address: address("fd00::2"), prefix: 64 },
                ],
                neighbours: vec![NeighbourSpec { address: address("10.0.0.1"), hardware_address: [2, 0, 0, 0, 0, 9] }],
            }],
            routes: vec![RouteSpec {
                destination: address("0.0.0.0"),
                prefix: 0,
                gateway: Some(address("10.0.0.1")),
                source: None,
                interface: 7,
                metric: 3,
            }],
        }
    }

    #[test]
    fn a_network_survives_the_wire() {
        let mut message = Vec::new();
        Order::Network(network()).encode(&mut message);
        assert_eq!(Order::decode(&message), Ok(Order::Network(network())));
    }

    #[test]
    fn nonsense_is_refused() {
        let refuses = |change: &dyn Fn(&mut Network)| {
            let mut network = network();
            change(&mut network);
            let mut message = Vec::new();
            Order::Network(network).encode(&mut message);
            assert!(Order::decode(&message).is_err());
        };
        refuses(&|network| network.interfaces[0].mtu = 20);
        refuses(&|network| network.interfaces[0].name = "a name that is too long".into());
        refuses(&|network| network.interfaces[0].addresses[0].prefix = 33);
        refuses(&|network| network.routes[0].prefix = 200);
    }
}
