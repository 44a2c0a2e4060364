//! CPU kernels on plain slices, and what they are made of: number types, vectors, memory. Every function here trusts its
//! caller to pass lengths that fit the shapes.
//!
//! A crate of its own since its kernels are compiled for every number type and instruction set, which takes minutes: what
//! changes outside does not compile them again. For that, other crates call them through [`LayerKernels`] and
//! [`CellKernels`]: generic functions, of which [`channel`] has some small ones, are compiled where they are called.
//!
//! Activations are channels-last `(N, H, W, C)`; `dims` is that shape of the input `x` in all three passes.
//! Depthwise weights are `(C, 1, kh, kw)`, dense ones `(Co, Ci, kh, kw)`. `accumulate` adds to the destination
//! instead of overwriting it. Work and partial sums are cut by shape alone and combined in a fixed order, so the
//! bits of a result do not depend on the number of threads.

// their unit tests call a few kernels; compiling what the others need would take minutes
#![cfg_attr(test, allow(dead_code))]

mod ahead;
pub mod cell;
pub mod channel;
#[cfg(not(test))]
mod compiled;
mod conv;
mod correlate;
mod depthwise;
pub mod dual;
mod gemm;
mod jobs;
pub mod lean;
pub mod memory;
mod padded;
mod pool;
pub mod preprocess;
pub mod ranges;
pub mod real;
mod scratch;
pub mod simd;
mod slide;
#[cfg(test)]
mod tests;
mod tile;
pub mod window;

#[cfg(not(test))]
pub use compiled::{CellKernels, LayerKernels};

use real::Real;
use simd::{Isa, Kernel, Vector};
use window::Window;

/// Elements of one work item: 64 KiB of `f32`.
pub const CHUNK: usize = 1 << 14;
/// What is added to a variance before its root is taken.
pub const EPSILON: f64 = 1e-5;

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
