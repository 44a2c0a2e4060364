//! Matrix products of `F32`. Kernels: kernels/matmul.cu.

use super::{int, single};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::Tensor;
use bytemuck::NoUninit;

/// Results up to which each has a warp, if its sum has at least `LONG` terms.
const FEW: usize = 4096;
const LONG: usize = 64;
/// Extents of a block's tile, and how many large ones there must be to have them.
const LARGE: usize = 64;
const SMALL: usize = 32;
const MANY: usize = 64;

/// Sizes and strides: A at i, p lies at i `a[0]` + p `a[1]`, B at p, j at p `b[0]` + j `b[1]`.
#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct Product {
    sizes: [i32; 3],
    a: [i32; 2],
    b: [i32; 2],
}

/// y = A B for factors of sizes (m, k) and (k, n), each stored transposed or not
pub fn matmul(
    cuda: &Cuda,
    [m, k, n]: [usize; 3],
    transpose: [bool; 2],
    ins: &[&Tensor],
    out: &mut Out,
) -> Result<()> {
    single("matmul", ins)?;
    let strides = |rows, columns, t| if t { [1, int(rows)] } else { [int(columns), 1] };
    let (a, b) = (strides(m, k, transpose[0]), strides(k, n, transpose[1]));
    let product = Product { sizes: [m, k, n].map(int), a, b };
    let [a, b, y] = [ins[0], ins[1], out.value].map(|t| t.address());
    let tiles = |size: usize| [n.div_ceil(size), m.div_ceil(size), 1];
    let (kernel, blocks) = if m * n <= FEW && k >= LONG {
        ("matmul_warp_f32", [(32 * m * n).div_ceil(THREADS), 1, 1])
    } else if tiles(LARGE).iter().product::<usize>() >= MANY {
        ("matmul_large_f32", tiles(LARGE))
    } else {
        ("matmul_f32", tiles(SMALL))
    };
    cuda.launch(kernel, blocks, THREADS, 0, &[&a, &b, &y, &product, &i32::from(out.accumulate)])
}
