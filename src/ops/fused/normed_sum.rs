//! The mixed operation's sum with the batch norms of its terms applied as they are read.
//!
//! `y = sum_k W[i_k] z_k`,  z_k = (x_k - m_k) r_k where term k is normalised, else x_k.
//!
//! With S1 = sum dy and S2_k = sum dy z_k over the pixels of a channel, M pixels:
//! `dW[i_k]` = sum over channels of S2_k;  `dx_k = W[i_k] r_k (dy - S1/M - z_k S2_k/M)`, or `W[i_k] dy`.
//!
//! So the sums that the normalisations need give the gradient of the mixing weights for nothing.

use crate::error::{Error, Result};
use crate::on_real;
use crate::ops::batch_norm::{BatchNorm, mean_and_r};
use crate::ops::cpu::channel::apply2;
use crate::ops::cpu::normed_sum as kernel;
use crate::ops::pointwise::same;
use crate::ops::weighted_sum::{ScaleByEntry, WeightedSum};
use crate::tape::{Cost, Op, Out, Pullback, Tape, Var};
use crate::tensor::{Element, Real, Shape, Tensor};
use std::rc::Rc;

/// One term: its element of W, and whether its batch norm is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub entry: usize,
    pub normed: bool,
}

/// (W, x_0, x_1, ..., statistics of the normed x_k in order) -> y
#[derive(Clone, Debug)]
pub struct NormedSum {
    pub terms: Rc<[Term]>,
}

/// Terms as the kernels take them: values, and statistics where normed.
fn gather<'a, R: Real + Element>(
    terms: &[Term],
    xs: &[&'a Tensor],
    stats: &[&'a Tensor],
) -> Vec<kernel::Term<'a, R>> {
    let mut stats = stats.iter();
    let one = |(term, x): (&Term, &&'a Tensor)| kernel::Term {
        entry: term.entry,
        x: x.as_slice::<R>(),
        stats: if term.normed { stats.next().map(|s| mean_and_r::<R>(s)) } else { None },
    };
    terms.iter().zip(xs).map(one).collect()
}

impl NormedSum {
    fn normed(&self) -> usize {
        self.terms.iter().filter(|t| t.normed).count()
    }
}

impl Op for NormedSum {
    fn name(&self) -> &'static str {
        "normed_sum"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let k = self.terms.len();
        if k == 0 || ins.len() != 1 + k + self.normed() {
            return Err(Error::shape(self.name(), format!("{k} terms for {} inputs", ins.len())));
        }
        if self.terms.iter().any(|t| t.entry >= ins[0].count()) {
            return Err(Error::shape(self.name(), format!("a term's weight is not in a matrix {}", ins[0])));
        }
        let out = same(self.name(), &ins[1..=k])?;
        match ins[1 + k..].iter().find(|s| **s != Shape::from([3, out.last()])) {
            Some(s) => Err(Error::shape(self.name(), format!("statistics {s} of an input {out}"))),
            None => Ok(out),
        }
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[1], 2 * self.terms.len() as u64)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let (k, c, add) = (self.terms.len(), out.value.shape().last(), out.accumulate);
        on_real!(out.value.dtype(), R => {
            let terms = gather::<R>(&self.terms, &ins[1..=k], &ins[1 + k..]);
            kernel::forward(ins[0].as_slice::<R>(), &terms, c, out.value.make_mut::<R>(), add);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        if cx.records() {
            return cx.by_reference(|tape, ins| self.reference(tape, ins));
        }
        let (xs, g, k) = (cx.xs(), cx.g(), self.terms.len());
        let mut ins = vec![g];
        ins.extend(&xs[1..]);
        let sums = cx.tape().apply(Sums { terms: self.terms.clone() }, &ins)?;
        let shape = cx.tape().shape(xs[0]);
        cx.send(0, WeightGrad { terms: self.terms.clone(), shape }, &[sums])?;
        let mut stats = xs[1 + k..].iter();
        for (i, &Term { entry, normed }) in self.terms.iter().enumerate() {
            match stats.next_if(normed) {
                Some(&stats) => {
                    cx.send(1 + i, InputGrad { entry, term: i }, &[g, xs[1 + i], stats, sums, xs[0]])?
                }
                None => cx.send(1 + i, ScaleByEntry { entry }, &[g, xs[0]])?,
            }
        }
        Ok(())
    }
    fn reference(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var> {
        let mut all = vec![ins[0]];
        for (term, &x) in self.terms.iter().zip(&ins[1..]) {
            all.push(if term.normed { tape.apply(BatchNorm, &[x])? } else { x });
        }
        tape.apply(WeightedSum::new(self.terms.iter().map(|t| t.entry)), &all)
    }
}

trait NextIf: Iterator {
    fn next_if(&mut self, take: bool) -> Option<Self::Item> {
        if take { self.next() } else { None }
    }
}
impl<I: Iterator> NextIf for I {}

/// (dy, x_0, ..., statistics) -> rows S2_0, S2_1, ..., S1 of sums over pixels, (terms + 1, C)
#[derive(Clone, Debug)]
struct Sums {
    terms: Rc<[Term]>,
}
impl Op for Sums {
    fn name(&self) -> &'static str {
        "normed_sum_sums"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        Ok(Shape::from([self.terms.len() + 1, ins[0].last()]))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let flops = (4 * self.terms.len() * ins[0].count()) as u64;
        Cost { flops, ..Cost::pointwise(ins, Shape::from([self.terms.len() + 1, ins[0].last()]), 0) }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let (k, c) = (self.terms.len(), ins[0].shape().last());
        on_real!(out.value.dtype(), R => {
            let terms = gather::<R>(&self.terms, &ins[1..=k], &ins[1 + k..]);
            kernel::sums(ins[0].as_slice::<R>(), &terms, c, out.value.make_mut::<R>());
        });
        Ok(())
    }
}

/// sums -> dW: the row of each term summed over the channels, at the term's place
#[derive(Clone, Debug)]
struct WeightGrad {
    terms: Rc<[Term]>,
    /// Shape of W.
    shape: Shape,
}
impl Op for WeightGrad {
    fn name(&self) -> &'static str {
        "normed_sum_weight"
    }
    fn shape(&self, _ins: &[Shape]) -> Result<Shape> {
        Ok(self.shape)
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, self.shape, 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let c = ins[0].shape().last();
        on_real!(out.value.dtype(), R => {
            let to = out.value.make_mut::<R>();
            if !out.accumulate {
                to.fill(R::ZERO);
            }
            for (term, row) in self.terms.iter().zip(ins[0].as_slice::<R>().chunks_exact(c)) {
                to[term.entry] += R::narrow(row.iter().map(|x| x.wide()).sum());
            }
        });
        Ok(())
    }
}

/// (dy, x_k, statistics of x_k, sums, W) -> `W[entry] r (dy - S1/M - z S2_k/M)`
#[derive(Clone, Copy, Debug)]
struct InputGrad {
    entry: usize,
    term: usize,
}
impl Op for InputGrad {
    fn name(&self) -> &'static str {
        "normed_sum_input"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        same(self.name(), &ins[..2])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(&ins[..2], ins[0], 5)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let c = ins[0].shape().last();
        on_real!(out.value.dtype(), R => {
            let (g, x) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>());
            let sums: Vec<&[R]> = ins[3].as_slice::<R>().chunks_exact(c).collect();
            let weight = ins[4].as_slice::<R>()[self.entry].wide();
            let (s2, s1) = (sums[self.term], sums[sums.len() - 1]);
            apply_norm_grad(g, x, mean_and_r::<R>(ins[2]), [s1, s2], weight, out);
        });
        Ok(())
    }
}

/// out (+)= weight r (g - S1/M - z S2/M)
pub(super) fn apply_norm_grad<R: Real + Element>(
    g: &[R],
    x: &[R],
    (mean, r): (&[R], &[R]),
    [s1, s2]: [&[R]; 2],
    weight: R::Wide,
    out: &mut Out,
) {
    let m = R::Wide::of((g.len() / r.len()) as f64);
    let each = |f: &dyn Fn(usize) -> R::Wide| -> Vec<R> { (0..r.len()).map(|c| R::narrow(f(c))).collect() };
    let outer = each(&|c| weight * r[c].wide());
    let shift = each(&|c| s1[c].wide() / m);
    let slope = each(&|c| r[c].wide() * s2[c].wide() / m);
    apply2(g, x, &[mean, &outer, &shift, &slope], out, |g, x, p| p[1] * (g - p[2] - (x - p[0]) * p[3]));
}
