//! What the tests are made of: hosts, a link between two of them that can be as bad as one likes, and a clock.

pub mod link;
pub mod script;

use bulkhead_netstack::{
    Config, Stack,
    link::{Capabilities, EthernetAddress, InterfaceAddress, InterfaceConfig, InterfaceId, Medium},
    random::Key,
    socket::{Event, Handle},
    time::Instant,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A stack with a loopback interface and an Ethernet one.
pub struct Host {
    pub stack: Stack,
    pub eth: InterfaceId,
}

/// How a host is made.
#[derive(Clone)]
pub struct Options {
    pub mtu: usize,
    pub capabilities: Capabilities,
    pub config: Config,
}

impl Options {
    pub fn new(number: u8) -> Options {
        Options { mtu: 1500, capabilities: Capabilities::default(), config: Config::new(Key([u64::from(number), 0x5eed])) }
    }
}

/// Host `number` of the network 10.0.0.0/24 and fd00::/64.
pub fn host(number: u8) -> Host {
    host_with(number, Options::new(number))
}

pub fn host_with(number: u8, options: Options) -> Host {
    let mut stack = Stack::new(options.config);
    let lo = stack.add_interface(InterfaceConfig {
        name: "lo".into(),
        medium: Medium::Loopback,
        mtu: 65_536,
        capabilities: Capabilities::default(),
    });
    let eth = stack.add_interface(InterfaceConfig {
        name: "eth0".into(),
        medium: Medium::Ethernet(mac(number)),
        mtu: options.mtu,
        capabilities: options.capabilities,
    });
    let own = |address, prefix| InterfaceAddress { address, prefix };
    stack.add_address(lo, own(Ipv4Addr::LOCALHOST.into(), 8)).unwrap();
    stack.add_address(lo, own(Ipv6Addr::LOCALHOST.into(), 128)).unwrap();
    stack.add_address(eth, own(v4(number), 24)).unwrap();
    stack.add_address(eth, own(v6(number), 64)).unwrap();
    Host { stack, eth }
}

pub fn mac(number: u8) -> EthernetAddress {
    EthernetAddress([2, 0, 0, 0, 0, number])
}

pub fn v4(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

pub fn v6(number: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into()
}

pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

pub fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

impl Host {
    /// Everything that wants to go out now.
    pub fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.stack.transmit(now)).map(|frame| frame.packet.as_ref().to_vec()).collect()
    }

    /// Everything that happened.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.stack.next_event()).collect()
    }

    /// The event of one socket among those.
    pub fn event(&mut self, socket: Handle) -> Option<Event> {
        self.events().into_iter().rfind(|event| event.socket == socket)
    }
}
