//! How a packet finds its socket: by both ends, then among those bound to the port; and who may bind where, by Linux's
//! rules for SO_REUSEADDR, SO_REUSEPORT and sockets of both families.

use super::{Family, Handle};
use crate::{
    ip::protocol,
    link::InterfaceId,
    random::{Key, hash_of},
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    pub protocol: u8,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// A socket that is bound and not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub handle: Handle,
    /// None is the wildcard.
    pub address: Option<IpAddr>,
    pub family: Family,
    pub v6_only: bool,
    pub interface: Option<InterfaceId>,
    pub reuse_address: bool,
    pub reuse_port: bool,
    pub owner: u32,
    pub listening: bool,
}

impl Binding {
    /// Whether the two could both be meant by one packet.
    fn overlaps(&self, other: &Binding) -> bool {
        if self.interface.is_some() && other.interface.is_some() && self.interface != other.interface {
            return false;
        }
        match (self.address, other.address) {
            (Some(a), Some(b)) => a == b,
            (Some(address), None) => other.takes(address),
            (None, Some(address)) => self.takes(address),
            (None, None) => {
                let four = |one: &Binding| one.family == Family::V4 || !one.v6_only;
                let six = |one: &Binding| one.family == Family::V6;
                (four(self) && four(other)) || (six(self) && six(other))
            }
        }
    }

    /// Whether a wildcard takes packets to this address.
    fn takes(&self, address: IpAddr) -> bool {
        match (self.family, address) {
            (Family::V4, IpAddr::V4(_)) | (Family::V6, IpAddr::V6(_)) => true,
            (Family::V6, IpAddr::V4(_)) => !self.v6_only,
            (Family::V4, IpAddr::V6(_)) => false,
        }
    }

    /// How well it matches a packet; nothing if it does not.
    fn score(&self, destination: IpAddr, interface: InterfaceId) -> Option<u32> {
        let mut score = match self.address {
            Some(address) => (address == destination).then_some(4)?,
            None => self.takes(destination).then_some(0)?,
        };
        if let Some(bound) = self.interface {
            score += (bound == interface).then_some(2)?;
        }
        let own_family = (self.family == Family::V4) == destination.is_ipv4();
        Some(score * 2 + u32::from(own_family))
    }
}

/// How many connections use a port at an address, and how many of them do not want to share it.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    all: u32,
    no_address: u32,
    no_port: u32,
}

#[derive(Debug, Default)]
struct Port {
    bindings: Vec<Binding>,
    connected: HashMap<IpAddr, Use>,
}

/// All bound and connected sockets.
#[derive(Debug)]
pub(crate) struct Demux {
    connected: HashMap<Ends, (Handle, bool, bool), Key>,
    ports: HashMap<(u8, u16), Port, Key>,
    key: Key,
}

impl Demux {
    pub(crate) fn new(key: Key) -> Demux {
        Demux { connected: HashMap::with_hasher(key), ports: HashMap::with_hasher(key), key }
    }

    /// Whether a socket may bind to a port.
    pub(crate) fn may_bind(&self, number: u8, port: u16, new: &Binding) -> bool {
        let Some(port) = self.ports.get(&(number, port)) else { return true };
        let stream = number == protocol::TCP;
        let shares = |other: &Binding| {
            let by_address = new.reuse_address && other.reuse_address && !(stream && (other.listening || new.listening));
            let by_port = new.reuse_port && other.reuse_port && new.owner == other.owner;
            by_address || by_port
        };
        let others = port.bindings.iter().filter(|other| other.handle != new.handle);
        let bound = others.into_iter().all(|other| !new.overlaps(other) || shares(other));
        let concerns = |address: &IpAddr| new.address.map_or_else(|| new.takes(*address), |own| own == *address);
        let in_use =
            |used: &Use| used.all > 0 && (!new.reuse_address || used.no_address > 0) && (!new.reuse_port || used.no_port > 0);
        bound && !port.connected.iter().any(|(address, used)| concerns(address) && in_use(used))
    }

    /// Binds a socket that may.
    pub(crate) fn bind(&mut self, number: u8, port: u16, binding: Binding) {
        self.ports.entry((number, port)).or_default().bindings.push(binding);
    }

    pub(crate) fn unbind(&mut self, number: u8, port: u16, handle: Handle) {
        if let Some(entry) = self.ports.get_mut(&(number, port)) {
            entry.bindings.retain(|binding| binding.handle != handle);
            if entry.bindings.is_empty() && entry.connected.is_empty() {
                self.ports.remove(&(number, port));
            }
        }
    }

    /// Changes what is known of a bound socket.
    pub(crate) fn update(&mut self, number: u8, port: u16, handle: Handle, change: impl FnOnce(&mut Binding)) {
        let bindings = self.ports.get_mut(&(number, port)).map(|port| &mut port.bindings);
        if let Some(binding) = bindings.and_then(|all| all.iter_mut().find(|binding| binding.handle == handle)) {
            change(binding);
        }
    }

    /// Whether a connection between these ends can be made.
    pub(crate) fn is_free(&self, ends: &Ends) -> bool {
        !self.connected.contains_key(ends)
    }

    /// Whether a port can be the near end of a new connection: nobody has bound it for himself.
    pub(crate) fn is_unbound(&self, number: u8, port: u16) -> bool {
        self.ports.get(&(number, port)).is_none_or(|port| port.bindings.is_empty())
    }

    /// Connects a socket. False if the ends are taken.
    pub(crate) fn connect(&mut self, ends: Ends, handle: Handle, reuse_address: bool, reuse_port: bool) -> bool {
        if self.connected.contains_key(&ends) {
            return false;
        }
        self.connected.insert(ends, (handle, reuse_address, reuse_port));
        let port = self.ports.entry((ends.protocol, ends.local.port())).or_default();
        let used = port.connected.entry(ends.local.ip()).or_default();
        used.all += 1;
        used.no_address += u32::from(!reuse_address);
        used.no_port += u32::from(!reuse_port);
        true
    }

    pub(crate) fn disconnect(&mut self, ends: &Ends) {
        let Some((_, reuse_address, reuse_port)) = self.connected.remove(ends) else { return };
        let key = (ends.protocol, ends.local.port());
        let Some(port) = self.ports.get_mut(&key) else { return };
        if let Some(used) = port.connected.get_mut(&ends.local.ip()) {
            used.all = used.all.saturating_sub(1);
            used.no_address = used.no_address.saturating_sub(u32::from(!reuse_address));
            used.no_port = used.no_port.saturating_sub(u32::from(!reuse_port));
            if used.all == 0 {
                port.connected.remove(&ends.local.ip());
            }
        }
        if port.bindings.is_empty() && port.connected.is_empty() {
            self.ports.remove(&key);
        }
    }

    /// Puts another socket in the place of a connected one.
    pub(crate) fn replace(&mut self, ends: &Ends, handle: Handle) {
        if let Some(entry) = self.connected.get_mut(ends) {
            entry.0 = handle;
        }
    }

    pub(crate) fn connection(&self, ends: &Ends) -> Option<Handle> {
        self.connected.get(ends).map(|&(handle, ..)| handle)
    }

    /// The socket bound to where a packet goes that no connection takes.
    pub(crate) fn bound(&self, ends: &Ends, interface: InterfaceId) -> Option<Handle> {
        let stream = ends.protocol == protocol::TCP;
        let port = self.ports.get(&(ends.protocol, ends.local.port()))?;
        let mut best: Option<(u32, Handle)> = None;
        let mut group: Vec<Handle> = Vec::new();
        for binding in port.bindings.iter().filter(|binding| binding.listening || !stream) {
            let Some(score) = binding.score(ends.local.ip(), interface) else { continue };
            // Of equals the last one that was bound gets it, unless they share the load.
            if best.is_none_or(|(other, _)| score >= other) {
                if best.is_none_or(|(other, _)| score > other) {
                    group.clear();
                }
                if binding.reuse_port {
                    group.push(binding.handle);
                }
                best = Some((score, binding.handle));
            }
        }
        if group.len() > 1 {
            let choice = hash_of(self.key, &(ends.local, ends.remote)) % group.len() as u64;
            return group.get(choice as usize).copied();
        }
        best.map(|(_, handle)| handle)
    }

    /// All bound sockets that want a packet to a group or to everybody.
    pub(crate) fn all_bound(&self, ends: &Ends, interface: InterfaceId) -> Vec<Handle> {
        let Some(port) = self.ports.get(&(ends.protocol, ends.local.port())) else { return Vec::new() };
        let wanted = port.bindings.iter().filter(|binding| binding.score(ends.local.ip(), interface).is_some());
        wanted.map(|binding| binding.handle).collect()
    }
}

#[cfg(test)]
mod tests;
