//! Sums of many blocks: partial sums, and their total in one order. Kernels: kernels/parts.cu.

use super::int;
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::Tensor;

/// Blocks that keep a large GPU busy: two for each multiprocessor.
pub const BUSY: usize = 264;
/// Sums of a block.
const SUMS: usize = 8;

/// `count` units of work in equal spans of at least `least`, so that `times` as many blocks as there are spans keep the
/// device busy: the span and how many there are.
pub fn spans(count: usize, times: usize, least: usize) -> [usize; 2] {
    let wanted = BUSY.div_ceil(times.max(1));
    let span = count.div_ceil(wanted).max(least).max(1);
    [span, count.div_ceil(span)]
}

/// y (+)= the sum over the first axis of `parts`.
pub fn total(cuda: &Cuda, parts: &Tensor, out: &Out) -> Result<()> {
    let n = out.value.count();
    let count = parts.count() / n.max(1);
    let (p, y) = (parts.address(), out.value.address());
    let arguments: [&dyn crate::device::cuda::Argument; 5] =
        [&p, &y, &int(count), &int(n), &i32::from(out.accumulate)];
    cuda.launch("sum_parts_f32", [n.div_ceil(SUMS), 1, 1], THREADS, 0, &arguments)
}
