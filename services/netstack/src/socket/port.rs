//! Ephemeral ports as Linux chooses them: by a keyed hash of the ends with a perturbation for each bucket (RFC 6056,
//! algorithm 4), connections taking the even offsets of the range first and binds the odd ones.

use crate::random::{Key, Random, hash_of};
use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

const PERTURBATIONS: usize = 1 << 12;

#[derive(Debug)]
pub(crate) struct Ports {
    low: u32,
    count: u32,
    key: Key,
    perturbation: Vec<u32>,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>, key: Key, random: &mut Random) -> Ports {
        let (low, high) = (u32::from(*range.start()), u32::from(*range.end()));
        let perturbation = (0..PERTURBATIONS).map(|_| random.next() as u32).collect();
        Ports { low, count: (high + 1).saturating_sub(low), key, perturbation }
    }

    /// A port from which a connection to `remote` can be made.
    pub(crate) fn for_connection(&mut self, local: IpAddr, remote: SocketAddr, free: impl Fn(u16) -> bool) -> Option<u16> {
        let bucket = hash_of(self.key, &(local, remote)) as usize;
        let index = bucket % PERTURBATIONS;
        let hash = (bucket >> 32) as u32;
        let shift = self.perturbation.get(index).copied().unwrap_or(0);
        let start = hash.wrapping_add(shift) & !1;
        let (port, step) = self.search(start, free)?;
        if let Some(shift) = self.perturbation.get_mut(index) {
            *shift = shift.wrapping_add(step + 2);
        }
        Some(port)
    }

    /// A port to bind to.
    pub(crate) fn for_bind(&self, random: &mut Random, free: impl Fn(u16) -> bool) -> Option<u16> {
        self.search(random.next() as u32 | 1, free).map(|(port, _)| port)
    }

    /// Every second port from `start` on, then the others.
    fn search(&self, start: u32, free: impl Fn(u16) -> bool) -> Option<(u16, u32)> {
        if self.count == 0 {
            return None;
        }
        let even = (self.count & !1).max(1);
        for parity in 0..2 {
            for step in (0..self.count).step_by(2) {
                let offset = (start.wrapping_add(parity) % even + step) % self.count.max(1);
                let port = (self.low + offset) as u16;
                if free(port) {
                    return Some((port, step));
                }
            }
        }
        (0..self.count).map(|offset| (self.low + offset) as u16).find(|&port| free(port)).map(|port| (port, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn ports() -> (Ports, Random) {
        let mut random = Random::new(Key([3, 4]));
        (Ports::new(32_768..=60_999, Key([5, 6]), &mut random), random)
    }

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn connections_take_even_ports_and_binds_odd_ones() {
        let (mut ports, mut random) = ports();
        let remote = SocketAddr::new(HOST, 80);
        for _ in 0..100 {
            assert_eq!(ports.for_connection(HOST, remote, |_| true).unwrap() % 2, 0);
            assert_eq!(ports.for_bind(&mut random, |_| true).unwrap() % 2, 1);
        }
    }

    #[test]
    fn one_destination_gets_ports_in_turn_and_others_tell_nothing_about_them() {
        let (mut ports, _) = ports();
        let first = |ports: &mut Ports, port| ports.for_connection(HOST, SocketAddr::new(HOST, port), |_| true).unwrap();
        let (a, b) = (first(&mut ports, 80), first(&mut ports, 80));
        assert_eq!((u32::from(b) + 28_232 - u32::from(a)) % 28_232, 2);
        let spread: HashSet<u16> = (1..100).map(|port| first(&mut ports, port)).collect();
        assert!(spread.len() > 90);
    }

    #[test]
    fn every_port_of_the_range_is_found_if_it_is_the_only_free_one() {
        let (mut ports, mut random) = ports();
        for only in [32_768, 32_769, 50_000, 60_998, 60_999] {
            let remote = SocketAddr::new(HOST, 80);
            assert_eq!(ports.for_connection(HOST, remote, |port| port == only), Some(only));
            assert_eq!(ports.for_bind(&mut random, |port| port == only), Some(only));
        }
        assert_eq!(ports.for_bind(&mut random, |_| false), None);
    }
}
