//! The architecture gradient d/dalpha L_valid(w'(alpha), alpha), in three ways.
//!
//! With the virtual step w' = w - xi (mu m + grad_w L_train(w, alpha) + wd w), m the momentum buffer:
//!
//! first:   grad_alpha L_valid(w, alpha)                                               (w' = w)
//! second:  grad_alpha L_valid(w', alpha) - xi (grad_alpha L_train(w + e v, alpha) - grad_alpha L_train(w - e v, alpha)) / (2 e)
//! exact:   grad_alpha L_valid(w', alpha) - xi d2 L_train(w, alpha) / dalpha dw . v
//!
//! with v = grad_w' L_valid(w', alpha) and e = radius / |v|. Equations 6 to 8 of arXiv 1806.09055. All passes
//! normalise by the batch and leave running statistics, weights and momentum as they were.

use super::pass::{Forward, Pass, Want, forward};
use super::step::Hyper;
use crate::data::loader::Batch;
use crate::error::Result;
use crate::nn::{NormMode, RunningStats, global_norm, plus_scaled};
use crate::ops::pointwise::{Add, Dot};
use crate::space::Supernet;
use crate::tape::{ParamSet, Tape};
use crate::tensor::{Real, Tensor};

impl Order {
    /// The passes of a whole search step: which gradients each computes. The exact order's recorded pass counts as one
    /// that computes both, which is less than it does.
    pub fn passes(self) -> &'static [Want] {
        match self {
            Order::First => &[ALPHAS, WEIGHTS],
            Order::Second => &[WEIGHTS, BOTH, ALPHAS, ALPHAS, WEIGHTS],
            Order::Exact => &[WEIGHTS, BOTH, BOTH, WEIGHTS],
        }
    }
}

/// How the architecture gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    First,
    /// Unrolled, Hessian-vector product by finite differences.
    Second,
    /// Unrolled, Hessian-vector product from the recorded pullback.
    Exact,
}

const WEIGHTS: Want = Want { weights: true, alphas: false };
const ALPHAS: Want = Want { weights: false, alphas: true };
const BOTH: Want = Want { weights: true, alphas: true };

/// Where the gradient is taken.
pub struct Point<'a> {
    pub net: &'a dyn Supernet,
    pub weights: &'a Tensor,
    pub momentum: &'a Tensor,
    pub alphas: &'a [Tensor],
    pub running: &'a mut RunningStats,
    /// Learning rate of the weights, which is also the virtual step's (xi).
    pub learning_rate: f64,
    pub hyper: &'a Hyper,
}

impl Point<'_> {
    fn pass(&mut self, weights: &Tensor, batch: &Batch, want: Want) -> Result<Pass> {
        Pass::run(self.net, (weights, self.alphas), batch, self.running, false, want)
    }

    /// The gradient, and the pass over `valid` that it contains.
    pub fn gradient(&mut self, order: Order, train: &Batch, valid: &Batch) -> Result<(Vec<Tensor>, Pass)> {
        let weights = self.weights.clone();
        if order == Order::First {
            let mut pass = self.pass(&weights, valid, ALPHAS)?;
            return Ok((pass.alphas.take().unwrap_or_default(), pass));
        }
        let step = self.pass(&weights, train, WEIGHTS)?;
        let step = step.weights.unwrap_or_else(|| Tensor::zeros(*weights.shape(), weights.dtype()));
        let moved = self.hyper.sgd.virtual_step(&weights, self.momentum, &step, self.learning_rate);
        drop(step);
        let mut pass = self.pass(&moved, valid, BOTH)?;
        drop(moved);
        let (mut gradient, v) = match (pass.alphas.take(), pass.weights.take()) {
            (Some(alphas), Some(v)) => (alphas, v),
            _ => unreachable!("both gradients were asked for"),
        };
        let product = match order {
            Order::Exact => self.exact_product(train, &v)?,
            _ => self.difference_product(train, &v)?,
        };
        for (g, p) in gradient.iter_mut().zip(&product) {
            *g = plus_scaled(g, -self.learning_rate, p);
        }
        Ok((gradient, pass))
    }

    /// d2 L_train / dalpha dw . v by central differences of the published radius (eq. 8).
    fn difference_product(&mut self, train: &Batch, v: &Tensor) -> Result<Vec<Tensor>> {
        let norm = global_norm(v);
        if norm == 0.0 {
            return Ok(self.alphas.iter().map(|a| Tensor::zeros(*a.shape(), a.dtype())).collect());
        }
        let e = self.hyper.radius / norm;
        let at = self.weights.clone();
        let mut probe = |e: f64| -> Result<Vec<Tensor>> {
            Ok(self.pass(&plus_scaled(&at, e, v), train, ALPHAS)?.alphas.unwrap_or_default())
        };
        let (plus, minus) = (probe(e)?, probe(-e)?);
        Ok(plus.iter().zip(&minus).map(|(p, m)| difference(p, m, 1.0 / (2.0 * e))).collect())
    }

    /// d2 L_train / dalpha dw . v, exactly: the gradient in alpha of <grad_w L_train, v>.
    fn exact_product(&mut self, train: &Batch, v: &Tensor) -> Result<Vec<Tensor>> {
        let at = (self.weights, self.alphas);
        let Forward { mut tape, weights, alphas, loss, .. } =
            forward(self.net, Tape::new(), at, train, NormMode::Batch, self.running, BOTH)?;
        let grads = tape.grad_recorded(loss, &weights)?;
        let direction = ParamSet { layout: self.net.layout().clone(), flat: v.clone() };
        let mut sum = None;
        for (k, g) in grads.into_iter().enumerate() {
            let v = tape.constant(direction.slice(k));
            let term = tape.apply(Dot, &[g, v])?;
            sum = Some(match sum {
                None => term,
                Some(sum) => tape.apply(Add, &[sum, term])?,
            });
        }
        Ok(tape.into_grad(sum.unwrap_or(loss), &alphas)?.0)
    }
}

/// (p - m) c
fn difference(p: &Tensor, m: &Tensor, c: f64) -> Tensor {
    let mut d = p.clone();
    crate::on_real!(d.dtype(), R => {
        let c = R::of(c);
        d.make_mut::<R>().iter_mut().zip(m.as_slice::<R>()).for_each(|(p, &m)| *p = (*p - m) * c);
    });
    d
}
