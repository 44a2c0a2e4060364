//! Dense tensors: a shape over a reference-counted block. Channels-last: images are `(N, H, W, C)` in memory.
//!
//! Immutable by convention; [`Tensor::make_mut`] copies first when the block is shared. No strides: what is not
//! dense is copied by an operation. The elements are in the host's memory or on a CUDA device.

mod dual;
mod place;
mod shape;

pub use crate::device::dual::Dual;
pub use crate::device::lean::Lean;
use crate::device::memory::{Block, Meter};
pub use crate::device::real::{DType, Real, Wide};
use crate::error::{Error, Result};
use crate::on_real;
pub use shape::Shape;
use std::sync::Arc;

/// Shape, element type and storage. `Clone` counts a reference; nothing is copied.
#[derive(Clone)]
pub struct Tensor {
    block: Arc<Block>,
    offset: usize, // in elements
    shape: Shape,
    dtype: DType,
}

/// An element type that a tensor can hold.
pub trait Element: bytemuck::Pod + Send + Sync {
    const DTYPE: DType;
}
impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
/// In a tensor the same as an `f32`.
impl Element for Lean {
    const DTYPE: DType = DType::F32;
}
impl Element for f64 {
    const DTYPE: DType = DType::F64;
}
impl Element for Dual<f32> {
    const DTYPE: DType = DType::D32;
}
impl Element for Dual<f64> {
    const DTYPE: DType = DType::D64;
}
impl Element for half::bf16 {
    const DTYPE: DType = DType::BF16;
}
impl Element for u8 {
    const DTYPE: DType = DType::U8;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}

impl Tensor {
    /// Arbitrary content: for an operation that writes all of it.
    pub fn scratch(shape: impl Into<Shape>, dtype: DType) -> Self {
        let shape = shape.into();
        Self { block: Arc::new(Block::new(shape.count() * dtype.size())), offset: 0, shape, dtype }
    }
    /// A tensor of a dry run: it has a size, which `meter` counts, but no elements.
    pub fn phantom(shape: impl Into<Shape>, dtype: DType, meter: &Arc<Meter>) -> Self {
        let shape = shape.into();
        let block = Block::phantom(shape.count() * dtype.size(), meter);
        Self { block: Arc::new(block), offset: 0, shape, dtype }
    }
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Self {
        let mut t = Self::scratch(shape, dtype);
        if let Some(block) = Arc::get_mut(&mut t.block) {
            block.bytes_mut().fill(0);
        }
        t
    }
    /// A copy of `data` (row-major); fails if the lengths differ.
    pub fn from_slice<T: Element>(shape: impl Into<Shape>, data: &[T]) -> Result<Self> {
        let shape = shape.into();
        if shape.count() != data.len() {
            return Err(Error::shape("tensor", format!("{} elements do not fill shape {shape}", data.len())));
        }
        let mut t = Self::scratch(shape, T::DTYPE);
        t.make_mut::<T>().copy_from_slice(data);
        Ok(t)
    }
    /// `data` given as `f64`, stored as `dtype` (`F32`, `F64` or `BF16`).
    pub fn from_f64(shape: impl Into<Shape>, data: &[f64], dtype: DType) -> Result<Self> {
        match dtype {
            DType::F64 => Self::from_slice(shape, data),
            DType::F32 => Self::from_slice(shape, &data.iter().map(|&x| x as f32).collect::<Vec<_>>()),
            DType::BF16 => {
                Self::from_slice(shape, &data.iter().map(|&x| half::bf16::from_f64(x)).collect::<Vec<_>>())
            }
            other => Err(Error::shape("tensor", format!("{other:?} is not a floating-point type"))),
        }
    }
    /// A scalar: shape `()`, and tangent zero if it is a dual number.
    pub fn scalar(value: f64, dtype: DType) -> Self {
        let mut t = Self::scratch([], dtype);
        match dtype {
            DType::U8 => t.make_mut::<u8>()[0] = value as u8,
            DType::U32 => t.make_mut::<u32>()[0] = value as u32,
            real => on_real!(real, R => t.make_mut::<R>()[0] = R::of(value)),
        }
        t
    }
    /// Whether it has no elements, being of a dry run.
    pub fn is_phantom(&self) -> bool {
        self.block.is_phantom()
    }
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.count()
    }
    /// The elements. Panics if `T` is not the element type: a bug of the caller, not of a user.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.dtype, "element type of the tensor");
        let size = self.dtype.size();
        bytemuck::cast_slice(&self.block.bytes()[self.offset * size..][..self.count() * size])
    }
    /// The elements for writing; copied first if anybody else holds them. Panics on a tensor that is not in the host's
    /// memory.
    pub fn make_mut<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype, "element type of the tensor");
        let (start, bytes) = (self.offset * self.dtype.size(), self.count() * self.dtype.size());
        if Arc::get_mut(&mut self.block).is_none() {
            let mut own = Block::new(bytes);
            own.bytes_mut().copy_from_slice(&self.block.bytes()[start..][..bytes]);
            (self.block, self.offset) = (Arc::new(own), 0);
            return self.make_mut();
        }
        match Arc::get_mut(&mut self.block) {
            Some(block) => bytemuck::cast_slice_mut(&mut block.bytes_mut()[start..][..bytes]),
            None => unreachable!("the block was just made unique"),
        }
    }
    /// A view of `shape.count()` elements from `offset` on, sharing the storage.
    pub fn view(&self, offset: usize, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert!(offset + shape.count() <= self.count(), "view within the tensor");
        Self { block: self.block.clone(), offset: self.offset + offset, shape, dtype: self.dtype }
    }
    /// Tensors of one shape and type, one after the other along a new first axis.
    pub fn stack(parts: &[Self]) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(Error::shape("stack", "of no tensors".to_owned()));
        };
        if let Some(other) = parts.iter().find(|p| (p.shape, p.dtype) != (first.shape, first.dtype)) {
            return Err(Error::shape("stack", format!("of shapes {} and {}", first.shape, other.shape)));
        }
        let mut dims = vec![parts.len()];
        dims.extend(first.shape.dims());
        let mut stacked = Self::scratch(&dims[..], first.dtype);
        crate::on_real!(first.dtype, R => {
            let to = stacked.make_mut::<R>().chunks_exact_mut(first.count());
            to.zip(parts).for_each(|(to, part)| to.copy_from_slice(part.as_slice()));
        });
        Ok(stacked)
    }
    /// The same elements under another shape.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.count(), self.count(), "reshape keeps the number of elements");
        Self { shape, ..self.clone() }
    }
    /// The elements as `f64` (a copy). Panics on dual numbers, whose tangents would be lost: see [`Tensor::parts`].
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            DType::D32 | DType::D64 => panic!("a dual number is not one number"),
            DType::F64 => self.as_slice::<f64>().to_vec(),
            DType::F32 => self.as_slice::<f32>().iter().map(|&x| x as f64).collect(),
            DType::BF16 => self.as_slice::<half::bf16>().iter().map(|x| x.to_f64()).collect(),
            DType::U8 => self.as_slice::<u8>().iter().map(|&x| x as f64).collect(),
            DType::U32 => self.as_slice::<u32>().iter().map(|&x| x as f64).collect(),
        }
    }
    /// Whether no element is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        match self.dtype {
            DType::F32 => self.as_slice::<f32>().iter().all(|x| x.is_finite()),
            DType::BF16 => self.as_slice::<half::bf16>().iter().all(|x| x.is_finite()),
            DType::F64 => self.as_slice::<f64>().iter().all(|x| x.is_finite()),
            DType::D32 | DType::D64 => self.parts().iter().all(Self::is_finite),
            DType::U8 | DType::U32 => true,
        }
    }
    /// The value of a tensor of one element.
    pub fn item(&self) -> f64 {
        assert_eq!(self.count(), 1, "item of a tensor of shape {}", self.shape);
        self.to_f64()[0]
    }
    /// Converts to another floating-point type; shares the storage if there is nothing to do. Tangents become zero.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        match dtype {
            same if same == self.dtype => Ok(self.clone()),
            DType::D32 | DType::D64 => {
                Self::dual(&self.to_dtype(dtype.plain())?, &Self::zeros(self.shape, dtype.plain()))
            }
            plain => Self::from_f64(self.shape, &self.to_f64(), plain),
        }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:?}{}", self.dtype, self.shape)?;
        if self.block.is_phantom() || self.cuda().is_some() {
            return Ok(());
        }
        let first = self.view(0, [self.count().min(8)]);
        match self.dtype {
            DType::D32 | DType::D64 => write!(f, " {:?}", first.parts()),
            _ => write!(f, " {:?}", first.to_f64()),
        }
    }
}

/// Runs `$body` with `$r` standing for the number type that `$dtype` names: `f32`, `f64` or the dual numbers of either.
#[macro_export]
macro_rules! on_real {
    ($dtype:expr, $r:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::D32 => {
                type $r = $crate::tensor::Dual<f32>;
                $body
            }
            $crate::tensor::DType::D64 => {
                type $r = $crate::tensor::Dual<f64>;
                $body
            }
            plain => $crate::on_plain!(plain, $r => $body),
        }
    };
}

/// [`on_real`] for what may compute `f32` as [`Lean`](crate::tensor::Lean) numbers, if `$lean`.
#[macro_export]
macro_rules! on_kept {
    ($dtype:expr, $lean:expr, $r:ident => $body:expr) => {
        match ($dtype, $lean) {
            ($crate::tensor::DType::F32, true) => {
                type $r = $crate::tensor::Lean;
                $body
            }
            (other, _) => $crate::on_real!(other, $r => $body),
        }
    };
}

/// [`on_real`] for what never sees dual numbers, such as optimisers.
#[macro_export]
macro_rules! on_plain {
    ($dtype:expr, $r:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $r = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $r = f64;
                $body
            }
            other => unreachable!("floating-point operation on {other:?}"),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn make_mut_copies_a_shared_block_and_only_that() {
        let mut a = Tensor::from_slice([2, 2], &[1f32, 2., 3., 4.]).unwrap();
        let row = a.view(2, [2]);
        a.make_mut::<f32>()[2] = 9.;
        assert_eq!(row.as_slice::<f32>(), [3., 4.]);
        assert_eq!(a.as_slice::<f32>(), [1., 2., 9., 4.]);
        let address = a.as_slice::<f32>().as_ptr();
        assert_eq!(a.make_mut::<f32>().as_ptr(), address);
    }
}
