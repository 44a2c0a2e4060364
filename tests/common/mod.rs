//! A search small enough for tests: two channels, three classes, alphas in the middle of a search.

use oche::data::loader::Batch;
use oche::search::{Hyper, Searcher};
use oche::space::cnn::CnnConfig;
use oche::space::{Space, Supernet};
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};

/// A supernet of the published candidates.
pub fn small(cells: usize, nodes: usize) -> CnnConfig {
    CnnConfig { channels: 2, cells, space: Space::darts(nodes), classes: 3, ..Default::default() }
}

/// Batch `k` drawn from `seed`: `n` images of `size` pixels each way, labels in turn.
pub fn batch(n: usize, size: usize, dtype: DType, seed: u64, k: u64) -> Batch {
    let labels: Vec<u32> = (0..n as u32).map(|i| (i + k as u32) % 3).collect();
    Batch {
        images: normal([n, size, size, 3], seed, k).unwrap().to_dtype(dtype).unwrap(),
        labels: Tensor::from_slice([n], &labels).unwrap(),
    }
}

/// A search of `net` whose alphas are of size one half.
pub fn searcher(net: impl Supernet + 'static, dtype: DType, seed: u64) -> Searcher {
    let hyper = Hyper { alpha_init: 0.5, ..Hyper::default() };
    Searcher::new(Box::new(net), hyper, seed, dtype).unwrap()
}
