//! Softmax over the innermost extent: p_k = exp(x_k - max) / sum;  dx = p (g - <p, g>).

use super::cuda::softmax as twin;
use super::pointwise::same;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{Real, Shape, Tensor, Wide};

macro_rules! row_op {
    ($(#[$doc:meta])* $op:ident $twin:ident, $name:literal, |$row:ident, $y:ident| $run:expr, |$cx:ident| $vjp:block) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn shape(&self, ins: &[Shape]) -> Result<Shape> {
                same($name, ins)
            }
            fn cost(&self, ins: &[Shape]) -> Cost {
                Cost::pointwise(ins, ins[0], 4)
            }
            fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
                if let Some(cuda) = out.value.cuda().cloned() {
                    return twin::$twin(&cuda, ins, out);
                }
                let (k, add) = (ins[0].shape().last(), out.accumulate);
                on_real!(out.value.dtype(), R => {
                    // rows are short (candidates, classes): computed in double precision, which also serves f32
                    let mut $y = vec![<R as Real>::Wide::ZERO; k];
                    for (i, to) in out.value.make_mut::<R>().chunks_exact_mut(k).enumerate() {
                        let rows: Vec<Vec<<R as Real>::Wide>> = ins.iter()
                            .map(|x| x.as_slice::<R>()[i * k..][..k].iter().map(|x| x.wide()).collect())
                            .collect();
                        let $row = |j: usize| &rows[j][..];
                        $run;
                        for (to, y) in to.iter_mut().zip(&$y) {
                            *to = if add { *to + R::narrow(*y) } else { R::narrow(*y) };
                        }
                    }
                });
                Ok(())
            }
            fn vjp(&self, $cx: &mut Pullback) -> Result<()> $vjp
        }
    };
}

fn dot<W: Wide>(a: &[W], b: &[W]) -> W {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

fn softmax<W: Wide>(x: &[W], y: &mut [W]) {
    let max = x.iter().copied().fold(W::of(f64::NEG_INFINITY), W::max);
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - max).exp());
    let sum: W = y.iter().copied().sum();
    y.iter_mut().for_each(|y| *y = *y / sum);
}

row_op!(
    /// x -> p
    Softmax softmax, "softmax", |row, y| {
        softmax(row(0), &mut y);
    },
    |cx| {
        let (p, g) = (cx.y(), cx.g());
        cx.send(0, SoftmaxGrad, &[p, g])
    }
);
row_op!(
    /// (p, g) -> p (g - <p, g>)
    SoftmaxGrad gradient, "softmax_grad", |row, y| {
        let (p, g) = (row(0), row(1));
        let mean = dot(p, g);
        y.iter_mut().zip(p.iter().zip(g)).for_each(|(y, (&p, &g))| *y = p * (g - mean));
    },
    |cx| {
        let (p, g, v) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, SoftmaxGradGrad, &[p, g, v])?;
        cx.send(1, SoftmaxGrad, &[p, v])
    }
);
row_op!(
    /// (p, g, v) -> d/dp of <v, SoftmaxGrad(p, g)> = v (g - <p, g>) - g <p, v>
    SoftmaxGradGrad second, "softmax_grad_grad", |row, y| {
        let (p, g, v) = (row(0), row(1), row(2));
        let (pg, pv) = (dot(p, g), dot(p, v));
        y.iter_mut().zip(g.iter().zip(v)).for_each(|(y, (&g, &v))| *y = v * (g - pg) - g * pv);
    },
    |cx| {
        let _ = cx;
        Err(Error::NoDerivative { op: "softmax_grad_grad" })
    }
);
