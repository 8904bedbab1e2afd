//! Which parts of an address space are mapped, so that mprotect is not asked for holes (it would stop there).

use std::{collections::BTreeMap, ops::Range};

/// Disjoint ranges that do not touch: start to end.
#[derive(Default, Debug)]
pub struct Intervals(BTreeMap<u64, u64>);

impl Intervals {
    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        // Those that overlap or touch become one.
        while let Some((&other_start, &other_end)) =
            self.0.range(..=end).next_back().filter(|(_, other_end)| **other_end >= start)
        {
            if other_start <= start && other_end >= end {
                return;
            }
            self.0.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    /// Removes a range.
    pub fn remove(&mut self, range: Range<u64>) {
        while let Some((&start, &end)) = self.0.range(..range.end).next_back().filter(|(_, end)| **end > range.start) {
            self.0.remove(&start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
            if start < range.start {
                self.0.insert(start, range.start);
            }
        }
    }

    /// The parts of a range that are in it, from its end to its start.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let (from, to) = (range.start, range.end);
        self.0
            .range(..to)
            .rev()
            .take_while(move |(_, end)| **end > from)
            .map(move |(start, end)| (*start).max(from)..(*end).min(to))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_knows_what_a_bitmap_knows(steps in proptest::collection::vec((any::<bool>(), 0_u64..40, 1_u64..12), 1..40)) {
            let mut intervals = Intervals::default();
            let mut bitmap = [false; 64];
            for (insert, start, length) in steps {
                if insert { intervals.insert(start..start + length) } else { intervals.remove(start..start + length) }
                bitmap[start as usize..(start + length) as usize].fill(insert);
                let mut seen = [false; 64];
                for part in intervals.within(3..60) {
                    seen[part.start as usize..part.end as usize].fill(true);
                }
                prop_assert_eq!(&seen[3..60], &bitmap[3..60]);
                for (a, b) in intervals.0.iter().zip(intervals.0.iter().skip(1)) {
                    prop_assert!(a.1 < b.0);
                }
            }
        }
    }
}
