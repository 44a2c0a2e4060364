//! Conversion to another floating-point type: images in `BF16` beside parameters in `F32`.

use super::cuda::cast as twin;
use super::elementwise::map1;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{DType, Shape, Tensor};

/// y = x, rounded to `F32`, `F64` or, on a device, `BF16`. Dual numbers become those of the type, with their tangents.
#[derive(Clone, Copy, Debug)]
pub struct Cast(pub DType);

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        Ok(ins[0])
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        match ins[0] {
            DType::D32 | DType::D64 if matches!(self.0, DType::F32 | DType::F64) => self.0.dual(),
            _ => self.0,
        }
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::cast(&cuda, ins, out);
        }
        let x = convert(ins[0], out.value.dtype())?;
        on_real!(out.value.dtype(), R => map1::<R>(&x, out, |x| x));
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, g) = (cx.x(0), cx.g());
        let dtype = cx.tape().dtype(x);
        cx.send(0, Self(dtype), &[g])
    }
}

/// In the host's memory.
fn convert(x: &Tensor, to: DType) -> Result<Tensor> {
    match (x.dtype(), to) {
        (_, DType::BF16 | DType::U8 | DType::U32) => {
            Err(Error::shape("cast", format!("the CPU computes in F32 and F64, not in {to:?}")))
        }
        (from, to) if from == to => Ok(x.clone()),
        (DType::D32 | DType::D64, to) => {
            let [values, tangents] = x.parts();
            Tensor::dual(&values.to_dtype(to.plain())?, &tangents.to_dtype(to.plain())?)
        }
        _ => x.to_dtype(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::pointwise::{Dot, Mul};
    use crate::tape::Tape;

    #[test]
    fn gradients_have_the_type_of_what_was_cast() {
        let mut tape = Tape::new();
        let x = tape.leaf(Tensor::from_slice([3], &[1f32, 2., 3.]).unwrap());
        let y = tape.apply(Cast(DType::F64), &[x]).unwrap();
        assert_eq!(tape.value(y).as_slice::<f64>(), [1., 2., 3.]);
        let square = tape.apply(Mul, &[y, y]).unwrap();
        let s = tape.apply(Dot, &[square, y]).unwrap(); // sum x^3
        let g = tape.grad_recorded(s, &[x]).unwrap()[0];
        assert_eq!(tape.value(g).as_slice::<f32>(), [3., 12., 27.]);
        let s = tape.apply(Dot, &[g, x]).unwrap(); // 3 sum x^3
        let g = tape.grad(s, &[x]).unwrap();
        assert_eq!(g[0].as_slice::<f32>(), [9., 36., 81.]);
    }

    #[test]
    fn tangents_are_cast_along() {
        let of = |x: f32| Tensor::from_slice([1], &[x]).unwrap();
        let mut tape = Tape::new();
        let x = tape.leaf(Tensor::dual(&of(2.), &of(5.)).unwrap());
        let y = tape.apply(Cast(DType::F64), &[x]).unwrap();
        let [value, tangent] = tape.value(y).parts();
        assert_eq!((value.item(), tangent.item()), (2., 5.));
    }

    #[test]
    fn the_cpu_refuses_bf16() {
        let mut tape = Tape::new();
        let x = tape.leaf(Tensor::zeros([1], DType::F32));
        assert!(tape.apply(Cast(DType::BF16), &[x]).is_err());
    }
}
