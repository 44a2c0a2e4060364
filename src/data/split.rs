//! Which images are used when: the split of the training set, the order of an epoch, the draw of a single batch.

use crate::device::random::{Purpose, stream};
use rand::seq::{SliceRandom, index};

/// Cuts a random permutation of `0..n` into the first `floor(train_portion * n)` and the rest. Neither is empty as
/// long as `n` is at least 2, whatever the portion.
pub fn split(n: usize, train_portion: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut first: Vec<usize> = (0..n).collect();
    first.shuffle(&mut stream(seed, Purpose::Split, 0, 0));
    let cut = (train_portion * n as f64) as usize; // truncates; NaN and negative values become 0
    let rest = first.split_off(cut.min(n.saturating_sub(1)).max(1).min(n));
    (first, rest)
}

/// `indices` in the random order of `epoch`.
pub fn epoch_order(indices: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut order = indices.to_vec();
    order.shuffle(&mut stream(seed, Purpose::TrainOrder, epoch, 0));
    order
}

/// `count` distinct ones of `indices`, uniformly and in random order: the batch of an architecture step, distributed
/// as the first batch of a fresh shuffle. If there are fewer than `count`, all of them are repeated in turn.
pub fn draw(indices: &[usize], count: usize, seed: u64, epoch: u64, step: u64) -> Vec<usize> {
    let mut rng = stream(seed, Purpose::ValidOrder, epoch, step);
    let chosen = index::sample(&mut rng, indices.len(), count.min(indices.len()));
    let chosen: Vec<usize> = chosen.iter().map(|i| indices[i]).collect();
    chosen.iter().copied().cycle().take(count).collect()
}
