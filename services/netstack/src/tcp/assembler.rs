//! Which bytes beyond the next one have arrived: sorted ranges, in a bounded number, and which of them came last, for SACK
//! (RFC 2018, 4).

use super::seq::Seq;

/// As many ranges as are kept; a segment that would make one more is dropped.
const MAX_RANGES: usize = 512;
/// As many as an option can name.
const RECENT: usize = 4;

/// What came of a segment's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// Some of them were new.
    New,
    /// All of them were there.
    Duplicate,
    /// There was no room to remember them.
    Full,
}

#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Sorted, disjoint, not touching.
    ranges: Vec<(Seq, Seq)>,
    /// Numbers within the ranges that changed last, the latest first.
    recent: Vec<Seq>,
}

impl Assembler {
    /// Bytes `start..end` have arrived, beyond the next one.
    pub(crate) fn insert(&mut self, start: Seq, end: Seq) -> Inserted {
        if start >= end {
            return Inserted::Duplicate;
        }
        // All ranges that overlap or touch become one.
        let from = self.ranges.partition_point(|range| range.1 < start);
        let to = self.ranges.partition_point(|range| range.0 <= end);
        let touched = &self.ranges[from..to];
        let joined = match (touched.first(), touched.last()) {
            (Some(first), Some(_)) if first.0 <= start && end <= first.1 => {
                self.touch(start);
                return Inserted::Duplicate;
            }
            (Some(first), Some(last)) => (first.0.min(start), last.1.max(end)),
            _ if self.ranges.len() >= MAX_RANGES => return Inserted::Full,
            _ => (start, end),
        };
        self.ranges.splice(from..to, [joined]);
        self.touch(start);
        Inserted::New
    }

    fn touch(&mut self, seq: Seq) {
        let same = self.range_of(seq);
        let ranges = &self.ranges;
        self.recent.retain(|&other| {
            let range = ranges.iter().find(|range| range.0 <= other && other < range.1);
            range.is_some() && range != same.as_ref()
        });
        self.recent.insert(0, seq);
        self.recent.truncate(RECENT);
    }

    /// The range that holds a number.
    pub(crate) fn range_of(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let after = self.ranges.partition_point(|range| range.0 <= seq);
        let range = *self.ranges.get(after.checked_sub(1)?)?;
        (seq < range.1).then_some(range)
    }

    /// Everything up to `next` is there: says how far it goes without a gap, and forgets that.
    pub(crate) fn advance(&mut self, next: Seq) -> Seq {
        let mut next = next;
        let covered = self.ranges.iter().take_while(|range| range.0 <= next).count();
        for range in self.ranges.drain(..covered) {
            next = next.max(range.1);
        }
        // What was swallowed may reach further ranges only if they touched, and touching ones are one already.
        let ranges = &self.ranges;
        self.recent.retain(|&seq| ranges.iter().any(|range| range.0 <= seq && seq < range.1));
        next
    }

    /// The ranges to report, the latest first.
    pub(crate) fn report(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        self.recent.iter().filter_map(|&seq| self.range_of(seq))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_latest_range_is_reported_first_and_whole() {
        let mut assembler = Assembler::default();
        for (start, end) in [(20, 30), (40, 50), (60, 70), (30, 35)] {
            assert_eq!(assembler.insert(start, end), Inserted::New);
        }
        assert_eq!(assembler.report().collect::<Vec<_>>(), [(20, 35), (60, 70), (40, 50)]);
        assert_eq!(assembler.insert(41, 49), Inserted::Duplicate);
        assert_eq!(assembler.report().next(), Some((40, 50)));
        assert_eq!(assembler.advance(25), 35);
        assert_eq!(assembler.report().collect::<Vec<_>>(), [(40, 50), (60, 70)]);
    }

    #[test]
    fn the_number_of_ranges_is_bounded() {
        let mut assembler = Assembler::default();
        for place in 0..10_000 {
            assembler.insert(place * 10, place * 10 + 1);
        }
        assert_eq!(assembler.ranges.len(), MAX_RANGES);
        assert_eq!(assembler.insert(99_999, 100_000), Inserted::Full);
        assert_eq!(assembler.insert(1, 10_000), Inserted::New, "what fills gaps needs no room");
    }

    proptest! {
        /// The ranges are what a set of bytes would hold, whatever the order.
        #[test]
        fn ranges_are_the_bytes_that_arrived(
            pieces in proptest::collection::vec((1_u64..400, 1_u64..40), 1..80),
            steps in proptest::collection::vec(0_u64..30, 0..10),
        ) {
            let mut assembler = Assembler::default();
            let mut bytes = std::collections::BTreeSet::new();
            let mut next = 0;
            for (index, &(start, length)) in pieces.iter().enumerate() {
                let start = start.max(next + 1);
                let new = (start..start + length).any(|byte| !bytes.contains(&byte));
                bytes.extend(start..start + length);
                let inserted = assembler.insert(start, start + length);
                prop_assert_eq!(inserted == Inserted::New, new);
                prop_assert_eq!(assembler.report().next().map(|range| range.0 <= start && start < range.1), Some(true));
                if let Some(step) = steps.get(index) {
                    // Bytes arrive in order up to there.
                    let to = next + step;
                    bytes.extend(next..to);
                    let mut want = to;
                    while bytes.contains(&want) {
                        want += 1;
                    }
                    next = assembler.advance(to);
                    prop_assert_eq!(next, want);
                    bytes = bytes.split_off(&next);
                }
                let mut flat = Vec::new();
                for &(from, to) in &assembler.ranges {
                    flat.extend(from..to);
                }
                prop_assert_eq!(flat, bytes.iter().copied().collect::<Vec<_>>());
                prop_assert!(assembler.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
                prop_assert!(assembler.recent.len() <= RECENT);
            }
        }
    }
}
