//! Path MTUs that routers have told of (RFC 1191, RFC 8201). They are believed downwards only, and not for ever.

use crate::time::Instant;
use std::{collections::HashMap, net::IpAddr, time::Duration};

const LIFETIME: Duration = Duration::from_secs(600);
/// Linux's `min_pmtu`: below it an attacker would be at work.
const MIN_V4: usize = 552;
const MIN_V6: usize = smoltcp::wire::IPV6_MIN_MTU;

#[derive(Debug)]
pub(crate) struct PathMtus {
    known: HashMap<IpAddr, (usize, Instant)>,
    limit: usize,
}

impl PathMtus {
    pub(crate) fn new(limit: usize) -> PathMtus {
        PathMtus { known: HashMap::new(), limit: limit.max(1) }
    }

    /// The MTU to a destination where it is below the link's.
    pub(crate) fn get(&self, destination: IpAddr, now: Instant) -> Option<usize> {
        self.known.get(&destination).filter(|(_, until)| *until > now).map(|&(mtu, _)| mtu)
    }

    /// Learns one, if it is below what was `current`. Says what is to be used now.
    pub(crate) fn learn(&mut self, destination: IpAddr, mtu: usize, current: usize, now: Instant) -> Option<usize> {
        let mtu = mtu.max(if destination.is_ipv4() { MIN_V4 } else { MIN_V6 });
        if mtu >= current {
            return None;
        }
        if self.known.len() >= self.limit && !self.known.contains_key(&destination) {
            self.known.retain(|_, (_, until)| *until > now);
            if self.known.len() >= self.limit {
                // As good as any: an honest one is told again.
                let victim = self.known.iter().min_by_key(|(_, (_, until))| *until).map(|(&address, _)| address);
                victim.and_then(|address| self.known.remove(&address));
            }
        }
        self.known.insert(destination, (mtu, now + LIFETIME));
        Some(mtu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_mtu_only_shrinks_and_is_forgotten() {
        let mut mtus = PathMtus::new(2);
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(mtus.learn(to, 1400, 1500, Instant::ZERO), Some(1400));
        assert_eq!(mtus.learn(to, 1450, 1400, Instant::ZERO), None);
        assert_eq!(mtus.learn(to, 68, 1400, Instant::ZERO), Some(MIN_V4));
        assert_eq!(mtus.get(to, Instant::from_millis(599_999)), Some(MIN_V4));
        assert_eq!(mtus.get(to, Instant::from_millis(600_000)), None);
    }

    #[test]
    fn the_memory_for_it_is_bounded() {
        let mut mtus = PathMtus::new(16);
        for host in 0..=255 {
            mtus.learn(IpAddr::V4([10, 0, 0, host].into()), 1400, 1500, Instant::ZERO);
        }
        assert!(mtus.known.len() <= 16);
    }
}
