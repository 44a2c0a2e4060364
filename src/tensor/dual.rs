//! Tensors of dual numbers: put together from values and tangents, and taken apart.

use super::{Dual, Real, Tensor};
use crate::error::{Error, Result};
use crate::on_plain;

impl Tensor {
    /// Dual numbers of `values` (`F32` or `F64`) and `tangents`, or zero tangents: what does not move.
    pub fn dual(values: &Tensor, tangents: Option<&Tensor>) -> Result<Tensor> {
        if let Some(t) = tangents.filter(|t| t.shape() != values.shape() || t.dtype() != values.dtype()) {
            return Err(Error::shape("dual", format!("tangents {t:?} of values {values:?}")));
        }
        let mut dual = Tensor::scratch(*values.shape(), values.dtype().dual());
        on_plain!(values.dtype(), R => {
            let (to, values) = (dual.make_mut::<Dual<R>>(), values.as_slice::<R>());
            to.iter_mut().zip(values).for_each(|(d, &v)| *d = Dual::new(v, R::ZERO));
            if let Some(tangents) = tangents {
                to.iter_mut().zip(tangents.as_slice::<R>()).for_each(|(d, &t)| d.tangent = t);
            }
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
