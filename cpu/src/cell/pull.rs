//! The backward pass of a cell over one image: what reads a state passes its gradient back to it.

use super::backward::Pass;
use super::half::{Bands, Half, Weights};
use super::norm_sums::NormSums;
use super::pad::Padded;
use super::pixels::{Incoming, Target, add_open};
use super::plan::{Conv, StatePlan};
use super::product::{Pair, outer};
use super::spec::Kind;
use super::sum::{Images, Sum};
use super::weights::Place;
use crate::ahead::{Ahead, Stream, Streams};
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Stored, Vector, call};
use std::borrow::Cow;

/// Work on one image of a state.
pub struct Work<R: Real> {
    pub bands: Bands<R>,
    /// What a half reads, if gradients of weights are wanted.
    pub x: Option<Padded<R>>,
    pub g: Padded<R>,
    /// The gradient of the state, where it does not go to its place directly.
    pub dx: Scratch<R>,
    /// A pool's gradient, and the same by window.
    pub pooled: [Scratch<R>; 2],
    pub row: Scratch<R>,
}

pub struct PullSecond<'a, R: Real> {
    pub pass: &'a Pass<'a, R>,
    pub conv: &'a Conv<R>,
    pub half: &'a Half<R>,
    pub i: usize,
    pub work: &'a mut Work<R>,
    pub du: &'a mut [R::Kept],
    pub norm_sums: &'a mut [R],
    pub weights: Option<[&'a mut [R]; 2]>,
    pub ahead: Ahead,
}

impl<R: Real> Kernel<R> for PullSecond<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { pass, conv: Conv { item, .. }, half, work, mut ahead, .. } = self;
        let (c, image) = (pass.cell.sizes.c, pass.cell.sizes.node());
        let value = |k: usize| &pass.kept.values[item.value + k][self.i * image..][..image];
        let norm = pass.norm(item.norm);
        let d = pass.d[self.i * image * pass.cell.spec.nodes..].as_ptr();
        let g = pass.node_grad(d, item.node);
        let factors = pass.factors(item.index, self.i);
        let incoming = Incoming { g, z: value(1), factors: &factors };
        let target = Target::Norm { z: value(0), norm, to: self.du, sums: self.norm_sums };
        // SAFETY: all are images of the nodes' size.
        unsafe {
            if let Some(x) = &mut work.x {
                half.x_pad.fill::<V, _>((value(0).as_ptr(), c), Some(norm), half.out, x);
            }
            let weights =
                self.weights.zip(work.x.as_ref()).map(|([taps, point], x)| Weights { taps, point, x });
            half.pull::<V, _>(&incoming, &mut work.g, &mut work.bands, target, weights, &mut ahead);
        }
    }
}

pub struct PullFirst<'a, R: Real> {
    pub pass: &'a Pass<'a, R>,
    pub plan: &'a StatePlan<R>,
    /// Of each separable convolution: the gradient behind its first norm, and the factors through it.
    pub between: &'a [(Scratch<R::Kept>, Vec<R>)],
    pub i: usize,
    /// The image that follows on this thread.
    pub next: usize,
    pub work: &'a mut Work<R>,
    /// This image's part of the gradients of the nodes.
    pub d: &'a mut [R],
    /// The gradient of the state, if it is an input.
    pub out: Option<&'a mut [R]>,
    /// The sums that follow.
    pub then: &'a NormSums<'a, R>,
    pub sums: Option<(&'a mut [R], &'a [Place])>,
}

impl<R: Real> Kernel<R> for PullFirst<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(mut self) {
        let (pass, plan, d) = (self.pass, self.plan, self.d.as_mut_ptr());
        let (c, [h, w]) = (plan.c, plan.size);
        let dx = match &mut self.out {
            Some(out) => out.as_mut_ptr(),
            None => self.work.dx.as_mut_ptr(),
        };
        // SAFETY: `dx` is an image of the state's size, `d` holds the nodes of this image.
        unsafe {
            self.identities::<V>(d, dx);
            if let Some(to) = self.work.x.as_mut().filter(|_| plan.has_relu()) {
                plan.x_pad.fill::<V, _>(pass.state(plan.from, self.i), None, plan.size, to);
            }
            self.convs::<V>(d, dx);
            self.skips::<V>(d, dx);
            self.pools::<V>(d, dx);
            if let Some(own) = plan.from.checked_sub(2) {
                let (to, step) = ((d.add(own * h * w * c), c), pass.cell.spec.nodes * c);
                let g = (pass.g[self.i * h * w * step + own * c..].as_ptr(), step);
                let ones = vec![R::ONE; 2 * c];
                let (mut images, constant) = (Images::new(), &vec![R::ZERO; c][..]);
                images.push(g);
                images.push((dx.cast_const(), c));
                call::<V, _>(Sum { images: &images, factors: &ones, constant, out: to, pixels: h * w });
            }
        }
    }
}

impl<'a, R: Real> PullFirst<'a, R> {
    /// dx = what the identities pass on.
    #[inline(always)]
    unsafe fn identities<V: Vector<Elem = R>>(&mut self, d: *const R, dx: *mut R) {
        let (pass, plan) = (self.pass, self.plan);
        let (mut images, mut factors) = (Images::new(), vec![]);
        for item in pass.cell.spec.reading(plan.from).filter(|i| i.kind == Kind::Identity) {
            images.push(pass.node_grad(d, item.node));
            factors.extend_from_slice(&pass.factors(item.index, self.i)[..plan.c]);
        }
        let (constant, pixels) = (&vec![R::ZERO; plan.c][..], plan.size[0] * plan.size[1]);
        call::<V, _>(Sum { images: &images, factors: &factors, constant, out: (dx, plan.c), pixels });
    }

    /// dx += the first halves' gradients
    ///
    /// # Safety
    /// `d` holds the nodes of this image, `dx` is an image of the state's size.
    #[inline(always)]
    unsafe fn convs<V: Vector<Elem = R>>(&mut self, d: *const R, dx: *mut R) {
        let (pass, plan, image) = (self.pass, self.plan, self.pass.cell.sizes.node());
        let (x, then) = (pass.state(plan.from, self.i), self.then.streams(pass, self.i));
        for (k, Conv { item, first, .. }) in plan.convs.iter().enumerate() {
            let mut ahead = self.ahead(k, d, dx, &then);
            let z = &pass.kept.values[item.value][self.i * image..][..image];
            let between = self.between(k);
            let Work { x: padded, g: work_g, bands, .. } = &mut *self.work;
            let weights = self.sums.as_mut().zip(padded.as_ref()).map(|((sums, places), x)| {
                let [taps, point] = places[k].split(sums);
                Weights { taps, point, x }
            });
            let target = Target::Input { x, to: dx };
            // SAFETY: the caller's.
            unsafe {
                let (factors, kept) = match between {
                    Some((du, factors)) => {
                        (Cow::Borrowed(&factors[..]), Some(du.as_ptr().add(self.i * image)))
                    }
                    None => (pass.factors(item.index, self.i), None),
                };
                let plain = match kept {
                    Some(du) => Stored::plain(du).map(|du| (du, plan.c)),
                    None => Some(pass.node_grad(d, item.node)),
                };
                // one copy of the loops where both are the same type
                if let Some(g) = plain {
                    let incoming = Incoming { g, z, factors: &factors };
                    first.pull::<V, _>(&incoming, work_g, bands, target, weights, &mut ahead);
                } else if let Some(du) = kept {
                    let incoming = Incoming { g: (du, plan.c), z, factors: &factors };
                    first.pull::<V, _>(&incoming, work_g, bands, target, weights, &mut ahead);
                }
            }
        }
    }

    /// Of a separable convolution, what its second half passed back.
    fn between(&self, k: usize) -> Option<&'a (Scratch<R::Kept>, Vec<R>)> {
        let convs = &self.plan.convs;
        convs[k].second.as_ref()?;
        self.between.get(convs[..k].iter().filter(|conv| conv.second.is_some()).count())
    }
    /// What convolution `k` reads for image `i`, gradient and value; `d` are the gradients of that image's nodes.
    fn reads(&self, k: usize, i: usize, d: *const R) -> [Stream; 2] {
        let (pass, c, item) = (self.pass, self.plan.c, &self.plan.convs[k].item);
        let of = |all: &[R::Kept]| Stream::new((all[i * pass.cell.sizes.node()..].as_ptr(), c), c);
        let g = match self.between(k) {
            Some((du, _)) => of(du),
            None => Stream::new(pass.node_grad(d, item.node), c),
        };
        [g, of(pass.kept.values[item.value])]
    }
    /// What follows on convolution `k`: the next one, or the first of the next image; before that, a share of what comes
    /// `then`, the sums of this image.
    fn ahead(&self, k: usize, d: *const R, dx: *const R, then: &[Stream]) -> Ahead {
        let (pass, plan, count) = (self.pass, self.plan, self.plan.convs.len());
        let (c, sizes) = (plan.c, &pass.cell.sizes);
        let share = k * then.len() / count..(k + 1) * then.len() / count;
        let mut streams = Streams::from_slice(&then[share]);
        if k + 1 < count {
            streams.extend(self.reads(k + 1, self.i, d));
        } else if self.next < sizes.n {
            let further = (self.next - self.i) * sizes.node();
            streams.extend(self.reads(0, self.next, d.wrapping_add(further * pass.cell.spec.nodes)));
            if plan.size == plan.out {
                streams.push(Stream::new(pass.state(plan.from, self.next), c));
                streams.extend(self.out.is_some().then(|| Stream::new((dx.wrapping_add(further), c), c)));
            }
        }
        Ahead::new(streams, sizes.node() / c, plan.convs[k].first.pull_fetches(self.sums.is_some()))
    }

    /// dx += the gradients of stride-2 skips
    ///
    /// # Safety
    /// As [`Self::convs`].
    #[inline(always)]
    unsafe fn skips<V: Vector<Elem = R>>(&mut self, d: *const R, dx: *mut R) {
        let (pass, plan, image) = (self.pass, self.plan, self.pass.cell.sizes.node());
        let (c, [oh, ow], w) = (plan.c, plan.out, plan.size[1]);
        let x = pass.state(plan.from, self.i);
        for (at, reduce) in plan.reduces.iter().enumerate() {
            let item = &reduce.item;
            let z = &pass.kept.values[item.value][self.i * image..][..image];
            let g = pass.node_grad(d, item.node);
            let factors = pass.factors(item.index, self.i);
            let incoming = Incoming { g, z, factors: &factors };
            for (y, k) in (0..oh).flat_map(|y| [(y, 0), (y, 1)]) {
                // SAFETY: the caller's; pixel (2 y + k, k) and every second one after it exist.
                unsafe {
                    let (row, (dz, pairs)) = (self.work.row.as_mut_ptr(), self.work.bands.parts());
                    if k == 0 {
                        incoming.read::<V>(y * ow, ow, c, dz);
                    }
                    let dz = dz.cast_const().add(k * c / 2);
                    call::<V, _>(reduce.halves[k].times((dz, c), (row, c), ow));
                    let start = (2 * y + k) * w + k;
                    let x = (x.0.add(start * x.1), 2 * x.1);
                    add_open::<V>(row, x, (dx.add(start * c), 2 * c), c, ow);
                    if let (Some((sums, places)), Some(x)) = (&mut self.sums, &self.work.x) {
                        let [my, mx] = plan.x_pad.margin;
                        let from = x.plain.as_ptr().add(plan.x_pad.at(my + 2 * y + k, mx + k));
                        let sum = &mut places[plan.convs.len() + at].split(sums)[k];
                        let pair = Pair { a: (dz, c), b: (from, 2 * c), pixels: ow };
                        outer::<V>(pair, [c / 2, c], sum.as_mut_ptr(), pairs);
                    }
                }
            }
        }
    }

    /// dx += the gradients of pools, each taken back once for all nodes that read it
    ///
    /// # Safety
    /// As [`Self::convs`].
    #[inline(always)]
    unsafe fn pools<V: Vector<Elem = R>>(&mut self, d: *const R, dx: *mut R) {
        let (pass, plan, image) = (self.pass, self.plan, self.pass.cell.sizes.node());
        let c = plan.c;
        for pool in &plan.pools {
            let value = &pass.kept.values[pool.item.value][self.i * image..][..image];
            let (mut images, mut factors) = (Images::new(), vec![R::ZERO; c]);
            images.push_kept((value.as_ptr(), c));
            let mut constant = vec![R::ZERO; c];
            let alike = |i: &&super::spec::Item| i.kind == pool.item.kind;
            for item in pass.cell.spec.reading(plan.from).filter(alike) {
                let own = pass.factors(item.index, self.i);
                images.push(pass.node_grad(d, item.node));
                factors.extend_from_slice(&own[..c]);
                factors.iter_mut().zip(&own[c..2 * c]).for_each(|(f, &x)| *f += x);
                constant.iter_mut().zip(&own[2 * c..]).for_each(|(f, &x)| *f += x);
            }
            let [pooled, scaled] = &mut self.work.pooled;
            let out = (pooled.as_mut_ptr(), c);
            let pixels = image / c;
            call::<V, _>(Sum { images: &images, factors: &factors, constant: &constant, out, pixels });
            // SAFETY: the caller's.
            let dx = unsafe { std::slice::from_raw_parts_mut(dx, plan.size[0] * plan.size[1] * c) };
            match pool.maximum {
                Some(at) => {
                    pool.images.pull_max(pooled, &pass.kept.indices[at][self.i * image..][..image], dx)
                }
                None => pool.images.pull_avg(pooled, scaled, dx),
            }
        }
    }
}
