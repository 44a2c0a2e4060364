//! Batch normalisation over all but the channels, without its affine part (see `channel`).
//!
//! M elements a channel, m and s2 their mean and biased variance, r = 1/sqrt(s2 + eps), z = (x - m) r:
//!
//! y = z;  dx = r (g - sum(g)/M - z sum(g z)/M).
//!
//! The backward is linear and symmetric in g, so its own derivative in g is itself; that in x is written out in
//! [`BatchNormGradGrad`]. Ioffe and Szegedy, arXiv 1502.03167.

use super::cuda::batch_norm as twin;
use super::pointwise::same;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback, Saved};
use crate::tensor::{Real, Shape, Tensor};
use oche_cpu::channel::{Moments, Product, WithNormalised, apply, sums};

/// Added to the variance.
pub use oche_cpu::EPSILON;

/// x -> z with the statistics of this batch, which are saved as rows mean, r and biased variance, (3, C).
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm;

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        if ins[0].rank() < 2 || ins[0].count() <= ins[0].last() {
            let what = format!("needs more than one value a channel, got {}; take a larger batch", ins[0]);
            return Err(Error::shape(self.name(), what));
        }
        Ok(ins[0])
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        vec![Saved::Exact(Shape::from([3, ins[0].last()]))]
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 7)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::forward(&cuda, ins[0], out);
        }
        on_real!(out.value.dtype(), R => {
            let x = ins[0].as_slice::<R>();
            let c = ins[0].shape().last();
            let stats = out.saved[0].make_mut::<R>();
            statistics(x, c, stats);
            let (mean, r) = (stats[..c].to_vec(), stats[c..2 * c].to_vec());
            apply([x, x], &[&mean, &r], out.value.make_mut(), out.accumulate, |x, _, p| (x - p[0]) * p[1]);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (g, x, stats) = (cx.g(), cx.x(0), cx.saved(0));
        cx.send(0, BatchNormGrad, &[g, x, stats])
    }
}

/// Writes mean, r and biased variance of x, (3, C): one pass over moments about the first pixel, a value of the right
/// size, so that nothing cancels.
fn statistics<R: Real>(x: &[R], c: usize, to: &mut [R]) {
    let (shift, m) = (&x[..c], R::Wide::of((x.len() / c) as f64));
    let [sum, square] = sums(x, x, &[shift], Moments);
    for i in 0..c {
        let d = sum[i] / m;
        let variance = (square[i] / m - d * d).max(R::Wide::ZERO);
        let r = R::Wide::ONE / (variance + R::Wide::of(EPSILON)).sqrt();
        let row = [shift[i].wide() + d, r, variance];
        row.into_iter().enumerate().for_each(|(k, x)| to[k * c + i] = R::narrow(x));
    }
}

/// Statistics held fixed, in the form that [`BatchNorm`] saves.
pub fn fixed_statistics(mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
    if let Some(cuda) = mean.cuda() {
        return twin::fixed_statistics(cuda, mean, variance);
    }
    let c = mean.count();
    let mut stats = Tensor::scratch([3, c], mean.dtype());
    on_real!(mean.dtype(), R => {
        let rows = [mean.as_slice::<R>(), &rsqrt::<R>(variance), variance.as_slice::<R>()];
        stats.make_mut::<R>().chunks_exact_mut(c).zip(rows).for_each(|(to, from)| to.copy_from_slice(from));
    });
    Ok(stats)
}

/// Splits saved statistics into mean and r.
pub(super) fn mean_and_r<R: Real + crate::tensor::Element>(stats: &Tensor) -> (&[R], &[R]) {
    let c = stats.shape().last();
    let rows = stats.as_slice::<R>();
    (&rows[..c], &rows[c..2 * c])
}

/// The shape of `ins`, all alike but for the last, which holds saved statistics.
fn with_statistics(op: &'static str, ins: &[Shape]) -> Result<Shape> {
    let (stats, images) = (ins[ins.len() - 1], &ins[..ins.len() - 1]);
    let x = same(op, images)?;
    match stats == Shape::from([3, x.last()]) {
        true => Ok(x),
        false => Err(Error::shape(op, format!("statistics {stats} are not three numbers a channel of {x}"))),
    }
}

/// (g, x, statistics of x) -> r (g - sum(g)/M - z sum(g z)/M)
#[derive(Clone, Copy, Debug)]
pub struct BatchNormGrad;
impl Op for BatchNormGrad {
    fn name(&self) -> &'static str {
        "batch_norm_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        with_statistics(self.name(), ins)
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 10)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::gradient(&cuda, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let (g, x) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>());
            let (mean, r) = mean_and_r::<R>(ins[2]);
            let m = <R as Real>::Wide::of((x.len() / r.len()) as f64);
            let [s1, s2] = sums(g, x, &[mean, r], WithNormalised);
            let s1: Vec<R> = s1.iter().map(|&s| R::narrow(s / m)).collect();
            let s2: Vec<R> = s2.iter().map(|&s| R::narrow(s / m)).collect();
            apply([g, x], &[mean, r, &s1, &s2], out.value.make_mut(), out.accumulate, |g, x, p| {
                let z = (x - p[0]) * p[1];
                p[1] * (g - p[2] - z * p[3])
            });
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (v, g, x, stats) = (cx.g(), cx.x(0), cx.x(1), cx.x(2));
        cx.send(0, BatchNormGrad, &[v, x, stats])?;
        cx.send(1, BatchNormGradGrad, &[v, g, x, stats])
    }
}

/// (v, g, x, statistics of x) -> d/dx of <v, BatchNormGrad(g, x)>.
///
/// With Q = v.g - sum(v) sum(g)/M - (v.z)(g.z)/M and u = -(r/M) (v (g.z) + g (v.z)):
/// dx = -Q r^2 z/M + r (u - sum(u)/M - z (u.z)/M).
#[derive(Clone, Copy, Debug)]
pub struct BatchNormGradGrad;
impl Op for BatchNormGradGrad {
    fn name(&self) -> &'static str {
        "batch_norm_grad_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        with_statistics(self.name(), ins)
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 20)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::second(&cuda, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let [v, g, x] = [0, 1, 2].map(|k| ins[k].as_slice::<R>());
            let (mean, r) = mean_and_r::<R>(ins[3]);
            let m = <R as Real>::Wide::of((x.len() / r.len()) as f64);
            let with_z = |a| sums(a, x, &[mean, r], WithNormalised);
            let ([sv, vz], [sg, gz]) = (with_z(v), with_z(g));
            let [vg] = sums(v, g, &[mean], Product);
            let mut factors: [Vec<R>; 4] = Default::default(); // of v, g, 1 and z
            for c in 0..r.len() {
                let r = r[c].wide();
                let q = vg[c] - sv[c] * sg[c] / m - vz[c] * gz[c] / m;
                let (uv, ug) = (-r / m * gz[c], -r / m * vz[c]);
                let (su, uz) = (uv * sv[c] + ug * sg[c], uv * vz[c] + ug * gz[c]);
                let row = [r * uv, r * ug, -r * su / m, -q * r * r / m - r * uz / m];
                factors.iter_mut().zip(row).for_each(|(f, x)| f.push(R::narrow(x)));
            }
            let [fv, fg, one, z] = &factors;
            let (y, add) = (out.value.make_mut(), out.accumulate);
            apply([v, g], &[fv, fg], y, add, |v, g, p| v * p[0] + g * p[1]);
            apply([x, x], &[one, z, mean, r], y, true, |x, _, p| p[0] + p[1] * ((x - p[2]) * p[3]));
        });
        Ok(())
    }
}

/// (x, mean, variance) -> (x - mean) / sqrt(variance + eps): statistics held fixed, as when evaluating.
#[derive(Clone, Copy, Debug)]
pub struct Normalise;
impl Op for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let c = Shape::from([ins[0].last()]);
        if ins[1] != c || ins[2] != c {
            let what =
                format!("statistics {} and {} are not one number a channel of {}", ins[1], ins[2], ins[0]);
            return Err(Error::shape(self.name(), what));
        }
        Ok(ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 2)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::normalise(&cuda, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let r = rsqrt::<R>(ins[2]);
            let (x, mean) = (ins[0].as_slice::<R>(), ins[1].as_slice());
            apply([x, x], &[mean, &r], out.value.make_mut(), out.accumulate, |x, _, p| (x - p[0]) * p[1]);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (g, variance) = (cx.g(), cx.x(2));
        cx.send(0, NormaliseGrad, &[g, variance])
    }
}

/// (g, variance) -> g / sqrt(variance + eps)
#[derive(Clone, Copy, Debug)]
pub struct NormaliseGrad;
impl Op for NormaliseGrad {
    fn name(&self) -> &'static str {
        "normalise_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        if ins[1] != Shape::from([ins[0].last()]) {
            let what = format!("variance {} is not one number a channel of {}", ins[1], ins[0]);
            return Err(Error::shape(self.name(), what));
        }
        Ok(ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 1)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::normalise_gradient(&cuda, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let (g, r) = (ins[0].as_slice::<R>(), rsqrt::<R>(ins[1]));
            apply([g, g], &[&r], out.value.make_mut(), out.accumulate, |g, _, p| g * p[0]);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (g, variance) = (cx.g(), cx.x(1));
        cx.send(0, NormaliseGrad, &[g, variance])
    }
}

fn rsqrt<R: Real + crate::tensor::Element>(variance: &Tensor) -> Vec<R> {
    variance
        .as_slice::<R>()
        .iter()
        .map(|v| R::narrow(R::Wide::ONE / (v.wide() + R::Wide::of(EPSILON)).sqrt()))
        .collect()
}
