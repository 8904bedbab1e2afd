//! IPv4 and IPv6: headers, routes, fragments and their reassembly, path MTU.

pub(crate) mod fragment;
pub(crate) mod path_mtu;
pub(crate) mod reassembly;
pub mod route;
pub(crate) mod v4;
pub(crate) mod v6;

pub use route::Route;

use crate::link::InterfaceId;
use std::{borrow::Cow, net::IpAddr};

/// Protocol numbers (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6's fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    network: IpAddr,
    length: u8,
}

impl Prefix {
    /// The network of `length` bits that `address` is in.
    pub fn new(address: IpAddr, length: u8) -> Prefix {
        match address {
            IpAddr::V4(v4) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Prefix { network: IpAddr::V4((v4.to_bits() & mask).into()), length }
            }
            IpAddr::V6(v6) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Prefix { network: IpAddr::V6((v6.to_bits() & mask).into()), length }
            }
        }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && Prefix::new(address, self.length).network == self.network
    }

    /// Its first address.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Its length in bits.
    pub fn length(&self) -> u8 {
        self.length
    }
}

/// How many leading bits two addresses of one family share.
pub(crate) fn common_bits(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// The IPv4 address in an IPv4-mapped IPv6 one, or the address itself: inside the engine there are no mapped ones.
pub(crate) fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What goes into an IP header that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class, the ECN bits included.
    pub tos: u8,
    pub fragmentation: Fragmentation,
}

/// Who may cut a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fragmentation {
    /// We, and routers (IPv4).
    Allowed,
    /// We, but no router: what IPv6 always does.
    #[default]
    Source,
    /// Nobody: what is longer than the path's MTU is refused.
    Forbidden,
    /// Nobody, and only the link's MTU counts: probing.
    Probe,
}

/// A packet for this host, put together from its fragments.
#[derive(Debug, Clone)]
pub(crate) struct Datagram<'a> {
    pub interface: InterfaceId,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    /// The IP header as it came (of the first fragment), extension headers included: errors quote it, raw sockets see it.
    pub header: Cow<'a, [u8]>,
    pub payload: Cow<'a, [u8]>,
    /// The link vouches for the checksum of TCP or UDP.
    pub checksum_known: bool,
    /// It was not sent to us alone: to a group or to everybody, on the link or by its address.
    pub shared: bool,
}

impl Datagram<'_> {
    /// The smoltcp forms of the addresses, which its checksums want.
    pub(crate) fn ends(&self) -> (smoltcp::wire::IpAddress, smoltcp::wire::IpAddress) {
        (self.source.into(), self.destination.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_its_own_family_only() {
        let all = Prefix::new("0.0.0.0".parse().unwrap(), 0);
        assert!(all.contains("8.8.8.8".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        let net = Prefix::new("10.1.2.3".parse().unwrap(), 16);
        assert!(net.contains("10.1.255.255".parse().unwrap()));
        assert!(!net.contains("10.2.0.0".parse().unwrap()));
        assert_eq!(net.network(), "10.1.0.0".parse::<IpAddr>().unwrap());
        let six = Prefix::new("fd00::1".parse().unwrap(), 64);
        assert!(six.contains("fd00::ffff:0:0:1".parse().unwrap()));
        assert!(!six.contains("fd00:0:0:1::".parse().unwrap()));
    }
}
