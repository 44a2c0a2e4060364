//! Free ranges of addresses: best fit, what is left of a range stays, neighbours become one.

use std::collections::{BTreeMap, BTreeSet};

/// Ranges that do not touch.
#[derive(Debug, Default)]
pub struct Ranges {
    /// Size by start.
    by_start: BTreeMap<usize, usize>,
    /// (size, start).
    by_size: BTreeSet<(usize, usize)>,
}

impl Ranges {
    pub const fn new() -> Self {
        Self { by_start: BTreeMap::new(), by_size: BTreeSet::new() }
    }
    /// The start of `size` bytes from the smallest range that has them.
    pub fn take(&mut self, size: usize) -> Option<usize> {
        let &(found, start) = self.by_size.range((size, 0)..).next()?;
        self.remove(start, found);
        if found > size {
            self.insert(start + size, found - size);
        }
        Some(start)
    }
    /// Adds a range, which touches no other or becomes one with those that it touches.
    pub fn give(&mut self, mut start: usize, mut size: usize) {
        if let Some((&before, &its)) = self.by_start.range(..start).next_back()
            && before + its == start
        {
            self.remove(before, its);
            (start, size) = (before, its + size);
        }
        if let Some(&its) = self.by_start.get(&(start + size)) {
            self.remove(start + size, its);
            size += its;
        }
        self.insert(start, size);
    }
    /// Cuts the tail off the largest range: at least `size` bytes from a multiple of `grain` on, or all of it. The
    /// result is its start and size.
    pub fn cut(&mut self, size: usize, grain: usize) -> Option<(usize, usize)> {
        let &(found, start) = self.by_size.last()?;
        self.remove(start, found);
        let end = start + found;
        let from = end.saturating_sub(size) / grain * grain;
        if from <= start {
            return Some((start, found));
        }
        self.insert(start, from - start);
        Some((from, end - from))
    }
    /// Takes the free range of exactly this start and size; says whether there was one.
    pub fn take_exactly(&mut self, start: usize, size: usize) -> bool {
        let found = self.by_start.get(&start) == Some(&size);
        if found {
            self.remove(start, size);
        }
        found
    }
    fn insert(&mut self, start: usize, size: usize) {
        self.by_start.insert(start, size);
        self.by_size.insert((size, start));
    }
    fn remove(&mut self, start: usize, size: usize) {
        self.by_start.remove(&start);
        self.by_size.remove(&(size, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Against a map of single bytes.
        #[test]
        fn every_byte_is_free_or_taken(moves in prop::collection::vec((0usize..3, 1usize..9), 1..60)) {
            let mut ranges = Ranges::new();
            ranges.give(100, 64);
            let mut free = vec![true; 300];
            (0..300).filter(|i| !(100..164).contains(i)).for_each(|i| free[i] = false);
            let mut taken: Vec<(usize, usize)> = vec![];
            for (kind, size) in moves {
                match kind {
                    0 => if let Some(start) = ranges.take(size) {
                        prop_assert!(free[start..start + size].iter().all(|f| *f));
                        free[start..start + size].fill(false);
                        taken.push((start, size));
                    } else {
                        let longest = free.split(|f| !f).map(<[bool]>::len).max().unwrap_or(0);
                        prop_assert!(longest < size);
                    },
                    1 if !taken.is_empty() => {
                        let (start, size) = taken.swap_remove(size % taken.len());
                        ranges.give(start, size);
                        free[start..start + size].fill(true);
                    }
                    _ => if let Some((start, cut)) = ranges.cut(size, 4) {
                        prop_assert!(free[start..start + cut].iter().all(|f| *f));
                        free[start..start + cut].fill(false);
                    },
                }
                let runs = free.split(|f| !f).filter(|run| !run.is_empty()).count();
                prop_assert_eq!(runs, ranges.by_start.len());
                prop_assert_eq!(free.iter().filter(|f| **f).count(), ranges.by_start.values().sum::<usize>());
                prop_assert_eq!(ranges.by_start.len(), ranges.by_size.len());
            }
        }
    }
}
