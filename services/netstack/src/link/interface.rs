//! One interface: its addresses, what its link can do, and the groups it listens to.

use super::{EthernetAddress, neighbour::Neighbours};
use crate::ip::Prefix;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An interface's number, as in `if_nametoindex(3)`: from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u32);

/// What kind of link it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// What is sent comes back.
    Loopback,
    /// Ethernet frames, with this address of our own.
    Ethernet(EthernetAddress),
}

/// What the link does for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// It completes the checksums of TCP and UDP.
    pub checksum: bool,
    /// It cuts TCP segments of up to so many bytes of payload; 0 if it does not.
    pub segmentation: usize,
}

/// What an interface is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its link.
    pub medium: Medium,
    /// The longest IP packet, in bytes.
    pub mtu: usize,
    /// What the link does for us.
    pub capabilities: Capabilities,
}

/// An address of an interface and its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of the network's prefix in bits.
    pub prefix: u8,
}

impl InterfaceAddress {
    /// The network that it is in.
    pub fn network(&self) -> Prefix {
        Prefix::new(self.address, self.prefix)
    }

    /// The network's broadcast address, where it has one.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix < 31 => {
                let mask = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                Some(Ipv4Addr::from_bits(address.to_bits() | mask))
            }
            _ => None,
        }
    }
}

/// A group that somebody on this host listens to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Membership {
    /// How many sockets (and the host itself) have joined.
    pub joined: u32,
    /// How many unsolicited reports are still to be sent.
    pub reports: u8,
    /// When the next report is due.
    pub due: Option<crate::time::Instant>,
}

#[derive(Debug)]
pub(crate) struct Interface {
    pub id: InterfaceId,
    pub config: InterfaceConfig,
    pub up: bool,
    pub addresses: Vec<InterfaceAddress>,
    pub neighbours: Neighbours,
    pub groups: BTreeMap<IpAddr, Membership>,
}

impl Interface {
    pub(crate) fn is_loopback(&self) -> bool {
        self.config.medium == Medium::Loopback
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.address == address)
    }

    pub(crate) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        address.is_broadcast() || self.addresses.iter().any(|own| own.broadcast() == Some(address))
    }

    /// Whether packets for this group are for us.
    pub(crate) fn listens(&self, group: IpAddr) -> bool {
        match group {
            IpAddr::V4(address) if address == Ipv4Addr::new(224, 0, 0, 1) => true,
            IpAddr::V6(address) if address == smoltcp::wire::IPV6_LINK_LOCAL_ALL_NODES => true,
            IpAddr::V6(address) if self.is_solicited_node(address) => true,
            group => self.groups.contains_key(&group),
        }
    }

    fn is_solicited_node(&self, group: Ipv6Addr) -> bool {
        self.addresses.iter().any(|own| matches!(own.address, IpAddr::V6(address) if solicited_node(address) == group))
    }

    /// The IPv4 address that goes best with a neighbour.
    pub(crate) fn address_towards(&self, neighbour: Ipv4Addr) -> Option<Ipv4Addr> {
        let in_network = self.addresses.iter().find(|own| own.network().contains(IpAddr::V4(neighbour)));
        let own = in_network.or_else(|| self.addresses.iter().find(|own| own.address.is_ipv4()))?;
        match own.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    pub(crate) fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|own| match own.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
    }
}

/// The group in which an address's owner is asked for (RFC 4291, 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}
