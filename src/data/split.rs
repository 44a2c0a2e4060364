//! Which images are used when: the split of the training set, the order of an epoch, the draw of a single batch.

use crate::device::random::{Purpose, stream};
use rand::seq::{SliceRandom, index};

/// How many of `n` a `portion` is: `floor(portion * n)`, taken as a person reads the portion: 0.29 of 50,000 is 14,500, not
/// the 14,499 that its nearest floating-point number makes. A portion and `1.0 - (1.0 - portion)` are as many, so
/// that a part may be given by its complement.
pub fn count(n: usize, portion: f64) -> usize {
    let (portion, n) = (1.0 - (1.0 - portion), n as f64); // the precision that a complement keeps
    let (exact, error) = (portion * n, n * f64::EPSILON); // of portion, complement and product
    let near = exact.round();
    (if (exact - near).abs() <= error { near } else { exact }) as usize // truncates; NaN and negative values become 0
}

/// Cuts a random permutation of `0..n` into the first [`count`] and the rest. Neither is empty as long as `n` is at
/// least 2, whatever the portion.
pub fn split(n: usize, train_portion: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut first: Vec<usize> = (0..n).collect();
    first.shuffle(&mut stream(seed, Purpose::Split, 0, 0));
    let rest = first.split_off(count(n, train_portion).min(n.saturating_sub(1)).max(1).min(n));
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

#[cfg(test)]
mod tests {
    use super::{count, split};

    #[test]
    fn a_portion_and_the_complement_of_its_complement_are_as_many() {
        for n in [50_000, 3, 5, 7, 11, 31, 101] {
            for hundredths in 1u32..100 {
                let portion = f64::from(hundredths) / 100.0;
                let wanted = n * hundredths as usize / 100;
                assert_eq!(count(n, portion), wanted, "{portion} of {n}");
                assert_eq!(count(n, 1.0 - (1.0 - portion)), wanted, "{portion} of {n}, by its complement");
                assert_eq!(split(n, portion, 2), split(n, 1.0 - (1.0 - portion), 2), "{portion} of {n}");
            }
        }
    }

    #[test]
    fn a_portion_that_is_none_takes_none() {
        assert_eq!([f64::NAN, -0.5, 0.0, 1e-9].map(|portion| count(100, portion)), [0; 4]);
        assert_eq!([1.0, 1.5].map(|portion| count(100, portion)), [100, 150]);
    }
}
