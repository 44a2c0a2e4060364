//! The mixed operation's sum: `y = sum_k W[i_k] x_k`, weights being chosen elements of a matrix W.
//!
//! One call sums all candidates of all edges into a node, so nothing is added pairwise. With p = softmax(alpha) as W
//! this is eq. 2 of "DARTS: Differentiable Architecture Search" (arXiv 1806.09055).
//!
//! `dx_k = W[i_k] dy`;  `dW[i_k] = <dy, x_k>`.

use super::cuda::weighted_sum as twin;
use super::elementwise::{CHUNK, map1};
use super::pointwise::same;
use crate::device::simd::{Kernel, Vector, dispatch_widest};
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{DType, Real, Shape, Tensor};
use rayon::prelude::*;
use std::rc::Rc;

/// (W, x_0, x_1, ...) -> `sum_k W[entries[k]] x_k`
#[derive(Clone, Debug)]
pub struct WeightedSum {
    /// Row-major positions in W, one an input; distinct.
    pub entries: Rc<[usize]>,
}

impl WeightedSum {
    pub fn new(entries: impl IntoIterator<Item = usize>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

/// Fails if one of `entries` is not in a matrix of shape `weights`.
fn inside(op: &'static str, entries: &[usize], weights: Shape) -> Result<()> {
    match entries.iter().find(|&&e| e >= weights.count()) {
        Some(e) => Err(Error::shape(op, format!("no element {e} in weights of shape {weights}"))),
        None => Ok(()),
    }
}

impl Op for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        if ins.len() < 2 || ins.len() != self.entries.len() + 1 {
            let what = format!("{} weights for {} inputs", self.entries.len(), ins.len().saturating_sub(1));
            return Err(Error::shape(self.name(), what));
        }
        inside(self.name(), &self.entries, ins[0])?;
        same(self.name(), &ins[1..])
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[1] // W may be more exact than the images
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[1], 2 * self.entries.len() as u64)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::weighted_sum(&cuda, &self.entries, ins, out);
        }
        let accumulate = out.accumulate;
        on_real!(out.value.dtype(), R => {
            let weights = ins[0].as_slice::<R>();
            let xs: Vec<(R, &[R])> =
                self.entries.iter().zip(&ins[1..]).map(|(&e, x)| (weights[e], x.as_slice::<R>())).collect();
            out.value.make_mut::<R>().par_chunks_mut(CHUNK / 4).enumerate().for_each(|(c, y)| {
                if !accumulate {
                    y.fill(R::ZERO);
                }
                dispatch_widest(AddScaled { xs: &xs, start: c * (CHUNK / 4), y });
            });
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (xs, g) = (cx.xs(), cx.g());
        for (k, &entry) in self.entries.iter().enumerate() {
            cx.send(k + 1, ScaleByEntry { entry }, &[g, xs[0]])?;
        }
        let shape = cx.tape().shape(xs[0]);
        let mut ins = vec![g];
        ins.extend(&xs[1..]);
        cx.send(0, WeightGrad { entries: self.entries.clone(), shape }, &ins)
    }
}

/// y += sum_k w_k x_k over one chunk, four inputs a pass so that y is loaded a quarter as often.
struct AddScaled<'a, R> {
    xs: &'a [(R, &'a [R])],
    start: usize,
    y: &'a mut [R],
}
impl<R: Real> Kernel<R> for AddScaled<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { xs, start, y } = self;
        let n = y.len();
        let mut groups = xs.chunks_exact(4);
        for group in &mut groups {
            let [(w0, x0), (w1, x1), (w2, x2), (w3, x3)] = [group[0], group[1], group[2], group[3]];
            let (x0, x1, x2, x3) =
                (&x0[start..][..n], &x1[start..][..n], &x2[start..][..n], &x3[start..][..n]);
            for i in 0..n {
                y[i] += (w0 * x0[i] + w1 * x1[i]) + (w2 * x2[i] + w3 * x3[i]);
            }
        }
        for &(w, x) in groups.remainder() {
            y.iter_mut().zip(&x[start..][..n]).for_each(|(y, &x)| *y += w * x);
        }
    }
}

/// (g, W) -> `W[entry] g`
#[derive(Clone, Copy, Debug)]
pub struct ScaleByEntry {
    pub entry: usize,
}
impl Op for ScaleByEntry {
    fn name(&self) -> &'static str {
        "scale_by_entry"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        inside(self.name(), &[self.entry], ins[1])?;
        Ok(ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(&ins[..1], ins[0], 1)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::scale_by_entry(&cuda, self.entry, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let w = ins[1].as_slice::<R>()[self.entry];
            map1::<R>(ins[0], out, move |x| w * x);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (g, w, gg) = (cx.x(0), cx.x(1), cx.g());
        let shape = cx.tape().shape(w);
        cx.send(0, *self, &[gg, w])?;
        cx.send(1, WeightGrad { entries: [self.entry].into(), shape }, &[gg, g])
    }
}

/// (g, x_0, x_1, ...) -> matrix with <g, x_k> at `entries[k]` and 0 elsewhere
#[derive(Clone, Debug)]
pub struct WeightGrad {
    pub entries: Rc<[usize]>,
    /// Shape of W.
    pub shape: Shape,
}
impl Op for WeightGrad {
    fn name(&self) -> &'static str {
        "weighted_sum_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        if ins.len() != self.entries.len() + 1 {
            let what = format!("{} weights for {} inputs", self.entries.len(), ins.len() - 1);
            return Err(Error::shape(self.name(), what));
        }
        inside(self.name(), &self.entries, self.shape)?;
        same(self.name(), ins)?;
        Ok(self.shape)
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[0].exact()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let flops = 2 * (self.entries.len() * ins[0].count()) as u64;
        Cost { flops, ..Cost::pointwise(ins, self.shape, 0) }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::weight_grad(&cuda, &self.entries, ins, out);
        }
        let accumulate = out.accumulate;
        on_real!(out.value.dtype(), R => {
            let g = ins[0].as_slice::<R>();
            let xs: Vec<&[R]> = ins[1..].iter().map(|x| x.as_slice::<R>()).collect();
            let starts: Vec<usize> = (0..g.len()).step_by(CHUNK / 4).collect();
            let parts: Vec<Vec<R>> = starts
                .into_par_iter()
                .map(|start| {
                    let g = &g[start..(start + CHUNK / 4).min(g.len())];
                    xs.iter().map(|x| dispatch_widest(Inner(g, &x[start..][..g.len()]))).collect()
                })
                .collect();
            let y = out.value.make_mut::<R>();
            if !accumulate {
                y.fill(R::ZERO);
            }
            for (k, &entry) in self.entries.iter().enumerate() {
                y[entry] += R::narrow(parts.iter().map(|p| p[k].wide()).sum());
            }
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (xs, gg) = (cx.xs(), cx.g());
        let mut ins = vec![gg];
        ins.extend(&xs[1..]);
        cx.send(0, WeightedSum { entries: self.entries.clone() }, &ins)?;
        for (k, &entry) in self.entries.iter().enumerate() {
            cx.send(k + 1, ScaleByEntry { entry }, &[xs[0], gg])?;
        }
        Ok(())
    }
}

/// Inner product with enough accumulators to hide the latency of the multiply-add.
pub(super) struct Inner<'a, R>(pub &'a [R], pub &'a [R]);
impl<R: Real> Kernel<R> for Inner<'_, R> {
    type Output = R;
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) -> R {
        let Self(a, b) = self;
        let (n, step) = (a.len().min(b.len()), 4 * V::LANES);
        let mut sums = [V::zero(); 4];
        let whole = n / step * step;
        for i in (0..whole).step_by(step) {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: i + step <= n, so all lanes are inside both slices.
                *sum = unsafe {
                    let at = i + j * V::LANES;
                    V::load(a.as_ptr().add(at)).fma(V::load(b.as_ptr().add(at)), *sum)
                };
            }
        }
        let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
        let mut lanes = [R::ZERO; 16];
        // SAFETY: a vector has at most 16 lanes.
        unsafe { sum.store(lanes.as_mut_ptr()) };
        let mut total = lanes[..V::LANES].iter().fold(R::ZERO, |s, &x| s + x);
        for i in whole..n {
            total += a[i] * b[i];
        }
        total
    }
}
