//! SGD with momentum, Adam, norm clipping and the cosine schedule, on flat buffers, as PyTorch defines them.

use super::cuda;
use super::scalar::{Factor, Scalar};
use crate::error::Result;
use crate::on_plain;
use crate::ops::elementwise::{CHUNK, sum_chunks};
use crate::tensor::{Real, Tensor};
use rayon::prelude::*;

/// Euclidean norm of a flat buffer.
pub fn global_norm(g: &Tensor) -> Result<Scalar> {
    if let Some(cuda) = cuda::of(g)? {
        return cuda::global_norm(&cuda, g);
    }
    Ok(Scalar::Known(on_plain!(g.dtype(), R => {
        let g = g.as_slice::<R>();
        let part = |i: usize| g[i..(i + CHUNK).min(g.len())].iter().map(|x| x.wide() * x.wide()).sum();
        sum_chunks::<f64>(g.len(), part).sqrt()
    })))
}

/// What to multiply a gradient of norm `norm` by so that it is at most `limit` (0: no limit).
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// Learning rate at `epoch` of `epochs`, from `first` down to `last` along half a cosine (arXiv 1608.03983).
pub fn cosine(first: f64, last: f64, epoch: usize, epochs: usize) -> f64 {
    let turn = std::f64::consts::PI * epoch as f64 / epochs.max(1) as f64;
    last + (first - last) * (1.0 + turn.cos()) / 2.0
}

/// Settings of SGD with momentum and L2 weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    pub momentum: f64,
    pub weight_decay: f64,
}

impl Sgd {
    /// m <- mu m + c g + wd w;  w <- w - lr m, where c clips a gradient of norm `norm` to `limit` (0: no limit).
    pub fn step(
        &self,
        w: &mut Tensor,
        m: &mut Tensor,
        g: &Tensor,
        lr: &Scalar,
        norm: &Scalar,
        limit: f64,
    ) -> Result<()> {
        if let Some(cuda) = cuda::of(w)? {
            w.make_unique()?;
            m.make_unique()?;
            return cuda::sgd(&cuda, self, [w, m, g], lr, norm, limit);
        }
        let (lr, clip) = (lr.value()?, clip_factor(norm.value()?, limit));
        on_plain!(w.dtype(), R => {
            let [mu, wd, lr, clip] = [self.momentum, self.weight_decay, lr, clip].map(R::of);
            let (w, m) = (w.make_mut::<R>().par_chunks_mut(CHUNK), m.make_mut::<R>().par_chunks_mut(CHUNK));
            w.zip(m).zip(g.as_slice::<R>().par_chunks(CHUNK)).for_each(|((w, m), g)| {
                for ((w, m), &g) in w.iter_mut().zip(m).zip(g) {
                    *m = mu * *m + (clip * g + wd * *w);
                    *w -= lr * *m;
                }
            });
        });
        Ok(())
    }
    /// w - lr (mu m + g + wd w): the virtual step, which changes neither weights nor momentum.
    pub fn virtual_step(&self, w: &Tensor, m: &Tensor, g: &Tensor, lr: &Scalar) -> Result<Tensor> {
        if let Some(cuda) = cuda::of(w)? {
            return cuda::virtual_step(&cuda, self, [w, m, g], lr);
        }
        let (mut moved, lr) = (w.clone(), lr.value()?);
        on_plain!(w.dtype(), R => {
            let [mu, wd, lr] = [self.momentum, self.weight_decay, lr].map(R::of);
            let m = m.as_slice::<R>().par_chunks(CHUNK).zip(g.as_slice::<R>().par_chunks(CHUNK));
            moved.make_mut::<R>().par_chunks_mut(CHUNK).zip(m).for_each(|(w, (m, g))| {
                for (w, (&m, &g)) in w.iter_mut().zip(m.iter().zip(g)) {
                    *w -= lr * (mu * m + g + wd * *w);
                }
            });
        });
        Ok(moved)
    }
}

/// w + c v on flat buffers.
pub(crate) fn plus_scaled(w: &Tensor, c: &Factor, v: &Tensor) -> Result<Tensor> {
    if let Some(cuda) = cuda::of(w)? {
        return cuda::combined(&cuda, "plus_scaled_f32", w, v, c);
    }
    let (mut moved, c) = (w.clone(), c.value()?);
    on_plain!(w.dtype(), R => {
        let c = R::of(c);
        moved.make_mut::<R>().par_chunks_mut(CHUNK).zip(v.as_slice::<R>().par_chunks(CHUNK)).for_each(|(w, v)| {
            w.iter_mut().zip(v).for_each(|(w, &v)| *w += c * v);
        });
    });
    Ok(moved)
}

/// (p - m) c on flat buffers.
pub(crate) fn difference(p: &Tensor, m: &Tensor, c: &Factor) -> Result<Tensor> {
    if let Some(cuda) = cuda::of(p)? {
        return cuda::combined(&cuda, "difference_f32", p, m, c);
    }
    let (mut d, c) = (p.clone(), c.value()?);
    on_plain!(d.dtype(), R => {
        let c = R::of(c);
        d.make_mut::<R>().iter_mut().zip(m.as_slice::<R>()).for_each(|(p, &m)| *p = (*p - m) * c);
    });
    Ok(d)
}

/// Settings of Adam with L2 weight decay added to the gradient (arXiv 1412.6980).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

/// First and second moments of one tensor, and the steps taken.
#[derive(Clone, Debug)]
pub struct AdamState {
    pub first: Tensor,
    pub second: Tensor,
    pub steps: u64,
}

impl AdamState {
    /// No moments and no steps, for a tensor in the host's memory.
    pub fn new(like: &Tensor) -> Self {
        let zeros = || Tensor::zeros(*like.shape(), like.dtype());
        Self { first: zeros(), second: zeros(), steps: 0 }
    }
}

impl Adam {
    /// 1 - beta^t of both moments for step `t`, which counts from 1.
    pub fn corrections(&self, t: u64) -> [f64; 2] {
        [self.beta1, self.beta2].map(|beta| 1.0 - beta.powi(t as i32))
    }
    /// One step on `x`, along -m_hat / (sqrt(v_hat) + eps), with the corrections of its number.
    pub fn step(
        &self,
        x: &mut Tensor,
        g: &Tensor,
        state: &mut AdamState,
        corrections: &[Scalar; 2],
    ) -> Result<()> {
        state.steps += 1;
        if let Some(cuda) = cuda::of(x)? {
            for tensor in [&mut *x, &mut state.first, &mut state.second] {
                tensor.make_unique()?;
            }
            return cuda::adam(&cuda, self, [x, g, &state.first, &state.second], corrections);
        }
        let (c1, c2) = (corrections[0].value()?, corrections[1].value()?);
        on_plain!(x.dtype(), R => {
            let (x, g) = (x.make_mut::<R>(), g.as_slice::<R>());
            let (first, second) = (state.first.make_mut::<R>(), state.second.make_mut::<R>());
            for i in 0..x.len() {
                let d = g[i].wide() + self.weight_decay * x[i].wide();
                let m = self.beta1 * first[i].wide() + (1.0 - self.beta1) * d;
                let v = self.beta2 * second[i].wide() + (1.0 - self.beta2) * d * d;
                (first[i], second[i]) = (R::of(m), R::of(v));
                x[i] -= R::of(self.learning_rate / c1 * m / (v.sqrt() / c2.sqrt() + self.epsilon));
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_starts_high_and_ends_low() {
        assert_eq!(cosine(0.025, 0.001, 0, 50), 0.025);
        assert!((cosine(0.025, 0.001, 50, 50) - 0.001).abs() < 1e-12);
        // 0.001 + 0.012 (1 + cos(2 pi / 50))
        assert!((cosine(0.025, 0.001, 2, 50) - 0.02490538).abs() < 1e-6);
    }

    /// PyTorch's numbers: torch.optim.Adam in float64, learning rate 0.1, betas (0.5, 0.999), weight decay 0.01.
    #[test]
    fn adam_goes_where_pytorch_goes() {
        let adam = Adam { learning_rate: 0.1, beta1: 0.5, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
        let mut x = Tensor::from_slice([3], &[0.5, -1.0, 0.02]).unwrap();
        let mut state = AdamState::new(&x);
        for (step, (g, expected)) in [
            ([0.3, -2.0, 1e-3], [0.4000000032786884, -0.9000000004975124, -0.07999916667361105]),
            ([-0.1, 0.5, 2e-3], [0.38333717624842684, -0.8765738205274874, -0.1799984489142287]),
            ([0.7, 0.0, -5e-3], [0.2896406657363181, -0.8638551722893637, -0.09671750421094168]),
            ([0.2, 1.5, 1e-3], [0.21372022192087659, -0.9206800963209988, -0.05232946040766205]),
            ([-0.4, -0.3, 4e-3], [0.22837691858995515, -0.9373093133958235, -0.08209500916436926]),
        ]
        .into_iter()
        .enumerate()
        {
            let corrections = adam.corrections(step as u64 + 1).map(Scalar::Known);
            adam.step(&mut x, &Tensor::from_slice([3], &g).unwrap(), &mut state, &corrections).unwrap();
            for (x, expected) in x.to_f64().into_iter().zip(expected) {
                assert!((x - expected).abs() < 1e-12, "step {step}: {x}, PyTorch {expected}");
            }
        }
    }

    #[test]
    fn clipping_limits_the_norm_and_leaves_small_gradients() {
        assert_eq!(clip_factor(3.0, 5.0), 1.0);
        assert!((clip_factor(10.0, 5.0) - 0.5).abs() < 1e-6);
        assert_eq!(clip_factor(10.0, 0.0), 1.0);
    }
}
