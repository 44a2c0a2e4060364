//! Images as other programs store them, (N, C, H, W), and as tensors here are, (N, H, W, C).

use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// (N, C, H, W) -> (N, H, W, C), as `F32` or `F64`.
///
/// # Errors
/// [`Error::Shape`] for another number of dimensions.
pub fn channels_last(images: &Tensor, dtype: DType) -> Result<Tensor> {
    let [n, c, h, w] = extents(images)?;
    Ok(transposed(&images.to_dtype(dtype)?, [c, h * w]).reshape([n, h, w, c]))
}

/// (N, H, W, C) -> (N, C, H, W), both of `F32` or of `F64`.
///
/// # Errors
/// [`Error::Shape`] for another number of dimensions.
pub fn channels_first(images: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = extents(images)?;
    Ok(transposed(images, [h * w, c]).reshape([n, c, h, w]))
}

fn extents(images: &Tensor) -> Result<[usize; 4]> {
    let what = || format!("must have four dimensions, not the shape {}", images.shape());
    images.shape().nhwc().ok_or_else(|| Error::shape("images", what()))
}

/// Each matrix of `rows` and `columns` transposed.
fn transposed(x: &Tensor, [rows, columns]: [usize; 2]) -> Tensor {
    let mut y = Tensor::scratch(*x.shape(), x.dtype());
    let size = (rows * columns).max(1);
    crate::on_plain!(x.dtype(), R => {
        let images = x.as_slice::<R>().chunks_exact(size).zip(y.make_mut::<R>().chunks_exact_mut(size));
        for (from, to) in images {
            for (i, row) in from.chunks_exact(columns).enumerate() {
                row.iter().enumerate().for_each(|(j, &x)| to[j * rows + i] = x);
            }
        }
    });
    y
}
