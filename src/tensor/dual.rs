//! Tensors of dual numbers: put together from values and tangents, and taken apart.

use super::{Dual, Real, Tensor};
use crate::error::{Error, Result};
use crate::on_plain;

impl Tensor {
    /// Dual numbers of `values` (`F32` or `F64`) and `tangents`.
    pub fn dual(values: &Tensor, tangents: &Tensor) -> Result<Tensor> {
        if (tangents.shape(), tangents.dtype()) != (values.shape(), values.dtype()) {
            return Err(Error::shape("dual", format!("tangents {tangents:?} of values {values:?}")));
        }
        let mut dual = Tensor::scratch(*values.shape(), values.dtype().dual());
        on_plain!(values.dtype(), R => {
            let parts = values.as_slice::<R>().iter().zip(tangents.as_slice::<R>());
            dual.make_mut::<Dual<R>>().iter_mut().zip(parts).for_each(|(d, (&v, &t))| *d = Dual::new(v, t));
        });
        Ok(dual)
    }
    /// Values and tangents of dual numbers. Panics on others.
    pub fn parts(&self) -> [Tensor; 2] {
        match self.dtype() {
            super::DType::D32 => self.parts_of::<f32>(),
            super::DType::D64 => self.parts_of::<f64>(),
            other => panic!("{other:?} has no tangents"),
        }
    }
    fn parts_of<R: Real + super::Element>(&self) -> [Tensor; 2]
    where
        Dual<R>: super::Element,
    {
        let parts: [fn(&Dual<R>) -> R; 2] = [|d| d.value, |d| d.tangent];
        parts.map(|part| {
            let mut plain = Tensor::scratch(*self.shape(), <R as Real>::DTYPE);
            let dual = self.as_slice::<Dual<R>>();
            plain.make_mut::<R>().iter_mut().zip(dual).for_each(|(to, d)| *to = part(d));
            plain
        })
    }
}
