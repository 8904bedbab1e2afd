//! Which pages of the memory file are in use, and by how many: reference counts over ranges of offsets.
//!
//! Pure bookkeeping, in bytes that are multiples of a page; it touches no memory. Invariants: a byte of the span is in exactly
//! one of `used`, `free` or the caller's hands (between [`FrameTable::decrement`] and [`FrameTable::give_back`]); neighbours in
//! `used` with the same count, and all neighbours in `free`, are merged.

use std::collections::BTreeMap;

/// How many free ranges are looked at, from the lowest on, before the big one at the end is taken.
const PROBES: usize = 32;

/// The table.
pub struct FrameTable {
    /// start → (end, references).
    used: BTreeMap<u64, (u64, u32)>,
    /// start → end.
    free: BTreeMap<u64, u64>,
    span: u64,
}

impl FrameTable {
    /// All of `0..span` is free.
    pub fn new(span: u64) -> FrameTable {
        FrameTable { used: BTreeMap::new(), free: BTreeMap::from([(0, span)]), span }
    }

    /// All offsets are below this.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// Takes a free range, with one reference; at `hint` if that is free.
    pub fn allocate(&mut self, length: u64, hint: Option<u64>) -> Option<u64> {
        let start = hint
            .filter(|&hint| self.is_free(hint, length))
            .or_else(|| self.free.iter().take(PROBES).find(|&(start, end)| end - start >= length).map(|(start, _)| *start))
            .or_else(|| self.free.last_key_value().filter(|&(start, end)| end - start >= length).map(|(start, _)| *start))
            .or_else(|| self.free.iter().find(|&(start, end)| end - start >= length).map(|(start, _)| *start))?;
        let (&free_start, &free_end) = self.free.range(..=start).next_back()?;
        self.free.remove(&free_start);
        if free_start < start {
            self.free.insert(free_start, start);
        }
        if start + length < free_end {
            self.free.insert(start + length, free_end);
        }
        self.used.insert(start, (start + length, 1));
        self.merge_used(start);
        self.merge_used(start + length);
        Some(start)
    }

    fn is_free(&self, start: u64, length: u64) -> bool {
        let Some(end) = start.checked_add(length) else { return false };
        self.free.range(..=start).next_back().is_some_and(|(_, &free_end)| free_end >= end)
    }

    /// One more reference to each page of `start..end`, all of which must be in use.
    pub fn increment(&mut self, start: u64, end: u64) {
        self.split_used(start);
        self.split_used(end);
        let mut keys = Vec::new();
        for (&key, range) in self.used.range_mut(start..end) {
            range.1 += 1;
            keys.push(key);
        }
        keys.into_iter().for_each(|key| self.merge_used(key));
        self.merge_used(end);
    }

    /// One reference less to each page of `start..end`; what nobody refers to any more is returned, and stays taken until it
    /// is given back.
    #[must_use]
    pub fn decrement(&mut self, start: u64, end: u64) -> Vec<(u64, u64)> {
        self.split_used(start);
        self.split_used(end);
        let keys: Vec<u64> = self.used.range(start..end).map(|(&key, _)| key).collect();
        let mut dead: Vec<(u64, u64)> = Vec::new();
        for key in keys {
            let Some(range) = self.used.get_mut(&key) else { continue };
            range.1 -= 1;
            if range.1 == 0 {
                let range_end = range.0;
                self.used.remove(&key);
                match dead.last_mut() {
                    Some(last) if last.1 == key => last.1 = range_end,
                    _ => dead.push((key, range_end)),
                }
            } else {
                self.merge_used(key);
            }
        }
        self.merge_used(end);
        dead
    }

    /// Makes a range that [`FrameTable::decrement`] returned free again.
    pub fn give_back(&mut self, start: u64, end: u64) {
        let (mut low, mut high) = (start, end);
        if let Some((&before, &before_end)) = self.free.range(..start).next_back()
            && before_end == start
        {
            self.free.remove(&before);
            low = before;
        }
        if let Some(after_end) = self.free.remove(&end) {
            high = after_end;
        }
        self.free.insert(low, high);
    }

    /// Takes a range that [`FrameTable::decrement`] returned back into use, with one reference.
    pub fn revive(&mut self, start: u64, end: u64) {
        self.used.insert(start, (end, 1));
        self.merge_used(start);
        self.merge_used(end);
    }

    /// The range around `offset` whose pages have the same number of references, and that number.
    pub fn run(&self, offset: u64) -> Option<(u64, u64, u32)> {
        let (&start, &(end, references)) = self.used.range(..=offset).next_back()?;
        (offset < end).then_some((start, end, references))
    }

    fn split_used(&mut self, at: u64) {
        if let Some((_, range)) = self.used.range_mut(..at).next_back()
            && range.0 > at
        {
            let tail = *range;
            range.0 = at;
            self.used.insert(at, tail);
        }
    }

    /// Joins the range that starts at `at` with the one before it where they are alike.
    fn merge_used(&mut self, at: u64) {
        let Some(&(end, references)) = self.used.get(&at) else { return };
        if let Some((_, before)) = self.used.range_mut(..at).next_back()
            && before.0 == at
            && before.1 == references
        {
            before.0 = end;
            self.used.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Allocate(u64, Option<u64>),
        Increment(usize, u64, u64),
        Decrement(usize, u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1u64..9, proptest::option::of(0u64..64)).prop_map(|(n, hint)| Step::Allocate(n, hint)),
            (any::<usize>(), 0u64..8, 1u64..9).prop_map(|(i, from, n)| Step::Increment(i, from, n)),
            (any::<usize>(), 0u64..8, 1u64..9).prop_map(|(i, from, n)| Step::Decrement(i, from, n)),
        ];
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_table_counts_as_an_array_of_counters_does(steps in steps()) {
            const SPAN: u64 = 64;
            let mut table = FrameTable::new(SPAN);
            let mut model = vec![0u32; SPAN as usize];
            // Ranges that are wholly in use, for the steps to pick from.
            for step in steps {
                let in_use = |model: &[u32], i: usize, from: u64, n: u64| {
                    let start = (i as u64 + from) % SPAN;
                    let end = (start + n).min(SPAN);
                    (start..end).all(|page| model[page as usize] > 0).then_some((start, end))
                };
                match step {
                    Step::Allocate(n, hint) => match table.allocate(n, hint) {
                        Some(start) => for page in start..start + n {
                            prop_assert_eq!(model[page as usize], 0);
                            model[page as usize] = 1;
                        },
                        None => prop_assert!(!model.windows(n as usize).any(|w| w.iter().all(|c| *c == 0))),
                    },
                    Step::Increment(i, from, n) => if let Some((start, end)) = in_use(&model, i, from, n) {
                        table.increment(start, end);
                        (start..end).for_each(|page| model[page as usize] += 1);
                    },
                    Step::Decrement(i, from, n) => if let Some((start, end)) = in_use(&model, i, from, n) {
                        let dead = table.decrement(start, end);
                        (start..end).for_each(|page| model[page as usize] -= 1);
                        let dead_pages: Vec<u64> = dead.iter().flat_map(|(s, e)| *s..*e).collect();
                        let expected: Vec<u64> = (start..end).filter(|page| model[*page as usize] == 0).collect();
                        prop_assert_eq!(dead_pages, expected);
                        dead.into_iter().for_each(|(s, e)| table.give_back(s, e));
                    },
                }
                for page in 0..SPAN {
                    prop_assert_eq!(table.run(page).map_or(0, |(_, _, n)| n), model[page as usize]);
                }
                let ranges: Vec<_> = table.used.iter().collect();
                prop_assert!(ranges.windows(2).all(|w| w[0].1.0 < *w[1].0 || w[0].1.1 != w[1].1.1), "neighbours are merged");
            }
        }
    }

    #[test]
    fn a_hint_that_is_free_is_taken() {
        let mut table = FrameTable::new(100);
        assert_eq!(table.allocate(10, Some(50)), Some(50));
        assert_eq!(table.allocate(10, Some(55)), Some(0));
        assert_eq!(table.allocate(100, None), None);
    }
}
