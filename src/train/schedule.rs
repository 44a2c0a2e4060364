//! How the learning rate and the rate of drop path go with the epochs.

use crate::nn::cosine;

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// Along half a cosine, to `last` after the last epoch.
    Cosine { last: f64 },
    /// By the factor `gamma` every `every` epochs.
    Step { gamma: f64, every: usize },
}

/// The learning rate of each epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub first: f64,
    pub decay: Decay,
    pub epochs: usize,
    /// The first so many epochs take 1/n, 2/n, ... of their learning rate, as the code of PC-DARTS (arXiv 1907.05737).
    pub warmup: usize,
}

impl Schedule {
    /// At `epoch`, from 0.
    pub fn rate(&self, epoch: usize) -> f64 {
        let rate = match self.decay {
            Decay::Cosine { last } => cosine(self.first, last, epoch, self.epochs),
            Decay::Step { gamma, every } => self.first * gamma.powi((epoch / every.max(1)) as i32),
        };
        if epoch < self.warmup { rate * (epoch + 1) as f64 / self.warmup as f64 } else { rate }
    }
}

/// The rate of drop path at `epoch` of `epochs`: rises from 0 towards `rate`, as in the published code.
pub fn drop_rate(rate: f64, epoch: usize, epochs: usize) -> f64 {
    rate * epoch as f64 / epochs.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} and {b}");
    }

    #[test]
    fn the_published_schedules() {
        let cifar = Schedule { first: 0.025, decay: Decay::Cosine { last: 0.0 }, epochs: 600, warmup: 0 };
        close(cifar.rate(0), 0.025);
        close(cifar.rate(300), 0.0125);
        close(cifar.rate(600), 0.0);
        close(cifar.rate(150), 0.0125 * (1.0 + std::f64::consts::FRAC_1_SQRT_2));
        let imagenet =
            Schedule { first: 0.1, decay: Decay::Step { gamma: 0.97, every: 1 }, epochs: 250, warmup: 0 };
        close(imagenet.rate(0), 0.1);
        close(imagenet.rate(2), 0.1 * 0.97 * 0.97);
        let slower = Schedule { decay: Decay::Step { gamma: 0.5, every: 3 }, ..imagenet };
        assert_eq!([2, 3, 5, 6].map(|e| slower.rate(e)), [0.1, 0.05, 0.05, 0.025]);
    }

    #[test]
    fn warm_up_is_linear_and_ends() {
        let warm = Schedule { first: 0.5, decay: Decay::Step { gamma: 1.0, every: 1 }, epochs: 9, warmup: 5 };
        for (epoch, rate) in [(0, 0.1), (1, 0.2), (4, 0.5), (5, 0.5), (8, 0.5)] {
            close(warm.rate(epoch), rate);
        }
    }

    #[test]
    fn paths_are_dropped_more_and_more() {
        assert_eq!(drop_rate(0.2, 0, 600), 0.0);
        close(drop_rate(0.2, 300, 600), 0.1);
        close(drop_rate(0.2, 599, 600), 0.2 * 599.0 / 600.0);
    }
}
