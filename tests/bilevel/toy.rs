//! A bilevel problem with a closed form (arXiv 1806.09055, figure 2):
//!
//! L_valid = alpha w - 2 alpha + 1,  L_train = w^2 - 2 alpha w + alpha^2,  from (alpha, w) = (2, -2).
//!
//! w*(alpha) = alpha and the best alpha is 1. After one inner step w' = w - 2 xi (w - alpha) without momentum or decay,
//! dL_valid/dalpha = (w' - 2) + 2 xi alpha.

use super::agrees;
use oche::nn::Sgd;
use oche::ops::pointwise::{Add, Mul, Scale, Sub};
use oche::search::Want;
use oche::search::bilevel::{Gradients, Half, Inner, Order, Problem, mixed_product};
use oche::tape::{Tape, Var};
use oche::tensor::{DType, Tensor};

struct Toy {
    alpha: f64,
}

impl Toy {
    fn loss(&self, tape: &mut Tape, w: Var, alpha: Var, half: Half) -> oche::Result<Var> {
        if half == Half::Train {
            let d = tape.apply(Sub, &[w, alpha])?; // w^2 - 2 alpha w + alpha^2 = (w - alpha)^2
            return tape.apply(Mul, &[d, d]);
        }
        let product = tape.apply(Mul, &[alpha, w])?;
        let twice = tape.apply(Scale(-2.0), &[alpha])?;
        let sum = tape.apply(Add, &[product, twice])?;
        let one = tape.constant(one(1.0));
        tape.apply(Add, &[sum, one])
    }
    fn begin(&self, weights: &Tensor) -> (Tape, Var, Var) {
        let mut tape = Tape::new();
        let (w, alpha) = (tape.leaf(weights.clone()), tape.leaf(one(self.alpha)));
        (tape, w, alpha)
    }
}

fn one(x: f64) -> Tensor {
    Tensor::from_f64([1], &[x], DType::F64).unwrap()
}

impl Problem for Toy {
    type Report = f64;
    fn pass(&mut self, weights: &Tensor, half: Half, _want: Want) -> oche::Result<(Gradients, f64)> {
        let (mut tape, w, alpha) = self.begin(weights);
        let loss = self.loss(&mut tape, w, alpha, half)?;
        let value = tape.value(loss).item();
        let mut grads = tape.into_grad(loss, &[w, alpha])?.0;
        let alphas = Some(grads.split_off(1));
        Ok((Gradients { weights: grads.pop(), alphas }, value))
    }
    fn product(&mut self, weights: &Tensor, v: &Tensor) -> oche::Result<Vec<Tensor>> {
        let (mut tape, w, alpha) = self.begin(weights);
        let loss = self.loss(&mut tape, w, alpha, Half::Train)?;
        mixed_product(tape, loss, &[w], &[alpha], [v.clone()])
    }
}

const PLAIN: Sgd = Sgd { momentum: 0.0, weight_decay: 0.0 };

struct Point {
    alpha: f64,
    w: f64,
    m: f64,
    sgd: Sgd,
    xi: f64,
    radius: f64,
}

impl Point {
    fn at(alpha: f64, w: f64, xi: f64) -> Self {
        Self { alpha, w, m: 0.0, sgd: PLAIN, xi, radius: 0.01 }
    }
    fn with<T>(&self, alpha: f64, f: impl FnOnce(&Inner, &mut Toy) -> T) -> T {
        let (weights, momentum) = (one(self.w), one(self.m));
        let inner = Inner {
            weights: &weights,
            momentum: &momentum,
            sgd: self.sgd,
            learning_rate: self.xi.into(),
            radius: self.radius,
        };
        f(&inner, &mut Toy { alpha })
    }
    fn gradient(&self, order: Order) -> f64 {
        self.with(self.alpha, |inner, toy| inner.gradient(toy, order).unwrap().0[0].item())
    }
    /// L_valid(w'(alpha), alpha)
    fn unrolled(&self, alpha: f64) -> f64 {
        self.with(alpha, |inner, toy| {
            let moved = inner.moved(toy).unwrap();
            toy.pass(&moved, Half::Valid, Want { weights: false, alphas: false }).unwrap().1
        })
    }
    fn numerical(&self) -> f64 {
        let h = 1e-4; // the unrolled loss is quadratic in alpha: central differences are exact but for rounding
        (self.unrolled(self.alpha + h) - self.unrolled(self.alpha - h)) / (2.0 * h)
    }
}

#[test]
fn gradients_have_their_closed_form() {
    for (alpha, w) in [(2.0, -2.0), (1.0, 1.0), (-0.3, 4.0), (0.7, 0.0)] {
        for xi in [0.0, 0.025, 0.5, 1.3] {
            let point = Point::at(alpha, w, xi);
            let moved = w - 2.0 * xi * (w - alpha);
            let exact = (moved - 2.0) + 2.0 * xi * alpha;
            assert!((point.gradient(Order::First) - (w - 2.0)).abs() < 1e-12);
            assert!((point.gradient(Order::Exact) - exact).abs() < 1e-12);
            // L_train is quadratic: the finite difference has no error but rounding
            assert!((point.gradient(Order::Second) - exact).abs() < 1e-10);
            assert!((point.numerical() - exact).abs() < 1e-9);
        }
    }
}

#[test]
fn momentum_and_decay_are_part_of_the_inner_step() {
    let sgd = Sgd { momentum: 0.9, weight_decay: 0.1 };
    let point = Point { m: 0.6, sgd, ..Point::at(2.0, -2.0, 0.3) };
    let moved = -2.0 - 0.3 * (0.9 * 0.6 + 2.0 * (-2.0 - 2.0) + 0.1 * -2.0);
    let exact = (moved - 2.0) + 2.0 * 0.3 * 2.0;
    for order in [Order::Second, Order::Exact] {
        assert!((point.gradient(order) - exact).abs() < 1e-10, "{order:?}");
    }
    agrees(exact, point.numerical(), 1e-8).unwrap();
}

/// A port in circulation multiplies the difference of the probes by e where it should divide by it.
#[test]
fn the_wrong_finite_difference_fails_the_check() {
    let point = Point::at(2.0, -2.0, 0.3);
    let (w, xi) = (one(point.w), point.xi);
    let (direct, v, e, plus, minus) = point.with(point.alpha, |inner, toy| {
        let both = Want { weights: true, alphas: true };
        let moved = inner.moved(toy).unwrap();
        let outer = toy.pass(&moved, Half::Valid, both).unwrap().0;
        let v = outer.weights.unwrap().item();
        let e = point.radius / v.abs();
        let mut probe = |e: f64| {
            let at = one(w.to_f64()[0] + e * v);
            toy.pass(&at, Half::Train, both).unwrap().0.alphas.unwrap()[0].item()
        };
        let (plus, minus) = (probe(e), probe(-e));
        (outer.alphas.unwrap()[0].item(), v, e, plus, minus)
    });
    assert_eq!(v, point.alpha);
    let right = direct - xi * (plus - minus) / (2.0 * e);
    let wrong = direct - xi * ((plus - minus) / 2.0 * e);
    agrees(right, point.numerical(), 1e-7).unwrap();
    agrees(wrong, point.numerical(), 1e-2).unwrap_err();
    agrees(point.gradient(Order::First), point.numerical(), 1e-2).unwrap_err();
}

/// Alternates one step on alpha with one on w; the result is where it ends.
fn search(order: Order, xi: f64, rate: f64, steps: usize) -> [f64; 2] {
    let mut point = Point::at(2.0, -2.0, xi);
    for _ in 0..steps {
        point.alpha -= rate * point.gradient(order);
        point.w -= xi * 2.0 * (point.w - point.alpha);
    }
    [point.alpha, point.w]
}

/// With w = w*(alpha) = alpha the first order sees the gradient w - 2 and drifts to alpha = w = 2. The unrolled one sees
/// (w' - 2) + 2 xi alpha, which is zero at alpha = w = 2 / (1 + 2 xi): at 1 for xi = 1/2, where one step solves the
/// inner problem.
#[test]
fn the_first_order_misses_the_optimum_and_the_unrolled_ones_reach_it() {
    let first = search(Order::First, 0.5, 0.1, 500);
    assert!((first[0] - 2.0).abs() < 1e-6 && (first[1] - 2.0).abs() < 1e-6, "{first:?}");
    for order in [Order::Second, Order::Exact] {
        let end = search(order, 0.5, 0.1, 500);
        assert!((end[0] - 1.0).abs() < 1e-6 && (end[1] - 1.0).abs() < 1e-6, "{order:?}: {end:?}");
        let short = search(order, 0.2, 0.1, 2000);
        assert!((short[0] - 2.0 / 1.4).abs() < 1e-6, "{order:?}: {short:?}");
    }
}
