//! Which pages of the memory file lie where in one address space.
//!
//! Pure bookkeeping. What has no piece is either not there yet (anonymous memory) or the mapped file itself (file mappings).
//! Neighbours that continue each other in the memory file and have the same state are one piece.

use std::collections::BTreeMap;

/// A run of pages of the memory file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// One past the last address.
    pub end: u64,
    /// Offset in the memory file of the first byte.
    pub offset: u64,
    /// Private and perhaps shared with another address space since a fork: mapped without write permission until it is
    /// either copied or found to be the last reference.
    pub copy_on_write: bool,
}

/// All pieces of an address space by start.
#[derive(Clone, Default, Debug)]
pub struct Pieces {
    map: BTreeMap<u64, Piece>,
}

impl Pieces {
    /// The piece that holds `address`, with its start.
    pub fn at(&self, address: u64) -> Option<(u64, Piece)> {
        let (&start, &piece) = self.map.range(..=address).next_back()?;
        (address < piece.end).then_some((start, piece))
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Adds one where there is none.
    pub fn insert(&mut self, start: u64, piece: Piece) {
        debug_assert!(start < piece.end && self.within(start, piece.end).next().is_none());
        self.map.insert(start, piece);
        self.merge(start);
        self.merge(piece.end);
    }

    /// Takes out what lies within `start..end`, cut at the borders.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<(u64, Piece)> {
        self.split(start);
        self.split(end);
        let keys: Vec<u64> = self.map.range(start..end).map(|(&key, _)| key).collect();
        keys.into_iter().filter_map(|key| self.map.remove(&key).map(|piece| (key, piece))).collect()
    }

    /// Changes the state of what lies within `start..end`.
    pub fn set_copy_on_write(&mut self, start: u64, end: u64, copy_on_write: bool) {
        for (start, mut piece) in self.remove(start, end) {
            piece.copy_on_write = copy_on_write;
            self.insert(start, piece);
        }
    }

    /// What lies within `start..end`, cut at the borders, ascending.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, Piece)> + '_ {
        let first = self.map.range(..start).next_back().filter(|(_, piece)| piece.end > start);
        let rest = self.map.range(start..end.max(start));
        first.into_iter().filter(move |_| start < end).chain(rest).map(move |(&key, &piece)| {
            let low = key.max(start);
            (low, Piece { end: piece.end.min(end), offset: piece.offset + (low - key), ..piece })
        })
    }

    /// The parts of `start..end` without a piece, ascending.
    pub fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = start;
        for (low, piece) in self.within(start, end) {
            if at < low {
                gaps.push((at, low));
            }
            at = piece.end;
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }

    /// The part of `low..high` around `address`, which has no piece, that has none either.
    pub fn gap_around(&self, address: u64, low: u64, high: u64) -> (u64, u64) {
        let start = self.map.range(..=address).next_back().map_or(low, |(_, piece)| piece.end.max(low));
        let end = self.map.range(address..).next().map_or(high, |(&key, _)| key.min(high));
        (start, end)
    }

    fn split(&mut self, at: u64) {
        if let Some((&key, piece)) = self.map.range_mut(..at).next_back()
            && piece.end > at
        {
            let tail = Piece { offset: piece.offset + (at - key), ..*piece };
            piece.end = at;
            self.map.insert(at, tail);
        }
    }

    fn merge(&mut self, at: u64) {
        let Some(&piece) = self.map.get(&at) else { return };
        if let Some((&key, before)) = self.map.range_mut(..at).next_back()
            && before.end == at
            && before.copy_on_write == piece.copy_on_write
            && before.offset + (at - key) == piece.offset
        {
            before.end = piece.end;
            self.map.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(end: u64, offset: u64) -> Piece {
        Piece { end, offset, copy_on_write: false }
    }

    #[test]
    fn pieces_that_continue_each_other_are_one() {
        let mut pieces = Pieces::default();
        pieces.insert(10, piece(20, 100));
        pieces.insert(30, piece(40, 120));
        pieces.insert(20, piece(30, 110));
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces.at(39), Some((10, piece(40, 100))));
        pieces.set_copy_on_write(15, 20, true);
        assert_eq!(pieces.len(), 3);
        pieces.set_copy_on_write(15, 20, false);
        assert_eq!(pieces.len(), 1);
    }

    #[test]
    fn what_is_cut_out_keeps_its_offsets() {
        let mut pieces = Pieces::default();
        pieces.insert(10, piece(40, 100));
        assert_eq!(pieces.remove(20, 30), vec![(20, piece(30, 110))]);
        assert_eq!(pieces.gaps(0, 50), vec![(0, 10), (20, 30), (40, 50)]);
        assert_eq!(pieces.gap_around(25, 0, 50), (20, 30));
        assert_eq!(pieces.within(15, 35).collect::<Vec<_>>(), vec![(15, piece(20, 105)), (30, piece(35, 120))]);
        assert_eq!(pieces.at(25), None);
    }
}
