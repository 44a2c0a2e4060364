//! Random streams: every draw is a function of (seed, purpose, two counters), so nothing has to be remembered.
//!
//! A run that is resumed at epoch e, step s draws what it would have drawn without the stop. ChaCha8 gives the
//! same numbers on every machine. Words by counter are for bulk draws, which a device makes by itself.

use super::cuda::Cuda;
use crate::error::Result;
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
    DropPath = 9,
    RandomCells = 10,
}

/// The stream for `purpose` and two counters (an epoch and a step, say).
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let words = [seed, purpose as u64, a, b].map(u64::to_le);
    ChaCha8Rng::from_seed(bytemuck::cast(words))
}

/// Philox4x32-10 (Salmon et al. 2011): four random words for each counter and key.
fn philox(mut x: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (a, b) = (0xD251_1F53 * u64::from(x[0]), 0xCD9E_8D57 * u64::from(x[2]));
        x = [(b >> 32) as u32 ^ x[1] ^ key[0], b as u32, (a >> 32) as u32 ^ x[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    x
}

/// The random words of (seed, stream) at a counter.
pub fn words(seed: u64, stream: u64, counter: u64) -> [u32; 4] {
    let halves = |x: u64| [x as u32, (x >> 32) as u32];
    let ([a, b], [c, d]) = (halves(counter), halves(stream));
    philox([a, b, c, d], halves(seed))
}

/// Writes `count` words to `to`, an address of `cuda`: those of [`words`] for the counter `from`, then of the next one.
/// Kernel: kernels/random.cu.
pub fn words_on(cuda: &Cuda, [seed, stream, from]: [u64; 3], to: u64, count: usize) -> Result<()> {
    cuda.launch_flat("random_words", count.div_ceil(4), &[&seed, &stream, &from, &to, &(count as i32)])
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
    /// The known answers of Random123, the authors' own implementation.
    #[test]
    fn words_are_the_published_ones() {
        assert_eq!(words(0, 0, 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        let most = u64::MAX;
        assert_eq!(words(most, most, most), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let (seed, stream, counter) = (0x299f31d0_a4093822, 0x03707344_13198a2e, 0x85a308d3_243f6a88);
        assert_eq!(words(seed, stream, counter), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }
}
