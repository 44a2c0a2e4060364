//! Weighted sums of many images whose batch norms are applied as they are read, and the sums of its backward.

use super::channel::{Plain, Product, TimesNormalised, chunk, expand, part_sums};
use crate::device::simd::{Kernel, Vector, dispatch_widest};
use crate::tensor::Real;
use rayon::prelude::*;

/// One term: its weight's place, its values, and mean and r of each channel if it is normalised.
pub struct Term<'a, R> {
    pub entry: usize,
    pub x: &'a [R],
    pub stats: Option<(&'a [R], &'a [R])>,
}

/// `y (+)= sum_k weights[entry_k] z_k`, `c` channels.
pub fn forward<R: Real>(weights: &[R], terms: &[Term<R>], c: usize, y: &mut [R], accumulate: bool) {
    // z = (x - m) r: factor w r for x, and all the -w r m in one constant
    let mut constant = vec![R::Wide::ZERO; c];
    let factors: Vec<Vec<R>> = (terms.iter())
        .map(|t| match t.stats {
            None => vec![weights[t.entry]; c],
            Some((mean, r)) => {
                let w = weights[t.entry].wide();
                (0..c).for_each(|i| constant[i] -= w * r[i].wide() * mean[i].wide());
                r.iter().map(|r| R::narrow(w * r.wide())).collect()
            }
        })
        .collect();
    let constant: Vec<R> = constant.into_iter().map(R::narrow).collect();
    let rows = expand(&factors.iter().map(|f| &f[..]).collect::<Vec<_>>());
    let constant = &expand(&[&constant])[0];
    let size = (chunk(c) / constant.len() / 4).max(1) * constant.len();
    y.par_chunks_mut(size).enumerate().for_each(|(i, y)| {
        dispatch_widest(Forward { terms, rows: &rows, constant, start: i * size, y, accumulate });
    });
}

struct Forward<'a, R> {
    terms: &'a [Term<'a, R>],
    rows: &'a [Vec<R>],
    constant: &'a [R],
    start: usize,
    y: &'a mut [R],
    accumulate: bool,
}

impl<R: Real> Kernel<R> for Forward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { terms, rows, constant, start, y, accumulate } = self;
        let n = constant.len();
        for y in y.chunks_mut(n) {
            let b = &constant[..y.len()];
            match accumulate {
                true => y.iter_mut().zip(b).for_each(|(y, &b)| *y += b),
                false => y.copy_from_slice(b),
            }
        }
        // four terms a sweep: y, which stays in the first-level cache, is loaded a quarter as often
        let mut k = 0;
        while k + 4 <= terms.len() {
            let x: [&[R]; 4] = std::array::from_fn(|i| &terms[k + i].x[start..][..y.len()]);
            let p: [&[R]; 4] = std::array::from_fn(|i| &rows[k + i][..]);
            for (row, y) in y.chunks_mut(n).enumerate() {
                let m = y.len();
                let [x0, x1, x2, x3] = x.map(|x| &x[row * n..][..m]);
                let [p0, p1, p2, p3] = p.map(|p| &p[..m]);
                for i in 0..m {
                    y[i] += (p0[i] * x0[i] + p1[i] * x1[i]) + (p2[i] * x2[i] + p3[i] * x3[i]);
                }
            }
            k += 4;
        }
        for k in k..terms.len() {
            let x = &terms[k].x[start..][..y.len()];
            for (y, x) in y.chunks_mut(n).zip(x.chunks(n)) {
                let (m, p) = (y.len(), &rows[k]);
                let (x, p) = (&x[..m], &p[..m]);
                for i in 0..m {
                    y[i] += p[i] * x[i];
                }
            }
        }
    }
}

/// Rows of `out`, (terms + 1, C): sum dy z_k for each term, then sum dy.
pub fn sums<R: Real>(dy: &[R], terms: &[Term<R>], c: usize, out: &mut [R]) {
    let size = chunk(c);
    let none = &expand(&[&vec![R::ZERO; c][..]])[0];
    let stats: Vec<Option<[Vec<R>; 2]>> = (terms.iter())
        .map(|t| {
            let (mean, r) = t.stats?;
            Some([mean, r].map(|p| expand(&[p]).remove(0)))
        })
        .collect();
    let starts: Vec<usize> = (0..dy.len()).step_by(size).collect();
    let parts: Vec<Vec<R::Wide>> = starts
        .into_par_iter()
        .map(|start| {
            let dy = &dy[start..(start + size).min(dy.len())];
            let mut part = Vec::with_capacity((terms.len() + 1) * c);
            for (term, stats) in terms.iter().zip(&stats) {
                let x = &term.x[start..][..dy.len()];
                let [sum] = match stats {
                    Some([mean, r]) => part_sums(dy, x, c, [mean, r], TimesNormalised),
                    None => part_sums(dy, x, c, [none, none], Product),
                };
                part.extend(sum);
            }
            let [sum] = part_sums(dy, dy, c, [none, none], Plain);
            part.extend(sum);
            part
        })
        .collect();
    for (i, to) in out.iter_mut().enumerate() {
        *to = R::narrow(parts.iter().map(|p| p[i]).sum());
    }
}
