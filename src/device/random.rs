//! Random streams: every draw is a function of (seed, purpose, two counters), so nothing has to be remembered.
//!
//! A run that is resumed at epoch e, step s draws what it would have drawn without the stop. ChaCha8 gives the
//! same numbers on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream is drawn for; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    Weights = 1,
    Alphas = 2,
    Split = 3,
    TrainOrder = 4,
    ValidOrder = 5,
    Augment = 6,
    Synthetic = 7,
    Check = 8,
}

/// The stream for `purpose` and two counters (an epoch and a step, say).
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let words = [seed, purpose as u64, a, b].map(u64::to_le);
    ChaCha8Rng::from_seed(bytemuck::cast(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_repeat_and_differ() {
        let first = |p, a, b| stream(2, p, a, b).next_u64();
        assert_eq!(first(Purpose::Weights, 0, 0), first(Purpose::Weights, 0, 0));
        let all = [
            first(Purpose::Weights, 0, 0),
            first(Purpose::Alphas, 0, 0),
            first(Purpose::Weights, 1, 0),
            first(Purpose::Weights, 0, 1),
        ];
        for (i, x) in all.iter().enumerate() {
            assert!(!all[..i].contains(x));
        }
    }
}
