//! The backward pass of a cell: states in reverse order, each complete once everything that reads it has been passed.

use super::half::{Bands, Half};
use super::pad::Norm;
use super::plan::{Conv, StatePlan, lanes};
use super::pools::Dense;
use super::pull::{PullFirst, PullSecond, Work};
use super::spec::Item;
use super::sum::{Image, Images, Products};
use super::weights::{Parts, Place};
use super::{Cell, by_image, state};
use crate::ahead::Ahead;
use crate::jobs::each;
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
    let nodes = cell.spec.nodes;
    if let Some(mix) = &mut to.mix {
        mix.fill(R::ZERO);
    }
    let mut affine = to.affine.take().unwrap_or_default();
    let mut pass = Pass {
        cell,
        kept,
        g,
        d: Scratch::new(g.len()),
        factors: vec![vec![]; cell.spec.items.len()],
        m: R::Wide::of((cell.sizes.n * cell.sizes.out[0] * cell.sizes.out[1]) as f64),
    };
    pass.take_unread();
    for from in (0..2 + nodes).rev() {
        let wanted = from >= 2 || to.inputs[from].is_some() || to.weights.is_some();
        if wanted && pass.is_read(from) {
            let out = to.inputs.get_mut(from).and_then(|x| x.as_deref_mut());
            pass.pull_state(from, out, to.weights.as_deref_mut(), &mut affine);
        } else if let Some(Some(out)) = to.inputs.get_mut(from) {
            out.fill(R::ZERO);
        }
        if let Some(node) = from.checked_sub(2) {
            pass.pull_sum(node, to.mix.as_deref_mut(), &mut affine);
        }
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

impl<R: Real> Pass<'_, R> {
    fn is_read(&self, from: usize) -> bool {
        self.cell.spec.reading(from).next().is_some()
    }

    /// The gradients of the nodes that nobody reads: as they came.
    fn take_unread(&mut self) {
        let (c, image, nodes) = (self.cell.sizes.c, self.cell.sizes.node(), self.cell.spec.nodes);
        let unread: Vec<usize> = (0..nodes).filter(|&node| !self.is_read(2 + node)).collect();
        let (g, (isa, lanes)) = (self.g, lanes::<R>(self.cell.spec, c));
        each(
            self.d.chunks_exact_mut(image * nodes).collect(),
            || (),
            |(), i, d| {
                for &node in &unread {
                    let x = (g[i * image * nodes + node * c..].as_ptr(), nodes * c);
                    dispatch_exactly(isa, lanes, Dense { x, c, to: &mut d[node * image..][..image] });
                }
            },
        );
    }

    /// The gradient of `node`, `d` being an image's part of [`Self::d`].
    pub fn node_grad(&self, d: *const R, node: usize) -> Image<R> {
        (d.wrapping_add(node * self.cell.sizes.node()), self.cell.sizes.c)
    }

    /// The factors of candidate `item` for image `i`.
    pub fn factors(&self, item: usize, i: usize) -> Cow<'_, [R]> {
        let factors = &self.factors[item][..];
        let Some(by) = self.cell.dropped(item, i) else { return Cow::Borrowed(factors) };
        let c = self.cell.sizes.c;
        let scaled = factors[..c].iter().map(|&f| R::narrow(f.wide() * by.wide()));
        Cow::Owned(scaled.chain(factors[c..].iter().copied()).collect())
    }

    /// The sums over `node`'s gradient that its candidates' norms need, and from them the gradients of the mixing
    /// weights and of the norms' scales and shifts.
    fn pull_sum(&mut self, node: usize, mut mix: Option<&mut [R]>, affine: &mut [[&mut [R]; 2]]) {
        let (cell, kept) = (self.cell, self.kept);
        let (c, image) = (cell.sizes.c, cell.sizes.node());
        let (isa, lanes) = lanes::<R>(cell.spec, c);
        // without a norm the sums are those of the mixing weights alone
        let (mut terms, plain): (Vec<&Item>, Vec<&Item>) =
            cell.spec.into_node(node).partition(|item| mix.is_some() || item.norms > 0);
        Images::<R>::sort(&mut terms, |item| item.last().is_some());
        for item in plain {
            self.factors[item.index] = self.unnormed(item);
        }
        let zeros = vec![R::ZERO; c];
        let shift = |item: &&Item| item.last_norm().map_or(&zeros[..], |at| cell.norm(kept.stats, at).mean);
        let shifts: Vec<R> = terms.iter().flat_map(shift).copied().collect();
        let sums: Vec<Vec<R>> = each(
            (0..cell.sizes.n).collect(),
            || (),
            |(), _, i| {
                let mut images = Images::new();
                for item in &terms {
                    match item.last() {
                        Some(value) => images.push_kept((kept.values[value][i * image..].as_ptr(), c)),
                        None => images.push(state(cell, kept.y, item.from, i)),
                    }
                }
                let mut sums = vec![R::ZERO; (images.len() + 1) * c];
                let whole = image * cell.spec.nodes;
                let g = self.node_grad(self.d[i * whole..].as_ptr(), node);
                let (images, shifts, sums_to) = (&images, &shifts[..], &mut sums[..]);
                let job = Products { g, images, shifts, c, pixels: image / c, sums: sums_to };
                dispatch_exactly(isa, lanes, job);
                sums
            },
        );
        for (k, &item) in terms.iter().enumerate() {
            let total = |row: usize, ch: usize| -> R::Wide {
                let of = |(i, s): (usize, &Vec<R>)| {
                    let sum = s[row * c + ch].wide();
                    cell.dropped(item.index, i).map_or(sum, |by| by.wide() * sum)
                };
                sums.iter().enumerate().map(of).sum()
            };
            let Some(at) = item.last_norm() else {
                self.factors[item.index] = self.unnormed(item);
                if let Some(mix) = &mut mix {
                    mix[item.entry] = R::narrow((0..c).map(|ch| total(k, ch)).sum());
                }
                continue;
            };
            let (w, norm) = (cell.mix[item.entry].wide(), cell.norm(kept.stats, at));
            let (mut factors, mut dw) = (vec![R::ZERO; 3 * c], R::Wide::default());
            for ch in 0..c {
                let sums = [total(terms.len(), ch), total(k, ch) * norm.r[ch].wide()];
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

    /// The factors of a candidate whose value no norm follows.
    fn unnormed(&self, item: &Item) -> Vec<R> {
        let c = self.cell.sizes.c;
        let mut factors = vec![R::ZERO; 3 * c];
        factors[..c].fill(self.cell.mix[item.entry]);
        factors
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

    /// Passes the gradients of everything that reads state `from` back to it.
    fn pull_state(
        &mut self,
        from: usize,
        out: Option<&mut [R]>,
        mut weights: Option<&mut [&mut [R]]>,
        affine: &mut [[&mut [R]; 2]],
    ) {
        let (cell, n) = (self.cell, self.cell.sizes.n);
        let plan = &StatePlan::new(cell.spec, &cell.sizes, from, &cell.weights, true);
        let between = self.pull_seconds(plan, weights.as_deref_mut(), affine);
        let (places, own) = (Place::of_firsts(plan), from.checked_sub(2));
        // of an input that nobody asked for there is no result, of a node it goes to `d`
        let image = if out.is_some() { 0 } else { cell.sizes.image(from) };
        let mut outs = by_image(out, n);
        let mut d = std::mem::replace(&mut self.d, Scratch::new(0));
        let whole = cell.sizes.node() * cell.spec.nodes;
        let images: Vec<_> = d.chunks_exact_mut(whole).zip(outs.iter_mut().map(|o| o.pop())).collect();
        let mut parts = Parts::new(weights.is_some(), n, &places);
        let (pass, between) = (&*self, &between[..]);
        each(
            parts.groups(images),
            || pass.work(plan, image),
            |work, _, (start, images, mut sums)| {
                let after = following(start, images.len());
                for (i, (d, out)) in images.into_iter().enumerate() {
                    let (i, next) = (start + i, after(start + i));
                    let sums = sums.as_deref_mut().map(|s| (s, &places[..]));
                    let job = PullFirst { pass, plan, between, i, next, work, d, out, own, sums };
                    dispatch_exactly(plan.isa, plan.lanes, job);
                }
            },
        );
        if let Some(weights) = weights {
            parts.total(&places, weights);
        }
        self.d = d;
    }

    /// What the second half of `item` goes through for image `i`, `to` being its result.
    fn ahead_of_second(&self, item: &Item, i: usize, to: *const R::Kept, shares: usize) -> Ahead {
        let (sizes, c) = (&self.cell.sizes, self.cell.sizes.c);
        let value = |k: usize| {
            let all = self.kept.values[item.value + k].as_ptr();
            (all.wrapping_add(i * sizes.node()), c, c)
        };
        let node = i * self.cell.spec.nodes + item.node;
        let g = (self.d.as_ptr().wrapping_add(node * sizes.node()), c, c);
        let pixels = if i < sizes.n { sizes.out[0] * sizes.out[1] } else { 0 };
        Ahead::new([g], pixels, shares).and([value(0), value(1), (to, c, c)])
    }

    fn work(&self, plan: &StatePlan<R>, image: usize) -> Work<R> {
        let pooled = if plan.pools.is_empty() { 0 } else { self.cell.sizes.node() };
        Work {
            bands: Bands::new(plan.size, plan.out, plan.c),
            x: plan.x(),
            z: plan.z(),
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
        let mut parts = Parts::new(weights.is_some(), n, &places);
        let pass = self;
        let sums: Vec<Vec<Vec<R>>> = each(
            parts.groups(by_image(dus.iter_mut().map(|d| &mut **d), n)),
            || self.work(plan, 0),
            |work, _, (start, images, mut sums)| {
                let after = following(start, images.len());
                let mut one = |(i, dus): (usize, Vec<&mut [R::Kept]>)| {
                    let (i, next) = (start + i, after(start + i));
                    let mut norm_sums = vec![R::ZERO; seconds.len() * 2 * c];
                    let own: Vec<*const R::Kept> = dus.iter().map(|du| du.as_ptr()).collect();
                    let targets = dus.into_iter().zip(norm_sums.chunks_exact_mut(2 * c));
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
                    norm_sums
                };
                images.into_iter().enumerate().map(&mut one).collect::<Vec<_>>()
            },
        );
        if let Some(weights) = weights {
            parts.total(&places, weights);
        }
        let total = |k: usize| -> R::Wide { sums.iter().flatten().map(|s| s[k].wide()).sum() };
        (seconds.iter().zip(dus).enumerate())
            .map(|(k, ((conv, _), du))| {
                let norm = cell.norm(self.kept.stats, conv.item.norm);
                let mut factors = vec![R::ZERO; 3 * c];
                for ch in 0..c {
                    let sums = [0, 1].map(|row| total((2 * k + row) * c + ch));
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

/// Which image a thread most likely takes after one of a group of `count` images from `start` on: the next of the group,
/// or the first of the group that its turn comes to again.
fn following(start: usize, count: usize) -> impl Fn(usize) -> usize {
    let threads = rayon::current_num_threads();
    move |i| if i + 1 < start + count { i + 1 } else { start + threads * count }
}
