//! The stack: the engine's public face.
//!
//! It does no I/O, has no threads and looks at no clock. Whoever drives it calls
//! - [`Stack::receive`] for a frame that came in,
//! - the socket calls for what a guest asks; none of them waits,
//! - [`Stack::advance`] when [`Stack::next_deadline`] has come,
//!
//! and after any of these [`Stack::transmit`] until it gives no more frames, and [`Stack::next_event`] until it gives no
//! more events. `transmit` is where work is done that has no frame of its own: packets to ourselves, and segments of
//! connections, which are made only when there is room for them.

mod calls;
pub mod config;
pub mod counters;
pub(crate) mod datagram;
mod input;
mod listen;
mod queries;
pub(crate) mod stream;
mod tcp;

pub use config::{Config, Limits};
pub use counters::{Counters, Drop};

use crate::{
    error::{Error, Result},
    ip::{Prefix, Route},
    link::{EthernetAddress, InterfaceAddress, InterfaceConfig, InterfaceId, NeighbourInfo, gro::merge, offload::Received},
    network::{Frame, Network},
    socket::{
        Event, Handle, Readiness,
        demux::Demux,
        port::Ports,
        table::{Body, Entry, Table},
    },
    tcp::Settings,
    time::{Instant, earlier},
};
use std::{collections::VecDeque, net::IpAddr, sync::Arc};

/// A host's TCP/IP.
#[derive(Debug)]
pub struct Stack {
    config: Config,
    network: Network,
    sockets: Table,
    demux: Demux,
    ports: Ports,
    /// Raw sockets by protocol.
    raw: Vec<(u8, Handle)>,
    /// TCP's settings, shared with the connections that began with them.
    tcp: Arc<Settings>,
    /// The oldest first.
    time_waits: VecDeque<Handle>,
}

impl Stack {
    /// A stack without interfaces.
    pub fn new(config: Config) -> Stack {
        let mut network = Network::new(&config);
        Stack {
            sockets: Table::new(config.limits.sockets),
            demux: Demux::new(config.key.derive(10)),
            ports: Ports::new(config.local_ports.clone(), config.key.derive(11), &mut network.random),
            raw: Vec::new(),
            tcp: Arc::new(config.tcp.clone()),
            time_waits: VecDeque::new(),
            network,
            config,
        }
    }

    /// Adds an interface, which is up.
    pub fn add_interface(&mut self, config: InterfaceConfig) -> InterfaceId {
        self.network.add_interface(config)
    }

    /// Takes an interface up or down.
    pub fn set_interface_up(&mut self, interface: InterfaceId, up: bool) -> Result<()> {
        self.network.set_up(interface, up)
    }

    /// Changes an interface's MTU.
    pub fn set_mtu(&mut self, interface: InterfaceId, mtu: usize) -> Result<()> {
        self.network.interface_mut(interface)?.config.mtu = mtu;
        Ok(())
    }

    /// Gives an interface an address and a route to its network.
    pub fn add_address(&mut self, interface: InterfaceId, address: InterfaceAddress) -> Result<()> {
        self.network.add_address(interface, address)
    }

    /// Takes an address away.
    pub fn remove_address(&mut self, interface: InterfaceId, address: IpAddr) -> Result<()> {
        self.network.remove_address(interface, address)
    }

    /// An interface's addresses.
    pub fn addresses(&self, interface: InterfaceId) -> Result<&[InterfaceAddress]> {
        Ok(&self.network.interface(interface)?.addresses)
    }

    /// Adds a route.
    pub fn add_route(&mut self, route: Route) -> Result<()> {
        self.network.interface(route.interface)?;
        self.network.routes.add(route);
        Ok(())
    }

    /// Removes the routes to a destination through an interface; says how many there were.
    pub fn remove_routes(&mut self, destination: Prefix, interface: InterfaceId) -> usize {
        self.network.routes.remove(|route| route.destination == destination && route.interface == interface)
    }

    /// All routes, in the order in which they are tried.
    pub fn routes(&self) -> &[Route] {
        self.network.routes.list()
    }

    /// Sets a neighbour's address for good.
    pub fn set_neighbour(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        ethernet: EthernetAddress,
        now: Instant,
    ) -> Result<()> {
        self.network.interface_mut(interface)?.neighbours.set_permanent(address, ethernet, now);
        Ok(())
    }

    /// An interface's neighbours.
    pub fn neighbours(&self, interface: InterfaceId) -> Result<Vec<NeighbourInfo>> {
        Ok(self.network.interface(interface)?.neighbours.list().collect())
    }

    /// What was dropped, and why.
    pub fn counters(&self) -> &Counters {
        &self.network.counters
    }

    /// Bytes of fragments that wait for others.
    pub fn reassembly_bytes(&self) -> usize {
        self.network.reassembly_bytes()
    }

    /// How many sockets there are, the stack's own included.
    pub fn socket_count(&self) -> usize {
        self.sockets.len()
    }

    /// Takes a frame that came in on an interface.
    pub fn receive(&mut self, interface: InterfaceId, frame: &[u8], told: Received, now: Instant) {
        if let Some(datagram) = self.network.receive(interface, frame, told, now) {
            self.deliver(&datagram, usize::from(told.segment_size), now);
        }
    }

    /// Takes frames that came in together: successive segments of one connection are put together first.
    pub fn receive_batch<'a>(
        &mut self,
        interface: InterfaceId,
        frames: impl IntoIterator<Item = (&'a [u8], Received)>,
        now: Instant,
    ) {
        for frame in merge(frames) {
            self.receive(interface, &frame.bytes, frame.told, now);
        }
    }

    /// The next frame to send, or none for now. Does the work on the way that waits for room in the queues.
    pub fn transmit(&mut self, now: Instant) -> Option<Frame> {
        loop {
            if let Some(frame) = self.network.pop() {
                return Some(frame);
            }
            if let Some(looped) = self.network.pop_looped() {
                let told = Received { checksum_known: true, segment_size: looped.segment_size };
                if let Some(datagram) = self.network.receive_ip(looped.interface, looped.packet.as_ref(), false, told, now) {
                    self.deliver(&datagram, usize::from(looped.segment_size), now);
                }
                continue;
            }
            if !self.work(now) {
                return None;
            }
        }
    }

    /// When [`advance`](Stack::advance) is to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        earlier(self.network.deadline(), self.sockets.next_deadline())
    }

    /// Does what is due.
    pub fn advance(&mut self, now: Instant) {
        self.network.advance(now);
        for packet in self.network.take_unreachable() {
            self.unreachable(packet.as_ref(), now);
        }
        while let Some(handle) = self.sockets.due(now) {
            self.timer(handle, now);
        }
    }

    /// The next socket that something happened to.
    pub fn next_event(&mut self) -> Option<Event> {
        self.sockets.next_event(readiness)
    }

    /// What a socket is ready for.
    pub fn readiness(&self, socket: Handle) -> Result<Readiness> {
        self.sockets.user(socket).map(readiness)
    }

    fn interface_for_group(&self, interface: Option<InterfaceId>, group: IpAddr, now: Instant) -> Result<InterfaceId> {
        match interface {
            Some(interface) => Ok(interface),
            None => self.network.route(group, None, None, now).map(|path| path.interface).map_err(|_| Error::NoDevice),
        }
    }
}

fn readiness(entry: &Entry) -> Readiness {
    let error = entry.common.error.is_some();
    match &entry.body {
        Body::Datagram(socket) => socket.readiness(error),
        Body::Raw(socket) => socket.readiness(error),
        Body::Stream(socket) => socket.readiness(),
        Body::Request(_) | Body::TimeWait(_) => Readiness::empty(),
    }
}
