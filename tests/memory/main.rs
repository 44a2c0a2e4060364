//! Memory for time: recomputed cells change no bit, and what a plan says is what a step takes.

mod bits;
mod choice;

use oche::data::loader::Batch;
use oche::search::{Hyper, Searcher};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};

fn batch(n: usize, size: usize, dtype: DType, seed: u64) -> Batch {
    let labels: Vec<u32> = (0..n as u32).map(|i| (i + seed as u32) % 3).collect();
    Batch {
        images: normal([n, size, size, 3], seed, 0).unwrap().to_dtype(dtype).unwrap(),
        labels: Tensor::from_slice([n], &labels).unwrap(),
    }
}

fn searcher(config: &CnnConfig, dtype: DType, seed: u64) -> Searcher {
    let net = CnnSupernet::new(config).unwrap();
    let hyper = Hyper { alpha_init: 0.5, ..Hyper::default() };
    Searcher::new(Box::new(net), hyper, seed, dtype).unwrap()
}
