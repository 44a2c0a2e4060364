//! CPU kernels on plain slices: every function here trusts its caller to pass lengths that fit the shapes.
//!
//! Activations are channels-last `(N, H, W, C)`; `dims` is that shape of the input `x` in all three passes.
//! Depthwise weights are `(C, 1, kh, kw)`, dense ones `(Co, Ci, kh, kw)`. `accumulate` adds to the destination
//! instead of overwriting it. Work and partial sums are cut by shape alone and combined in a fixed order, so the
//! bits of a result do not depend on the number of threads.

mod ahead;
pub mod cell;
pub mod channel;
pub mod conv;
mod correlate;
pub mod depthwise;
pub mod elementwise;
pub mod gemm;
mod jobs;
mod padded;
pub mod pool;
pub mod preprocess;
mod scratch;
mod slide;
#[cfg(test)]
mod tests;
mod tile;

use super::window::Window;
use crate::device::real::Real;
use crate::device::simd::{self, Isa, Kernel, Vector};

/// The instruction set of a call, read once on the calling thread.
fn isa() -> Isa {
    #[cfg(test)]
    if let Some(forced) = tests::FORCED.get() {
        return forced;
    }
    simd::isa()
}

struct Lanes;
impl<R: Real> Kernel<R> for Lanes {
    type Output = usize;
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) -> usize {
        V::LANES
    }
}

/// Lanes of the vectors that `dispatch_for(isa, wanted, _)` uses.
fn lanes<R: Real>(isa: Isa, wanted: usize) -> usize {
    simd::dispatch_for::<R, _>(isa, wanted, Lanes)
}

/// Output `[height, width]` of an input shape that the operation has checked the window to fit.
fn out_size(w: &Window, dims: [usize; 4]) -> [usize; 2] {
    std::array::from_fn(|axis| {
        let reach = w.dilation[axis] * (w.kernel[axis] - 1) + 1;
        (dims[axis + 1] + 2 * w.padding[axis] - reach) / w.stride[axis] + 1
    })
}
