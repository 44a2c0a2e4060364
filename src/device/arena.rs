//! Large blocks cut out of slabs of address space: best fit, free neighbours joined, so that what one pass of a search
//! step gave back serves the next one whatever its sizes.

use std::collections::{BTreeMap, BTreeSet};

/// Slabs are multiples of this, and lie on huge pages where the system has them: 512 times fewer page faults.
pub const HUGE: usize = 2 << 20;
/// Smallest slab.
const SLAB: usize = 32 << 20;

/// Free and used ranges of all slabs; addresses only, it touches no memory.
#[derive(Default)]
pub struct Arena {
    /// Free ranges by address, and the same by size.
    free: BTreeMap<usize, usize>,
    sizes: BTreeSet<(usize, usize)>,
    slabs: BTreeMap<usize, usize>,
    /// Bytes of all free ranges.
    pub free_bytes: usize,
}

impl Arena {
    /// The smallest free range that holds `size` bytes; what is over stays free.
    pub fn take(&mut self, size: usize) -> Option<usize> {
        let &(found, start) = self.sizes.range((size, 0)..).next()?;
        self.remove(start, found);
        if found > size {
            self.insert(start + size, found - size);
        }
        Some(start)
    }
    /// Bytes of a slab to be added when [`Self::take`] finds nothing for `size`.
    pub fn slab_for(size: usize) -> usize {
        size.max(SLAB).next_multiple_of(HUGE)
    }
    /// Adds a slab, all free.
    pub fn add_slab(&mut self, start: usize, size: usize) {
        self.slabs.insert(start, size);
        self.insert(start, size);
    }
    /// Takes back a range, joining it with free neighbours of its slab.
    pub fn give(&mut self, mut start: usize, mut size: usize) {
        if let Some((&before, &len)) = self.free.range(..start).next_back()
            && before + len == start
            && !self.slabs.contains_key(&start)
        {
            self.remove(before, len);
            (start, size) = (before, size + len);
        }
        let end = start + size;
        if let Some(&len) = self.free.get(&end)
            && !self.slabs.contains_key(&end)
        {
            self.remove(end, len);
            size += len;
        }
        self.insert(start, size);
    }
    /// A slab that is free as a whole, largest first; it is forgotten, for its memory to be given back.
    pub fn remove_free_slab(&mut self) -> Option<(usize, usize)> {
        let whole = |&&(size, start): &&(usize, usize)| self.slabs.get(&start) == Some(&size);
        let (size, start) = *self.sizes.iter().rev().find(whole)?;
        self.remove(start, size);
        self.slabs.remove(&start);
        Some((start, size))
    }

    fn insert(&mut self, start: usize, size: usize) {
        self.free.insert(start, size);
        self.sizes.insert((size, start));
        self.free_bytes += size;
    }
    fn remove(&mut self, start: usize, size: usize) {
        self.free.remove(&start);
        self.sizes.remove(&(size, start));
        self.free_bytes -= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        /// Blocks never overlap, everything given back joins to whole slabs again.
        #[test]
        fn blocks_are_disjoint_and_join_again(steps in prop::collection::vec((0usize..6, 1usize..40), 1..200)) {
            let (mut arena, mut next) = (Arena::default(), HUGE);
            let mut live: Vec<(usize, usize)> = vec![];
            for (what, size) in steps {
                if what < 2 && !live.is_empty() {
                    let (start, size) = live.swap_remove(size % live.len());
                    arena.give(start, size);
                    continue;
                }
                let size = size << 20;
                let start = arena.take(size).unwrap_or_else(|| {
                    let slab = Arena::slab_for(size);
                    arena.add_slab(next, slab); // touching the one before: they must not join
                    next += slab;
                    arena.take(size).unwrap()
                });
                prop_assert!(live.iter().all(|&(s, l)| start + size <= s || s + l <= start));
                live.push((start, size));
            }
            live.into_iter().for_each(|(start, size)| arena.give(start, size));
            let mut whole = 0;
            while let Some((_, size)) = arena.remove_free_slab() {
                whole += size;
            }
            prop_assert_eq!(whole, next - HUGE);
            prop_assert_eq!(arena.free_bytes, 0);
        }
    }
}
