//! Drives the engine: frames between it and the links, timers, and what the sentry is told of sockets.
//!
//! Invariant: whoever has changed something under the lock lets out, before it gives the lock up, the frames that wait and the news of
//! sockets ([`Driver::with`] does both).

use std::{
    collections::BTreeMap,
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use bulkhead_ipc::{
    net::{
        SocketId,
        readiness::{Board, Ready},
    },
    setup::Network,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair},
        time::TimeValLike,
    },
    time::{ClockId, clock_gettime},
};
use parking_lot::Mutex;

use super::link::{Buffer, Link};
use crate::{
    Config, Stack,
    ip::{Prefix, Route},
    link::{Capabilities, EthernetAddress, InterfaceAddress, InterfaceConfig, InterfaceId, Medium},
    socket::{Handle, Readiness},
    time::Instant,
};

/// Frames of a link that are taken in before others have a turn.
const BATCH: usize = 64;
/// The MTU of Linux's loopback interface.
const LOOPBACK_MTU: usize = 65_536;
/// TCP's segments may be so long when the link cuts them.
const SEGMENTED: usize = 62 << 10;

/// See the module.
pub struct Driver {
    state: Mutex<State>,
    board: Board,
    /// The ends of the bell that calls the thread at the links.
    bell: (OwnedFd, OwnedFd),
}

struct State {
    stack: Stack,
    links: BTreeMap<InterfaceId, Arc<Link>>,
    /// Until when the thread at the links sleeps if nothing comes in; `None` for ever.
    sleeps_until: Option<Instant>,
    asleep: bool,
}

/// Who changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A request of the sentry's, which looks at the board after it.
    Request,
    /// A frame or a timer.
    Event,
}

impl Driver {
    /// A stack with a loopback interface.
    pub fn new(config: Config, board: Board) -> Result<Arc<Driver>, Box<dyn std::error::Error + Send + Sync>> {
        let mut stack = Stack::new(config);
        let loopback = stack.add_interface(InterfaceConfig {
            name: "lo".into(),
            medium: Medium::Loopback,
            mtu: LOOPBACK_MTU,
            capabilities: Capabilities { checksum: true, segmentation: SEGMENTED },
        });
        for (address, prefix) in [("127.0.0.1", 8), ("::1", 128)] {
            stack.add_address(loopback, InterfaceAddress { address: address.parse()?, prefix })?;
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let bell = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags)?;
        let state = State { stack, links: BTreeMap::new(), sleeps_until: None, asleep: false };
        Ok(Arc::new(Driver { state: Mutex::new(state), board, bell }))
    }

    /// Takes the container's network over.
    pub fn connect(&self, network: &Network, sockets: Vec<OwnedFd>) -> crate::error::Result<()> {
        self.with(Cause::Event, |stack, links, now| {
            let mut ids = BTreeMap::new();
            for (spec, socket) in network.interfaces.iter().zip(sockets) {
                let id = stack.add_interface(InterfaceConfig {
                    name: spec.name.clone(),
                    medium: Medium::Ethernet(EthernetAddress(spec.hardware_address)),
                    mtu: spec.mtu as usize,
                    capabilities: Capabilities { checksum: true, segmentation: SEGMENTED },
                });
                ids.insert(spec.index, id);
                links.insert(id, Arc::new(Link::new(socket)));
                for address in &spec.addresses {
                    stack.add_address(id, InterfaceAddress { address: address.address, prefix: address.prefix })?;
                }
                for neighbour in &spec.neighbours {
                    stack.set_neighbour(id, neighbour.address, EthernetAddress(neighbour.hardware_address), now)?;
                }
            }
            for route in &network.routes {
                let Some(&interface) = ids.get(&route.interface) else { continue };
                let destination = Prefix::new(route.destination, route.prefix);
                // An address brought the route to its own network.
                if route.gateway.is_none()
                    && stack.routes().iter().any(|r| r.destination == destination && r.interface == interface)
                {
                    continue;
                }
                let (gateway, metric, source) = (route.gateway, route.metric, route.source);
                stack.add_route(Route { destination, gateway, interface, metric, source, mtu: None })?;
            }
            Ok(())
        })?;
        self.call();
        Ok(())
    }

    /// Does something to the stack, and then everything that follows from it at once.
    pub fn with<T>(&self, cause: Cause, act: impl FnOnce(&mut Stack, &mut BTreeMap<InterfaceId, Arc<Link>>, Instant) -> T) -> T {
        let mut state = self.state.lock();
        let State { stack, links, .. } = &mut *state;
        let now = now();
        let result = act(stack, links, now);
        let news = self.let_out(&mut state, now);
        let deadline = state.stack.next_deadline();
        let late = state.asleep && deadline.is_some_and(|due| state.sleeps_until.is_none_or(|until| due < until));
        if late {
            state.sleeps_until = deadline;
        }
        drop(state);
        if news && cause == Cause::Event {
            self.board.ring();
        }
        if late {
            self.call();
        }
        result
    }

    /// The frames and the news that wait; whether there was news.
    fn let_out(&self, state: &mut State, now: Instant) -> bool {
        while let Some(frame) = state.stack.transmit(now) {
            if let Some(link) = state.links.get(&frame.interface) {
                link.send(&frame);
            }
        }
        let mut news = false;
        while let Some(event) = state.stack.next_event() {
            self.board.set_room(id(event.socket).slot(), state.stack.send_room(event.socket));
            self.board.publish(id(event.socket).slot(), ready(event.readiness), ready(event.edges));
            news = true;
        }
        news
    }

    /// What a request that was about this socket has made of it; `fresh` when it is new.
    pub fn show(&self, stack: &Stack, socket: Handle, fresh: bool) {
        let Ok(readiness) = stack.readiness(socket) else { return };
        let slot = id(socket).slot();
        self.board.set_room(slot, stack.send_room(socket));
        match fresh {
            true => self.board.reset(slot, ready(readiness)),
            false => self.board.update(slot, ready(readiness)),
        }
    }

    /// Calls the thread at the links away from its sleep.
    fn call(&self) {
        // When it does not take more, it is called already.
        let _ = sendmsg::<()>(self.bell.0.as_raw_fd(), &[IoSlice::new(&[0])], &[], MsgFlags::MSG_DONTWAIT, None);
    }

    /// The life of the thread at the links.
    pub(super) fn watch(&self) {
        let mut buffer = Buffer::default();
        loop {
            let (links, timeout) = self.fall_asleep();
            let mut entries = vec![PollFd::new(self.bell.1.as_fd(), PollFlags::POLLIN)];
            entries.extend(links.iter().map(|(_, link)| PollFd::new(link.as_fd(), PollFlags::POLLIN)));
            let woken = poll(&mut entries, timeout).unwrap_or(0);
            let happened: Vec<bool> = entries.iter().map(|entry| woken > 0 && entry.any().unwrap_or(true)).collect();
            self.state.lock().asleep = false;
            if happened[0] {
                let mut note = [0; 1];
                let call = |note: &mut [u8]| {
                    recvmsg::<()>(self.bell.1.as_raw_fd(), &mut [IoSliceMut::new(note)], None, MsgFlags::MSG_DONTWAIT).is_ok()
                };
                while call(note.as_mut_slice()) {}
            }
            for ((id, link), _) in links.iter().zip(&happened[1..]).filter(|(_, happened)| **happened) {
                self.with(Cause::Event, |stack, _, now| {
                    for _ in 0..BATCH {
                        let Some((frame, told)) = link.receive(&mut buffer) else { break };
                        stack.receive(*id, frame, told, now);
                    }
                });
            }
            self.with(Cause::Event, |stack, _, now| stack.advance(now));
        }
    }

    fn fall_asleep(&self) -> (Vec<(InterfaceId, Arc<Link>)>, PollTimeout) {
        let mut state = self.state.lock();
        state.sleeps_until = state.stack.next_deadline();
        state.asleep = true;
        let links = state.links.iter().map(|(id, link)| (*id, link.clone())).collect();
        let timeout = match state.sleeps_until {
            None => PollTimeout::NONE,
            // Rounded up: to wake too early would be to wake twice.
            Some(until) => {
                let left = until.since(now()) + Duration::from_micros(999);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        (links, timeout)
    }
}

/// A socket's name outside.
pub(super) fn id(socket: Handle) -> SocketId {
    SocketId::new(socket.index, socket.generation)
}

/// A socket by its name outside.
pub(super) fn handle(id: SocketId) -> Handle {
    Handle { index: id.slot(), generation: id.serial() }
}

fn ready(readiness: Readiness) -> Ready {
    [
        (Readiness::READABLE, Ready::IN),
        (Readiness::WRITABLE, Ready::OUT),
        (Readiness::PRIORITY, Ready::PRI),
        (Readiness::ERROR, Ready::ERR),
        (Readiness::HANG_UP, Ready::HUP),
        (Readiness::READ_HANG_UP, Ready::RDHUP),
    ]
    .into_iter()
    .filter(|(from, _)| readiness.contains(*from))
    .fold(Ready::empty(), |sum, (_, to)| sum | to)
}

/// CLOCK_MONOTONIC.
fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.num_nanoseconds());
    Instant::from_nanos(time.unsigned_abs())
}
