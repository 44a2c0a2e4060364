//! The gradient of a bilevel problem: d/dalpha of the outer loss at weights that one inner step has moved.
//!
//! With the virtual step w' = w - xi (mu m + grad_w L_train(w, alpha) + wd w), m the momentum buffer:
//!
//! first:   grad_alpha L_valid(w, alpha)                                               (w' = w)
//! second:  grad_alpha L_valid(w', alpha) - xi (grad_alpha L_train(w + e v, alpha) - grad_alpha L_train(w - e v, alpha)) / (2 e)
//! exact:   grad_alpha L_valid(w', alpha) - xi d2 L_train(w, alpha) / dalpha dw . v
//!
//! with v = grad_w' L_valid(w', alpha) and e = radius / |v|. Equations 6 to 8 of arXiv 1806.09055.

use super::pass::Want;
use crate::error::Result;
use crate::nn::{Factor, Scalar, Sgd, difference, global_norm, plus_scaled};
use crate::ops::pointwise::{Add, Dot};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// How the architecture gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    First,
    /// Unrolled, Hessian-vector product by finite differences.
    Second,
    /// Unrolled, Hessian-vector product by dual numbers.
    Exact,
}

pub(super) const WEIGHTS: Want = Want { weights: true, alphas: false };
pub(super) const ALPHAS: Want = Want { weights: false, alphas: true };
pub(super) const BOTH: Want = Want { weights: true, alphas: true };

/// Which loss: the inner one, that the weights descend, or the outer one, that the alphas descend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Train,
    Valid,
}

/// Gradients of a loss, as far as they were wanted.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// In the weights, flat.
    pub weights: Option<Tensor>,
    pub alphas: Option<Vec<Tensor>>,
}

/// Two losses of flat weights and of alphas; the alphas are held by the problem.
pub trait Problem {
    /// What a pass gives besides gradients.
    type Report;
    /// The loss of `half` at `weights`, differentiated in what `want` names. Changes nothing that a later pass sees.
    fn pass(&mut self, weights: &Tensor, half: Half, want: Want) -> Result<(Gradients, Self::Report)>;
    /// d2 L_train / dalpha dw . v at `weights`; [`mixed_product`] serves for any two losses.
    fn product(&mut self, weights: &Tensor, v: &Tensor) -> Result<Vec<Tensor>>;
}

/// The inner step that the gradient looks through.
#[derive(Clone, Debug)]
pub struct Inner<'a> {
    pub weights: &'a Tensor,
    pub momentum: &'a Tensor,
    pub sgd: Sgd,
    /// Learning rate of the weights, which is also the virtual step's (xi).
    pub learning_rate: Scalar,
    /// e = radius / |v| in the finite difference.
    pub radius: f64,
}

impl Inner<'_> {
    /// The gradient in the alphas, and what the pass over the outer loss that it contains reported.
    pub fn gradient<P: Problem>(&self, problem: &mut P, order: Order) -> Result<(Vec<Tensor>, P::Report)> {
        if order == Order::First {
            let (gradients, report) = problem.pass(self.weights, Half::Valid, ALPHAS)?;
            return Ok((gradients.alphas.unwrap_or_default(), report));
        }
        let moved = self.moved(problem)?;
        let (gradients, report) = problem.pass(&moved, Half::Valid, BOTH)?;
        drop(moved);
        let (mut gradient, v) = match (gradients.alphas, gradients.weights) {
            (Some(alphas), Some(v)) => (alphas, v),
            _ => unreachable!("both gradients were asked for"),
        };
        let product = match order {
            Order::Exact => problem.product(self.weights, &v)?,
            _ => self.difference_product(problem, &v, &gradient)?,
        };
        for (g, p) in gradient.iter_mut().zip(&product) {
            *g = plus_scaled(g, &Factor::Times(-1.0, self.learning_rate.clone()), p)?;
        }
        Ok((gradient, report))
    }

    /// w'(alpha)
    pub fn moved<P: Problem>(&self, problem: &mut P) -> Result<Tensor> {
        let step = problem.pass(self.weights, Half::Train, WEIGHTS)?.0.weights;
        let step =
            step.map_or_else(|| self.weights.zeros_alike(*self.weights.shape(), self.weights.dtype()), Ok)?;
        self.sgd.virtual_step(self.weights, self.momentum, &step, &self.learning_rate)
    }

    /// d2 L_train / dalpha dw . v by central differences of the published radius (eq. 8).
    fn difference_product<P: Problem>(
        &self,
        problem: &mut P,
        v: &Tensor,
        like: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let norm = global_norm(v)?;
        if matches!(norm, Scalar::Known(0.0)) {
            return like.iter().map(|a| a.zeros_alike(*a.shape(), a.dtype())).collect();
        }
        let mut probe = |radius: f64| -> Result<Vec<Tensor>> {
            let probed = plus_scaled(self.weights, &Factor::Over(radius, norm.clone()), v)?;
            Ok(problem.pass(&probed, Half::Train, ALPHAS)?.0.alphas.unwrap_or_default())
        };
        let (plus, minus) = (probe(self.radius)?, probe(-self.radius)?);
        let scale = Factor::HalfInverse(self.radius, norm);
        plus.iter().zip(&minus).map(|(p, m)| difference(p, m, &scale)).collect()
    }
}

/// d2 `loss` / dalpha dw . v from the recorded pullback: the gradient in alpha of <grad_w loss, v>. One direction a
/// weight variable. Slow, and right for whatever can be differentiated twice.
pub fn mixed_product(
    mut tape: Tape,
    loss: Var,
    weights: &[Var],
    alphas: &[Var],
    v: impl IntoIterator<Item = Tensor>,
) -> Result<Vec<Tensor>> {
    let grads = tape.grad_recorded(loss, weights)?;
    let mut sum = None;
    for (g, v) in grads.into_iter().zip(v) {
        let v = tape.constant(v);
        let term = tape.apply(Dot, &[g, v])?;
        sum = Some(match sum {
            None => term,
            Some(sum) => tape.apply(Add, &[sum, term])?,
        });
    }
    Ok(tape.into_grad(sum.unwrap_or(loss), alphas)?.0)
}
