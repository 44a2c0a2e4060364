//! The backward pass of a cell: states in reverse order, each complete once everything that reads it has been passed.

use super::half::{Bands, Half};
use super::norm_sums::NormSums;
use super::pad::{Norm, Padded};
use super::plan::{Conv, StatePlan, lanes};
use super::pools::Dense;
use super::pull::{PullFirst, PullSecond, Work};
use super::spec::Item;
use super::sum::Image;
use super::weights::{Parts, Place};
use super::{Cell, by_image, equal_parts, state};
use crate::ahead::{Ahead, Stream};
use crate::jobs::{each, small};
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::dispatch_exactly;
use std::borrow::Cow;

/// Where the gradients go, as far as they are wanted; overwritten.
pub struct Gradients<'a, R> {
    pub mix: Option<&'a mut [R]>,
    pub inputs: [Option<&'a mut [R]>; 2],
    /// Of scale and shift of every norm.
    pub affine: Option<Vec<[&'a mut [R]; 2]>>,
    /// One a weight tensor.
    pub weights: Option<Vec<&'a mut [R]>>,
}

/// What the forward pass left.
pub struct Kept<'a, R: Real> {
    /// The nodes, side by side.
    pub y: &'a [R],
    pub stats: &'a [R],
    pub values: Vec<&'a [R::Kept]>,
    pub indices: Vec<&'a [u8]>,
}

/// The gradients of everything from `g`, that of the nodes side by side.
pub fn gradient<R: Real>(cell: &Cell<R>, kept: &Kept<R>, g: &[R], mut to: Gradients<R>) {
    if let Some(mix) = &mut to.mix {
        mix.fill(R::ZERO);
    }
    let mut affine = to.affine.take().unwrap_or_default();
    let mut pass = Pass {
        cell,
        kept,
        g,
        d: Scratch::new(g.len()),
        factors: cell.spec.items.iter().map(|item| unnormed(cell, item)).collect(),
        m: R::Wide::of((cell.sizes.n * cell.sizes.out[0] * cell.sizes.out[1]) as f64),
    };
    let plans = StatePlan::all(cell, true);
    for (out, plan) in to.inputs.iter_mut().zip(&plans) {
        if let (Some(out), None) = (out, plan) {
            out.fill(R::ZERO);
        }
    }
    let wanted = |from: usize| from >= 2 || to.inputs[from].is_some() || to.weights.is_some();
    let passed: Vec<&StatePlan<R>> = plans.iter().flatten().filter(|plan| wanted(plan.from)).collect();
    let mix = to.mix.is_some();
    // the candidates that read a state need their factors before that state's turn comes
    let first = NormSums::new(&pass, passed.last().map_or(0, |plan| plan.from)..plans.len(), mix);
    let sums = pass.begin(&first);
    pass.finish(&first, sums, to.mix.as_deref_mut(), &mut affine);
    for (k, plan) in passed.iter().enumerate().rev() {
        let next = k.checked_sub(1).map_or(0, |k| passed[k].from);
        let then = NormSums::new(&pass, next..plan.from, mix);
        let out = to.inputs.get_mut(plan.from).and_then(|x| x.as_deref_mut());
        let sums = pass.pull_state(plan, out, &then, to.weights.as_deref_mut(), &mut affine);
        pass.finish(&then, sums, to.mix.as_deref_mut(), &mut affine);
    }
}

pub(super) struct Pass<'a, R: Real> {
    pub cell: &'a Cell<'a, R>,
    pub kept: &'a Kept<'a, R>,
    pub g: &'a [R],
    /// Gradients of the nodes, their own and what those that read them pass back, (n, nodes, h, w, c): a node's pixels
    /// lie side by side, since they are read once for every candidate.
    pub d: Scratch<R>,
    /// Of each candidate: its value's gradient is `factors[0] d + factors[1] value + factors[2]` in every channel, the
    /// first multiplied by what drops it, see [`Self::factors`].
    pub factors: Vec<Vec<R>>,
    /// Values a channel.
    m: R::Wide,
}

impl<'a, R: Real> Pass<'a, R> {
    /// The gradients of the nodes that nobody reads, as they came, and the `sums` that can be had with them alone.
    fn begin(&mut self, sums: &NormSums<R>) -> Scratch<R> {
        let (cell, g, c) = (self.cell, self.g, self.cell.sizes.c);
        let (image, step) = (cell.sizes.node(), cell.spec.nodes * c);
        let unread: Vec<usize> =
            (0..cell.spec.nodes).filter(|node| cell.spec.reading(2 + node).next().is_none()).collect();
        let (isa, lanes) = lanes::<R>(cell.spec, c);
        let (mut made, mut d) = (sums.room(self), std::mem::replace(&mut self.d, Scratch::new(0)));
        each(
            d.chunks_exact_mut(cell.nodes()).zip(equal_parts(&mut made, cell.sizes.n)),
            || (),
            |(), i, (d, made)| {
                for &node in &unread {
                    let x = (g[i * cell.nodes() + node * c..].as_ptr(), step);
                    dispatch_exactly(isa, lanes, Dense { x, c, to: &mut d[node * image..][..image] });
                }
                sums.run(self, d.as_ptr(), i, made);
            },
        );
        self.d = d;
        made
    }

    /// State `from` of image `i`.
    pub fn state(&self, from: usize, i: usize) -> Image<R> {
        state(self.cell, self.kept.y[i * self.cell.nodes()..].as_ptr(), from, i)
    }

    /// The gradient of `node`, `d` being an image's part of [`Self::d`].
    pub fn node_grad(&self, d: *const R, node: usize) -> Image<R> {
        (d.wrapping_add(node * self.cell.sizes.node()), self.cell.sizes.c)
    }

    /// Norm `at` by the statistics of the forward pass.
    pub fn norm(&self, at: usize) -> Norm<'a, R> {
        self.cell.norm(self.kept.stats, at)
    }

    /// The factors of candidate `item` for image `i`.
    pub fn factors(&self, item: usize, i: usize) -> Cow<'_, [R]> {
        let factors = &self.factors[item][..];
        let Some(by) = self.cell.dropped(item, i) else { return Cow::Borrowed(factors) };
        let c = self.cell.sizes.c;
        let scaled = factors[..c].iter().map(|&f| R::narrow(f.wide() * by.wide()));
        Cow::Owned(scaled.chain(factors[c..].iter().copied()).collect())
    }

    /// From sums, image by image: the candidates' factors, and the gradients of the mixing weights and of the norms' scales
    /// and shifts.
    fn finish(
        &mut self,
        of: &NormSums<R>,
        sums: Scratch<R>,
        mut mix: Option<&mut [R]>,
        affine: &mut [[&mut [R]; 2]],
    ) {
        let (cell, c, n) = (self.cell, self.cell.sizes.c, self.cell.sizes.n);
        let totals = small(of.rows().collect(), 2 * n * c, |(item, rows)| {
            let mut totals = vec![[R::Wide::default(); 2]; c];
            for (i, sums) in sums.chunks_exact(sums.len() / n).enumerate() {
                let by = cell.dropped(item.index, i).map_or(R::Wide::of(1.0), R::wide);
                let [value, one] = rows.map(|row| &sums[row * c..][..c]);
                for (totals, (value, one)) in totals.iter_mut().zip(value.iter().zip(one)) {
                    totals[0] += by * value.wide();
                    totals[1] += by * one.wide();
                }
            }
            totals
        });
        for ((item, _), totals) in of.rows().zip(totals) {
            let Some(at) = item.last_norm() else {
                if let Some(mix) = &mut mix {
                    mix[item.entry] = R::narrow(totals.into_iter().map(|[by_value, _]| by_value).sum());
                }
                continue;
            };
            let (w, norm) = (cell.mix[item.entry].wide(), self.norm(at));
            let (mut factors, mut dw) = (vec![R::ZERO; 3 * c], R::Wide::default());
            for (ch, [by_value, by_one]) in totals.into_iter().enumerate() {
                let sums = [by_one, by_value * norm.r[ch].wide()];
                self.norm_factors(w, sums, &norm, ch, &mut factors);
                dw += norm.gamma[ch].wide() * sums[1] + norm.beta[ch].wide() * sums[0];
                if let Some([gamma, beta]) = affine.get_mut(at) {
                    (gamma[ch], beta[ch]) = (R::narrow(w * sums[1]), R::narrow(w * sums[0]));
                }
            }
            self.factors[item.index] = factors;
            if let Some(mix) = &mut mix {
                mix[item.entry] = R::narrow(dw);
            }
        }
    }

    /// The factors of `w gamma r (g - s1/M - z s2/M)`, z = (x - m) r, for channel `ch`; `w gamma r g` where statistics
    /// are given.
    fn norm_factors(&self, w: R::Wide, [s1, s2]: [R::Wide; 2], norm: &Norm<R>, ch: usize, to: &mut [R]) {
        let (mean, r, c) = (norm.mean[ch].wide(), norm.r[ch].wide(), self.cell.sizes.c);
        let by = w * norm.gamma[ch].wide() * r;
        to[ch] = R::narrow(by);
        if self.cell.given.is_none() {
            let by_x = -(by * r * s2) / self.m;
            to[c + ch] = R::narrow(by_x);
            to[2 * c + ch] = R::narrow(-(by * s1) / self.m - by_x * mean);
        }
    }

    /// Passes the gradients of everything that reads the state of `plan` back to it; by image, the sums that come `then`.
    fn pull_state(
        &mut self,
        plan: &StatePlan<R>,
        out: Option<&mut [R]>,
        then: &NormSums<R>,
        mut weights: Option<&mut [&mut [R]]>,
        affine: &mut [[&mut [R]; 2]],
    ) -> Scratch<R> {
        let (cell, n) = (self.cell, self.cell.sizes.n);
        let between = self.pull_seconds(plan, weights.as_deref_mut(), affine);
        let places = Place::of_firsts(plan);
        // of an input that nobody asked for there is no result, of a node it goes to `d`
        let image = if out.is_some() { 0 } else { cell.sizes.image(plan.from) };
        let mut outs = out.map(|out| equal_parts(out, n));
        let (mut made, mut d) = (then.room(self), std::mem::replace(&mut self.d, Scratch::new(0)));
        let ds = d.chunks_exact_mut(cell.nodes()).zip(equal_parts(&mut made, n));
        let images = ds.map(|(d, sums)| (d, outs.as_mut().and_then(|outs| outs.next()), sums)).collect();
        let mut parts = Parts::new(weights.is_some(), n, &places);
        let (pass, between, weighted) = (&*self, &between[..], weights.is_some());
        each(
            parts.groups(images),
            || pass.work(plan, weighted.then(|| plan.x()), image),
            |work, _, (start, images, mut sums)| {
                sums.as_deref_mut().into_iter().for_each(|sums| sums.fill(R::ZERO));
                let after = following(start, images.len());
                for (i, (d, out, then_sums)) in images.into_iter().enumerate() {
                    let (i, next) = (start + i, after(start + i));
                    let (sums, work) = (sums.as_deref_mut().map(|s| (s, &places[..])), &mut *work);
                    let job = PullFirst { pass, plan, between, i, next, work, d, out, then, sums };
                    dispatch_exactly(plan.isa, plan.lanes, job);
                    then.run(pass, d.as_ptr(), i, then_sums);
                }
            },
        );
        if let Some(weights) = weights {
            parts.total(&places, weights);
        }
        self.d = d;
        made
    }

    /// What the second half of `item` goes through for image `i`, `to` being its result.
    fn ahead_of_second(&self, item: &Item, i: usize, to: *const R::Kept, shares: usize) -> Ahead {
        let (sizes, c) = (&self.cell.sizes, self.cell.sizes.c);
        if i >= sizes.n {
            return Ahead::nothing();
        }
        let value =
            |k: usize| Stream::new((self.kept.values[item.value + k][i * sizes.node()..].as_ptr(), c), c);
        let g = self.node_grad(self.d[i * self.cell.nodes()..].as_ptr(), item.node);
        let streams = [Stream::new(g, c), value(0), value(1), Stream::new((to, c), c)];
        Ahead::new(streams, sizes.node() / c, shares)
    }

    /// With a padded copy of what a half reads, if that is needed, and room for the gradient of an `image` of so many elements.
    fn work(&self, plan: &StatePlan<R>, x: Option<Padded<R>>, image: usize) -> Work<R> {
        let pooled = if plan.pools.is_empty() { 0 } else { self.cell.sizes.node() };
        Work {
            bands: Bands::new(plan.size, plan.out, plan.c),
            x,
            g: plan.g(),
            dx: Scratch::new(image),
            pooled: [Scratch::new(pooled), Scratch::new(pooled)],
            row: Scratch::new(plan.out[1] * plan.c),
        }
    }

    /// Second halves of a state's separable convolutions: of each the gradient behind the first half's norm, and the
    /// factors that take it through the norm.
    fn pull_seconds(
        &self,
        plan: &StatePlan<R>,
        weights: Option<&mut [&mut [R]]>,
        affine: &mut [[&mut [R]; 2]],
    ) -> Vec<(Scratch<R::Kept>, Vec<R>)> {
        let (cell, c, n) = (self.cell, plan.c, self.cell.sizes.n);
        let seconds: Vec<(&Conv<R>, &Half<R>)> =
            plan.convs.iter().filter_map(|k| Some((k, k.second.as_ref()?))).collect();
        if seconds.is_empty() {
            return vec![];
        }
        let places = Place::of_seconds(plan);
        let mut dus: Vec<Scratch<R::Kept>> =
            seconds.iter().map(|_| Scratch::new(n * cell.sizes.node())).collect();
        let mut images_of = by_image(dus.iter_mut().map(|d| &mut **d), n);
        let mut norm_sums = Scratch::new(n * seconds.len() * 2 * c);
        let images = equal_parts(&mut images_of, n).zip(equal_parts(&mut norm_sums, n)).collect();
        let mut parts = Parts::new(weights.is_some(), n, &places);
        let (pass, weighted) = (self, weights.is_some());
        each(
            parts.groups(images),
            || self.work(plan, weighted.then(|| plan.z()), 0),
            |work, _, (start, images, mut sums)| {
                sums.as_deref_mut().into_iter().for_each(|sums| sums.fill(R::ZERO));
                let after = following(start, images.len());
                for (i, (dus, norm_sums)) in images.into_iter().enumerate() {
                    let (i, next) = (start + i, after(start + i));
                    norm_sums.fill(R::ZERO);
                    let own: Vec<*const R::Kept> = dus.iter().map(|du| du.as_ptr()).collect();
                    let targets = dus.iter_mut().map(|du| &mut **du).zip(norm_sums.chunks_exact_mut(2 * c));
                    let halves = seconds.iter().zip(&places).enumerate();
                    for ((k, (&(conv, half), place)), (du, norm_sums)) in halves.zip(targets) {
                        let weights = sums.as_deref_mut().map(|s| place.split(s));
                        let (k, then) = if k + 1 < own.len() { (k + 1, i) } else { (0, next) };
                        let to = own[k].wrapping_add((then - i) * cell.sizes.node());
                        let shares = half.pull_fetches(weights.is_some());
                        let ahead = pass.ahead_of_second(&seconds[k].0.item, then, to, shares);
                        let job = PullSecond { pass, conv, half, i, work, du, norm_sums, weights, ahead };
                        dispatch_exactly(plan.isa, plan.lanes, job);
                    }
                }
            },
        );
        if let Some(weights) = weights {
            parts.total(&places, weights);
        }
        let mut totals = vec![R::Wide::default(); seconds.len() * 2 * c];
        for sums in norm_sums.chunks_exact(totals.len()) {
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.wide());
        }
        (seconds.iter().zip(dus).enumerate())
            .map(|(k, ((conv, _), du))| {
                let norm = self.norm(conv.item.norm);
                let mut factors = vec![R::ZERO; 3 * c];
                for ch in 0..c {
                    let sums = [0, 1].map(|row| totals[(2 * k + row) * c + ch]);
                    self.norm_factors(R::Wide::of(1.0), sums, &norm, ch, &mut factors);
                    if let Some([gamma, beta]) = affine.get_mut(conv.item.norm) {
                        (gamma[ch], beta[ch]) = (R::narrow(sums[1]), R::narrow(sums[0]));
                    }
                }
                (du, factors)
            })
            .collect()
    }
}

/// The factors of a candidate as if no norm followed its value.
fn unnormed<R: Real>(cell: &Cell<R>, item: &Item) -> Vec<R> {
    let c = cell.sizes.c;
    let mut factors = vec![R::ZERO; 3 * c];
    factors[..c].fill(cell.mix[item.entry]);
    factors
}

/// Which image a thread most likely takes after one of a group of `count` images from `start` on: the next of the group,
/// or the first of the group that its turn comes to again.
fn following(start: usize, count: usize) -> impl Fn(usize) -> usize {
    let threads = rayon::current_num_threads();
    move |i| if i + 1 < start + count { i + 1 } else { start + threads * count }
}
