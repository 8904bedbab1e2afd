//! A link between two hosts, with loss, reordering, duplication, corruption, delay and a rate; all from a seed.

use super::Host;
use bulkhead_netstack::{link::offload::Received, time::Instant};
use std::{collections::BTreeMap, time::Duration};

/// What the link does to frames. Chances are in thousandths.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    pub loss: u64,
    pub reorder: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    pub delay: Duration,
    /// Bytes a second; 0 for no limit.
    pub rate: u64,
    /// The longest time a frame waits for the link before it is dropped.
    pub queue: Duration,
}

impl Default for Trouble {
    fn default() -> Trouble {
        let delay = Duration::from_micros(50);
        Trouble { loss: 0, reorder: 0, duplicate: 0, corrupt: 0, delay, rate: 0, queue: Duration::from_millis(200) }
    }
}

/// Says of a frame, by its sender and its bytes, whether it gets through.
pub type Filter = Box<dyn FnMut(usize, &[u8]) -> bool>;

/// The two hosts and what is on the way between them.
pub struct Link {
    pub hosts: [Host; 2],
    pub now: Instant,
    pub trouble: Trouble,
    /// Decides about single frames, by sender and frame; false loses it.
    pub filter: Filter,
    pub carried: u64,
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    free_at: [Instant; 2],
    sequence: u64,
    seed: u64,
}

impl Link {
    pub fn new(a: Host, b: Host) -> Link {
        Link {
            hosts: [a, b],
            now: Instant::from_millis(1000),
            trouble: Trouble::default(),
            filter: Box::new(|_, _| true),
            carried: 0,
            flying: BTreeMap::new(),
            free_at: [Instant::ZERO; 2],
            sequence: 0,
            seed: 1,
        }
    }

    pub fn with(mut self, trouble: Trouble, seed: u64) -> Link {
        self.trouble = trouble;
        self.seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        self
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed >> 11
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.random() % 1000 < thousandths
    }

    /// Takes everything that the hosts have to send.
    pub fn collect(&mut self) {
        for side in 0..2 {
            for frame in self.hosts[side].drain(self.now) {
                self.carry(side, frame);
            }
        }
    }

    fn carry(&mut self, side: usize, mut frame: Vec<u8>) {
        self.carried += 1;
        if !(self.filter)(side, &frame) || self.chance(self.trouble.loss) {
            return;
        }
        if self.chance(self.trouble.corrupt) {
            let place = self.random() as usize % frame.len();
            frame[place] ^= 1 << (self.random() % 8);
        }
        let mut leaves = self.now.max(self.free_at[side]);
        if let Some(takes) = (frame.len() as u64 * 1_000_000_000).checked_div(self.trouble.rate) {
            if leaves.since(self.now) > self.trouble.queue {
                return;
            }
            leaves += Duration::from_nanos(takes);
            self.free_at[side] = leaves;
        }
        let mut arrives = leaves + self.trouble.delay;
        if self.chance(self.trouble.reorder) {
            arrives += Duration::from_micros(self.random() % 5000);
        }
        if self.chance(self.trouble.duplicate) {
            self.sequence += 1;
            self.flying.insert((arrives + Duration::from_micros(100), self.sequence), (1 - side, frame.clone()));
        }
        self.sequence += 1;
        self.flying.insert((arrives, self.sequence), (1 - side, frame));
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        let arrival = self.flying.keys().next().map(|&(at, _)| at);
        self.hosts.iter().map(|host| host.stack.next_deadline()).chain([arrival]).flatten().min()
    }

    /// Lets the next thing happen, if it does before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.collect();
        let Some(next) = self.next().filter(|&at| at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        while let Some((&(at, key), _)) = self.flying.first_key_value() {
            if at > self.now {
                break;
            }
            let Some((to, frame)) = self.flying.remove(&(at, key)) else { break };
            let eth = self.hosts[to].eth;
            self.hosts[to].stack.receive(eth, &frame, Received::default(), self.now);
        }
        for host in &mut self.hosts {
            if host.stack.next_deadline().is_some_and(|at| at <= self.now) {
                host.stack.advance(self.now);
            }
        }
        true
    }

    /// Lets everything happen for a while.
    pub fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.step(until) {}
        self.collect();
    }
}
