//! Putting fragments together again, within bounds of time and memory.
//!
//! A fragment that repeats what is there is ignored; one that overlaps otherwise ends the whole packet, in both families
//! (RFC 5722, and Linux for IPv4 too: nobody overlaps fragments by accident).

use crate::time::Instant;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

const MAX_PACKET: u32 = 65_535;
/// What one fragment costs beside its bytes.
const OVERHEAD: usize = 96;

/// Which packet a fragment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ident: u32,
}

/// One fragment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub offset: u16,
    pub more: bool,
    pub tos: u8,
    pub header: &'a [u8],
    pub payload: &'a [u8],
}

/// A whole packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub header: Vec<u8>,
    pub payload: Vec<u8>,
    pub tos: u8,
}

/// What came of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Waiting,
    Duplicate,
    /// It, or the packet, makes no sense.
    Refused,
    Whole(Whole),
}

/// A packet that never became whole; its first fragment is what an error quotes.
#[derive(Debug)]
pub(crate) struct Expired {
    pub key: Key,
    pub first: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
struct Partial {
    pieces: BTreeMap<u32, Vec<u8>>,
    header: Vec<u8>,
    /// Known once the last fragment is there.
    length: Option<u32>,
    have: u32,
    /// Which ECN values were seen, a bit each.
    ecn: u8,
    tos: u8,
    expires: Instant,
}

#[derive(Debug)]
pub(crate) struct Reassembly {
    partial: HashMap<Key, Partial>,
    bytes: usize,
    limit: usize,
}

impl Reassembly {
    pub(crate) fn new(limit: usize) -> Reassembly {
        Reassembly { partial: HashMap::new(), bytes: 0, limit }
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.partial.values().map(|partial| partial.expires).min()
    }

    pub(crate) fn add(&mut self, key: Key, piece: Piece<'_>, now: Instant) -> Outcome {
        let start = u32::from(piece.offset);
        let end = start + piece.payload.len() as u32;
        // All but the last carry a multiple of eight bytes.
        if piece.payload.is_empty() || end > MAX_PACKET || (piece.more && !piece.payload.len().is_multiple_of(8)) {
            self.remove(&key);
            return Outcome::Refused;
        }
        let cost = piece.payload.len() + OVERHEAD;
        if !self.make_room(cost, &key) {
            return Outcome::Refused;
        }
        let lifetime = Duration::from_secs(if key.source.is_ipv4() { 30 } else { 60 });
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            pieces: BTreeMap::new(),
            header: Vec::new(),
            length: None,
            have: 0,
            ecn: 0,
            tos: piece.tos,
            expires: now + lifetime,
        });
        match partial.place(start, end, piece.more) {
            Fit::Duplicate => return Outcome::Duplicate,
            Fit::Conflict => {
                self.remove(&key);
                return Outcome::Refused;
            }
            Fit::New => {}
        }
        partial.ecn |= 1 << (piece.tos & 3);
        if start == 0 {
            partial.header = piece.header.to_vec();
            partial.tos = piece.tos;
        }
        partial.have += end - start;
        partial.pieces.insert(start, piece.payload.to_vec());
        self.bytes += cost;
        if partial.length != Some(partial.have) {
            return Outcome::Waiting;
        }
        let Some(partial) = self.remove(&key) else { return Outcome::Refused };
        partial.join().map_or(Outcome::Refused, Outcome::Whole)
    }

    /// Gives up on those whose time is over.
    pub(crate) fn advance(&mut self, now: Instant) -> Vec<Expired> {
        let over: Vec<Key> = self.partial.iter().filter(|(_, partial)| partial.expires <= now).map(|(&key, _)| key).collect();
        over.into_iter()
            .filter_map(|key| {
                let mut partial = self.remove(&key)?;
                let first = partial.pieces.remove(&0).map(|payload| (partial.header, payload));
                Some(Expired { key, first })
            })
            .collect()
    }

    fn remove(&mut self, key: &Key) -> Option<Partial> {
        let partial = self.partial.remove(key)?;
        self.bytes -= partial.pieces.values().map(|piece| piece.len() + OVERHEAD).sum::<usize>();
        Some(partial)
    }

    /// The oldest go, but not the one that is being added to.
    fn make_room(&mut self, cost: usize, keep: &Key) -> bool {
        while self.bytes + cost > self.limit {
            let oldest = self
                .partial
                .iter()
                .filter(|(key, _)| *key != keep)
                .min_by_key(|(_, partial)| partial.expires)
                .map(|(&key, _)| key);
            let Some(oldest) = oldest else { return false };
            self.remove(&oldest);
        }
        true
    }
}

enum Fit {
    New,
    Duplicate,
    Conflict,
}

impl Partial {
    fn place(&mut self, start: u32, end: u32, more: bool) -> Fit {
        let before = self.pieces.range(..=start).next_back().map(|(&at, piece)| (at, at + piece.len() as u32));
        let after = self.pieces.range(start..).next().map(|(&at, _)| at);
        if let Some((from, to)) = before {
            if from <= start && end <= to {
                return Fit::Duplicate;
            }
            if to > start {
                return Fit::Conflict;
            }
        }
        if after.is_some_and(|at| at < end) {
            return Fit::Conflict;
        }
        let furthest = self.pieces.last_key_value().map_or(0, |(&at, piece)| at + piece.len() as u32);
        match (self.length, more) {
            (Some(length), false) if length != end => return Fit::Conflict,
            (Some(length), true) if end > length => return Fit::Conflict,
            (None, false) if furthest > end => return Fit::Conflict,
            (None, false) => self.length = Some(end),
            _ => {}
        }
        Fit::New
    }

    fn join(self) -> Option<Whole> {
        // RFC 3168, 5.3: a mark survives, but not beside fragments that cannot have been marked.
        let (not_ect, ce) = (self.ecn & 1 != 0, self.ecn & 8 != 0);
        if not_ect && ce {
            return None;
        }
        let tos = if ce { self.tos | 3 } else { self.tos };
        let mut payload = Vec::with_capacity(self.have as usize);
        for piece in self.pieces.into_values() {
            payload.extend_from_slice(&piece);
        }
        Some(Whole { header: self.header, payload, tos })
    }
}

#[cfg(test)]
mod tests;
