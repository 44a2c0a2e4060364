//! Operations: one file a family, with forward, backward, cost and test cases.

pub mod batch_norm;
pub mod cases;
pub mod cast;
pub mod channel;
pub mod concat;
pub mod conv;
pub mod cross_entropy;
mod cuda;
pub mod elementwise;
pub mod fused;
pub mod image_scale;
pub mod matmul;
pub mod pointwise;
pub mod pool;
pub mod softmax;
pub mod subsample;
pub mod weighted_sum;
pub use oche_cpu::window;
