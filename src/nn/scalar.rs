//! Numbers that change from step to step: known now, or found on the device by the time they are needed.
//!
//! A captured step runs again with other numbers, so it reads them where they are stored.

use crate::error::Result;
use crate::tensor::Tensor;

/// A number.
#[derive(Clone, Debug)]
pub enum Scalar {
    Known(f64),
    /// One element of `F64`, on a device.
    Stored(Tensor),
}

impl From<f64> for Scalar {
    fn from(x: f64) -> Self {
        Self::Known(x)
    }
}

impl Scalar {
    /// Its value; waits for the device if it is stored there.
    pub fn value(&self) -> Result<f64> {
        match self {
            Self::Known(x) => Ok(*x),
            Self::Stored(tensor) => tensor.read(),
        }
    }
    /// As kernels take it: an address, 0 for none, and the value beside it.
    pub(super) fn argument(&self) -> (u64, f64) {
        match self {
            Self::Known(x) => (0, *x),
            Self::Stored(tensor) => (tensor.address(), 0.0),
        }
    }
}

/// A factor made of a constant and a number.
#[derive(Clone, Debug)]
pub enum Factor {
    /// a s
    Times(f64, Scalar),
    /// a / s, and 0 for s = 0
    Over(f64, Scalar),
    /// 1 / (2 a / s), and 0 for s = 0
    HalfInverse(f64, Scalar),
}

impl Factor {
    pub(super) fn value(&self) -> Result<f64> {
        Ok(match self {
            Self::Times(a, s) => a * s.value()?,
            Self::Over(a, s) => match s.value()? {
                0.0 => 0.0,
                s => a / s,
            },
            Self::HalfInverse(a, s) => match s.value()? {
                0.0 => 0.0,
                s => 1.0 / (2.0 * (a / s)),
            },
        })
    }
    /// As kernels take it: form, constant and number.
    pub(super) fn argument(&self) -> (i32, f64, (u64, f64)) {
        match self {
            Self::Times(a, s) => (0, *a, s.argument()),
            Self::Over(a, s) => (1, *a, s.argument()),
            Self::HalfInverse(a, s) => (2, *a, s.argument()),
        }
    }
}
