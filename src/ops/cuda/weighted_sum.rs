//! Sums of images with weights from a matrix. Kernels: kernels/weighted_sum.cu.

use super::walk::aligned;
use super::{images, int, kernel, single};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};
use bytemuck::NoUninit;

/// Images of one launch.
const MOST: usize = 64;
/// Images of one block of a gradient, and elements of each.
const GROUP: usize = 8;
const SPAN: usize = 2048;

/// Images and their places in the matrix.
#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct Terms {
    images: [u64; MOST],
    entries: [i32; MOST],
    count: i32,
    reserved: i32,
}

impl Terms {
    fn new(images: &[&Tensor], entries: &[usize]) -> Self {
        let mut terms = Self { images: [0; MOST], entries: [0; MOST], count: int(images.len()), reserved: 0 };
        for (k, (x, &entry)) in images.iter().zip(entries).enumerate() {
            (terms.images[k], terms.entries[k]) = (x.address(), int(entry));
        }
        terms
    }
}

/// (W, x_0, ..): `y = sum_k W[entries[k]] x_k`
pub fn weighted_sum(cuda: &Cuda, entries: &[usize], ins: &[&Tensor], out: &mut Out) -> Result<()> {
    single("weights of weighted_sum", &ins[..1])?;
    images("weighted_sum", &ins[1..])?;
    let kernel = kernel!(out.value.dtype(), "weighted_sum")?;
    let (n, mut accumulate) = (out.value.count(), out.accumulate);
    let (weights, y) = (ins[0].address(), out.value.address());
    for (images, entries) in ins[1..].chunks(MOST).zip(entries.chunks(MOST)) {
        let terms = Terms::new(images, entries);
        let vectors = i32::from(aligned(images) && aligned(&[out.value]));
        let add = i32::from(accumulate);
        cuda.launch_flat(kernel, n.div_ceil(4), &[&weights, &terms, &y, &int(n), &vectors, &add])?;
        accumulate = true;
    }
    Ok(())
}

/// (g, W): `y = W[entry] g`
pub fn scale_by_entry(cuda: &Cuda, entry: usize, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    single("weights of scale_by_entry", &ins[1..])?;
    let kernel = kernel!(out.value.dtype(), "scale_by_entry")?;
    let [g, weights, y] = [ins[0], ins[1], out.value].map(|t| t.address());
    let n = out.value.count();
    let vectors = i32::from(aligned(&[ins[0], out.value]));
    let accumulate = i32::from(out.accumulate);
    let arguments: [&dyn crate::device::cuda::Argument; 7] =
        [&g, &weights, &y, &int(entry), &int(n), &vectors, &accumulate];
    cuda.launch_flat(kernel, n.div_ceil(4), &arguments)
}

/// (g, x_0, ..): `y[entries[k]] = <g, x_k>`, and 0 elsewhere
pub fn weight_grad(cuda: &Cuda, entries: &[usize], ins: &[&Tensor], out: &mut Out) -> Result<()> {
    images("weighted_sum_grad", ins)?;
    let kernel = kernel!(ins[0].dtype(), "weight_grad_parts")?;
    let (n, mut accumulate) = (ins[0].count(), out.accumulate);
    let (g, y) = (ins[0].address(), out.value.address());
    let blocks = n.div_ceil(SPAN).max(1);
    for (images, entries) in ins[1..].chunks(MOST).zip(entries.chunks(MOST)) {
        let terms = Terms::new(images, entries);
        let parts = ins[0].alike([images.len(), blocks], DType::F32)?;
        let vectors = i32::from(aligned(images) && aligned(&ins[..1]));
        let (to, grid) = (parts.address(), [blocks, images.len().div_ceil(GROUP), 1]);
        cuda.launch(kernel, grid, THREADS, 0, &[&terms, &g, &to, &int(n), &vectors])?;
        let (blocks, add) = (int(blocks), i32::from(accumulate));
        let elements = [out.value.count(), 1, 1];
        cuda.launch("weight_grad_f32", elements, THREADS, 0, &[&terms, &to, &y, &blocks, &add])?;
        accumulate = true;
    }
    Ok(())
}
