//! The neighbour cache: which Ethernet address a neighbour has, by the states of RFC 4861, 7.3, for ARP as well.
//!
//! Pure: it is told what was sent and heard, and says what to ask. Packets for a neighbour that is being asked for wait
//! here, within a bound.

use super::offload::Offload;
use crate::{
    packet::Packet,
    random::Random,
    time::{Instant, earlier},
};
use smoltcp::wire::EthernetAddress;
use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

const RETRANSMIT: Duration = Duration::from_secs(1);
const PROBES: u8 = 3;
const BASE_REACHABLE_MS: u64 = 30_000;
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
const FAILED_FOR: Duration = Duration::from_secs(3);
const WAITING_PACKETS: usize = 101;
const WAITING_BYTES: usize = 212_992;

/// Where a neighbour stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// It is being asked for.
    Incomplete,
    /// It was heard to receive lately.
    Reachable,
    /// Its address may be old; used, and checked when used.
    Stale,
    /// It was used while stale; a hint from above may yet spare the question.
    Delay,
    /// It is being asked whether it is still there.
    Probe,
    /// It did not answer.
    Failed,
    /// It was configured.
    Permanent,
}

/// What the debug plane and `ip neighbour` show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourInfo {
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address, where known.
    pub ethernet: Option<EthernetAddress>,
    /// Where it stands.
    pub state: NeighbourState,
}

#[derive(Debug)]
struct Entry {
    state: NeighbourState,
    ethernet: Option<EthernetAddress>,
    /// When the state ends by itself.
    until: Option<Instant>,
    probes: u8,
    used: Instant,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

/// An IP packet and what the link is to do with it.
pub(crate) type Waiting = (Packet, Offload);

/// What is to be done for a neighbour.
#[derive(Debug)]
pub(crate) enum Action {
    /// Ask for it: everybody, or it alone.
    Solicit { target: IpAddr, known: Option<EthernetAddress> },
    /// These waited for it and can go now.
    Send { packets: VecDeque<Waiting>, ethernet: EthernetAddress },
    /// These waited in vain.
    Unreachable { packets: VecDeque<Waiting> },
}

#[derive(Debug)]
pub(crate) struct Neighbours {
    entries: HashMap<IpAddr, Entry>,
    limit: usize,
    deadline: Option<Instant>,
}

impl Neighbours {
    pub(crate) fn new(limit: usize) -> Neighbours {
        Neighbours { entries: HashMap::new(), limit: limit.max(1), deadline: None }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn list(&self) -> impl Iterator<Item = NeighbourInfo> + '_ {
        self.entries.iter().map(|(&address, e)| NeighbourInfo { address, ethernet: e.ethernet, state: e.state })
    }

    fn arm(&mut self, at: Instant) {
        self.deadline = earlier(self.deadline, Some(at));
    }

    /// The address to send a packet to; or the packet is kept (or dropped) and the actions say what to ask.
    pub(crate) fn resolve(
        &mut self,
        target: IpAddr,
        packet: Packet,
        offload: Offload,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(EthernetAddress, Packet), ()> {
        self.make_room(now);
        let entry = self.entries.entry(target).or_insert_with(|| Entry {
            state: NeighbourState::Failed,
            ethernet: None,
            until: None,
            probes: 0,
            used: now,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        });
        entry.used = now;
        match (entry.state, entry.ethernet) {
            (
                NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe | NeighbourState::Permanent,
                Some(known),
            ) => Ok((known, packet)),
            (NeighbourState::Stale, Some(known)) => {
                entry.state = NeighbourState::Delay;
                entry.until = Some(now + DELAY_FIRST_PROBE);
                self.arm(now + DELAY_FIRST_PROBE);
                Ok((known, packet))
            }
            _ => {
                // The newest packets are the ones that somebody still waits for.
                entry.waiting_bytes += packet.len();
                entry.waiting.push_back((packet, offload));
                while entry.waiting.len() > WAITING_PACKETS || entry.waiting_bytes > WAITING_BYTES {
                    let Some((oldest, _)) = entry.waiting.pop_front() else { break };
                    entry.waiting_bytes -= oldest.len();
                }
                if entry.state != NeighbourState::Incomplete {
                    entry.state = NeighbourState::Incomplete;
                    entry.ethernet = None;
                    entry.probes = 1;
                    entry.until = Some(now + RETRANSMIT);
                    actions.push(Action::Solicit { target, known: None });
                    self.arm(now + RETRANSMIT);
                }
                Err(())
            }
        }
    }

    /// Sets a neighbour for good.
    pub(crate) fn set_permanent(&mut self, address: IpAddr, ethernet: EthernetAddress, now: Instant) {
        let waiting = VecDeque::new();
        let state = NeighbourState::Permanent;
        let entry = Entry { state, ethernet: Some(ethernet), until: None, probes: 0, used: now, waiting, waiting_bytes: 0 };
        self.entries.insert(address, entry);
    }

    /// A neighbour spoke first, or asked for us: its address is known, not that it hears us. It is remembered only if
    /// `create` says so, as Linux does for those that want something of us.
    pub(crate) fn heard(
        &mut self,
        address: IpAddr,
        ethernet: EthernetAddress,
        create: bool,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if create && !self.entries.contains_key(&address) {
            self.make_room(now);
            let waiting = VecDeque::new();
            let state = NeighbourState::Stale;
            let entry = Entry { state, ethernet: Some(ethernet), until: None, probes: 0, used: now, waiting, waiting_bytes: 0 };
            self.entries.insert(address, entry);
            return;
        }
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if entry.state == NeighbourState::Permanent {
            return;
        }
        if entry.ethernet != Some(ethernet) {
            entry.ethernet = Some(ethernet);
            entry.state = NeighbourState::Stale;
            entry.until = None;
        }
        entry.release(actions);
    }

    /// A neighbour answered us.
    pub(crate) fn answered(
        &mut self,
        address: IpAddr,
        ethernet: EthernetAddress,
        overrides: bool,
        now: Instant,
        random: &mut Random,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if entry.state == NeighbourState::Permanent {
            return;
        }
        let changed = entry.ethernet.is_some_and(|known| known != ethernet);
        if changed && !overrides && entry.state != NeighbourState::Incomplete {
            // Somebody else claims it and does not insist (RFC 4861, 7.2.5): trust the old one less, no more.
            if entry.state == NeighbourState::Reachable {
                entry.state = NeighbourState::Stale;
                entry.until = None;
            }
            return;
        }
        entry.ethernet = Some(ethernet);
        entry.state = NeighbourState::Reachable;
        let until = now + Duration::from_millis(BASE_REACHABLE_MS / 2 + random.below(BASE_REACHABLE_MS));
        entry.until = Some(until);
        entry.release(actions);
        self.arm(until);
    }

    /// A layer above knows that the neighbour hears us.
    pub(crate) fn confirm(&mut self, address: IpAddr, now: Instant) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if matches!(
            entry.state,
            NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe | NeighbourState::Reachable
        ) {
            entry.state = NeighbourState::Reachable;
            let until = now + Duration::from_millis(BASE_REACHABLE_MS);
            entry.until = Some(until);
            self.arm(until);
        }
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        for (&target, entry) in &mut self.entries {
            if entry.until.is_none_or(|at| at > now) {
                continue;
            }
            entry.expire(target, now, actions);
        }
        self.entries.retain(|_, entry| entry.state != NeighbourState::Failed || entry.until.is_some());
        self.deadline = self.entries.values().filter_map(|entry| entry.until).min();
    }

    /// Forgets the one that was not used for longest, where there are too many.
    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < self.limit {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state != NeighbourState::Permanent)
            .max_by_key(|(_, entry)| now.since(entry.used))
            .map(|(&address, _)| address);
        if let Some(address) = oldest {
            self.entries.remove(&address);
        }
    }
}

impl Entry {
    fn release(&mut self, actions: &mut Vec<Action>) {
        let Some(ethernet) = self.ethernet else { return };
        if !self.waiting.is_empty() {
            self.waiting_bytes = 0;
            actions.push(Action::Send { packets: std::mem::take(&mut self.waiting), ethernet });
        }
    }

    fn expire(&mut self, target: IpAddr, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            NeighbourState::Reachable => {
                self.state = NeighbourState::Stale;
                self.until = None;
            }
            NeighbourState::Delay => {
                self.state = NeighbourState::Probe;
                self.probes = 1;
                self.until = Some(now + RETRANSMIT);
                actions.push(Action::Solicit { target, known: self.ethernet });
            }
            NeighbourState::Incomplete | NeighbourState::Probe if self.probes < PROBES => {
                self.probes += 1;
                self.until = Some(now + RETRANSMIT);
                let known = self.ethernet.filter(|_| self.state == NeighbourState::Probe);
                actions.push(Action::Solicit { target, known });
            }
            NeighbourState::Incomplete | NeighbourState::Probe => {
                self.state = NeighbourState::Failed;
                self.ethernet = None;
                self.until = Some(now + FAILED_FOR);
                self.waiting_bytes = 0;
                if !self.waiting.is_empty() {
                    actions.push(Action::Unreachable { packets: std::mem::take(&mut self.waiting) });
                }
            }
            NeighbourState::Failed | NeighbourState::Stale | NeighbourState::Permanent => self.until = None,
        }
    }
}

#[cfg(test)]
mod tests;
