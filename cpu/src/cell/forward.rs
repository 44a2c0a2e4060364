//! The forward pass of a cell.

use super::half::{Bands, Keep};
use super::pad::{Norm, Padded};
use super::pixels::set_moments;
use super::plan::{StatePlan, lanes};
use super::pools::dense;
use super::spec::Item;
use super::sum::{Image, Images, Sum};
use super::{Cell, Slot, by_image, equal_parts, read, room, state};
use crate::EPSILON;
use crate::ahead::{Ahead, Stream, Streams};
use crate::jobs::{each, small};
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Vector, call, dispatch_exactly};
use smallvec::smallvec;

/// Computes the nodes side by side, (n, h, w, nodes c); the statistics of all norms, (norms, 3, c); and what the
/// backward needs: values before their norms, and the taps of maxima.
pub fn forward<R: Real>(
    cell: &Cell<R>,
    y: &mut [R],
    stats: &mut [R],
    values: &mut [&mut [R::Kept]],
    indices: &mut [&mut [u8]],
) {
    if let Some(given) = cell.given {
        stats.copy_from_slice(given);
    }
    for (from, plan) in StatePlan::all(cell, false).into_iter().enumerate() {
        let sum = from.checked_sub(2).map(|node| NodeSum::new(cell, node, stats));
        first_values(cell, sum.as_ref(), plan.as_ref(), y, stats, values, indices);
        if let Some(plan) = plan {
            second_values(cell, &plan, stats, values);
        }
    }
}

/// Working memory of one thread.
struct Work<R: Real> {
    padded: Padded<R>,
    bands: Bands<R>,
    dense: Scratch<R>,
    /// For a value that is not kept as it is computed.
    room: Scratch<R>,
}

impl<R: Real> Work<R> {
    fn new(cell: &Cell<R>, plan: &StatePlan<R>) -> Self {
        let dense = if plan.pools.is_empty() || plan.from < 2 { 0 } else { cell.sizes.image(plan.from) };
        Self {
            padded: plan.x(),
            bands: Bands::new(plan.size, plan.out, plan.c),
            dense: Scratch::new(dense),
            room: Scratch::new(room::<R>(cell.sizes.node())),
        }
    }
}

/// Image by image a state's `sum`, if it is a node, and what reads the state, if anything does: pools, first halves and
/// stride-2 skips.
fn first_values<R: Real>(
    cell: &Cell<R>,
    sum: Option<&NodeSum<R>>,
    plan: Option<&StatePlan<R>>,
    y: &mut [R],
    stats: &mut [R],
    values: &mut [&mut [R::Kept]],
    indices: &mut [&mut [u8]],
) {
    let n = cell.sizes.n;
    let places: Vec<usize> = plan.map(StatePlan::first_values).unwrap_or_default();
    let maxima: Vec<usize> = plan.iter().flat_map(|p| &p.pools).filter_map(|p| p.maximum).collect();
    let mut taken: Vec<&mut [R::Kept]> = places.iter().map(|&v| std::mem::take(&mut values[v])).collect();
    let mut taps: Vec<&mut [u8]> = maxima.iter().map(|&m| std::mem::take(&mut indices[m])).collect();
    let mut outs = by_image(taken.iter_mut().map(|t| &mut **t), n);
    let mut taps_of = by_image(taps.iter_mut().map(|t| &mut **t), n);
    let mut moments = Scratch::new(n * places.len() * 3 * cell.sizes.c);
    let (known, threads) = (&*values, rayon::current_num_threads());
    let images =
        y.chunks_exact_mut(cell.nodes()).zip(equal_parts(&mut outs, n).zip(equal_parts(&mut taps_of, n)));
    each(
        images.zip(equal_parts(&mut moments, n)),
        || plan.map(|plan| Work::new(cell, plan)),
        |work, i, ((y, (outs, taps)), moments)| {
            if let Some(sum) = sum {
                sum.run(cell, known, y, i);
            }
            let (Some(plan), Some(work)) = (plan, work) else { return };
            let (x, next) = (state(cell, y.as_ptr(), plan.from, i), i + threads);
            let far = cell.sizes.keep::<R>(cell.spec);
            let streams = match sum {
                _ if next >= n => Streams::new(),
                Some(sum) => {
                    sum.images(cell, known, y.as_ptr().wrapping_add(threads * y.len()), next).streams(plan.c)
                }
                None => smallvec![Stream::new(state(cell, y.as_ptr(), plan.from, next), plan.c)],
            };
            let shares = plan.convs.iter().map(|conv| conv.first.run_fetches()).sum();
            let ahead = Ahead::new(streams, plan.size.iter().product(), shares);
            let wanted = cell.given.is_none();
            let job = First { plan, x, ahead, outs, taps, work, moments, wanted, far };
            dispatch_exactly(plan.isa, plan.lanes, job);
        },
    );
    places.iter().zip(taken).for_each(|(&v, t)| values[v] = t);
    maxima.iter().zip(taps).for_each(|(&m, t)| indices[m] = t);
    if cell.given.is_none() {
        set_statistics(cell, &places, &moments, stats);
    }
}

struct First<'a, 't, R: Real> {
    plan: &'a StatePlan<R>,
    x: Image<R>,
    /// What this thread most likely reads next.
    ahead: Ahead,
    /// Of the pools, the convolutions, the skips.
    outs: &'a mut [&'t mut [R::Kept]],
    taps: &'a mut [&'t mut [u8]],
    work: &'a mut Work<R>,
    /// Of each value's channels about its first pixel, and that pixel, (values, 3, c), if wanted.
    moments: &'a mut [R],
    wanted: bool,
    /// How values that a node's sum reads are kept.
    far: Keep,
}

impl<R: Real> Kernel<R> for First<'_, '_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { plan, x, mut ahead, work, outs, taps, moments, wanted, far } = self;
        let (c, [h, w], out) = (plan.c, plan.size, plan.out);
        moments.fill(R::ZERO);
        let mut targets = outs.iter_mut().map(|to| &mut **to).zip(moments.chunks_exact_mut(3 * c));
        // SAFETY: `x` is an image of the plan's size, the results are of the nodes' size.
        unsafe {
            if !plan.pools.is_empty() {
                let dense = dense(x, h * w * c, c, &mut work.dense, (plan.isa, plan.lanes));
                let mut taps = taps.iter_mut().map(|taps| &mut **taps);
                for (pool, (to, moments)) in plan.pools.iter().zip(&mut targets) {
                    let mut slot = Slot { to, room: &mut work.room };
                    pool.run(dense, slot.numbers(), &mut taps);
                    if wanted && pool.item.norms > 0 {
                        set_moments::<V>(slot.numbers(), c, moments);
                    }
                    slot.finish::<V>();
                }
            }
            if plan.has_relu() {
                plan.x_pad.fill::<V, _>(x, None, plan.size, &mut work.padded);
            }
            for (conv, (to, moments)) in plan.convs.iter().zip(&mut targets) {
                let (keep, moments) =
                    (if conv.second.is_some() { Keep::Near } else { far }, wanted.then_some(moments));
                conv.first.run::<V>(&work.padded, &mut work.bands, to, moments, keep, &mut ahead);
            }
            for (reduce, (to, moments)) in plan.reduces.iter().zip(&mut targets) {
                let mut slot = Slot { to, room: &mut work.room };
                let numbers = slot.numbers();
                for (k, half) in reduce.halves.iter().enumerate() {
                    for y in 0..out[0] {
                        let [my, mx] = plan.x_pad.margin;
                        let from = work.padded.plain.as_ptr().add(plan.x_pad.at(my + 2 * y + k, mx + k));
                        let to = numbers.as_mut_ptr().add(y * out[1] * c + k * c / 2);
                        call::<V, _>(half.times((from, 2 * c), (to, c), out[1]));
                    }
                }
                if wanted {
                    set_moments::<V>(numbers, c, moments);
                }
                slot.finish::<V>();
            }
        }
    }
}

/// Second halves of one state's separable convolutions.
fn second_values<R: Real>(
    cell: &Cell<R>,
    plan: &StatePlan<R>,
    stats: &mut [R],
    values: &mut [&mut [R::Kept]],
) {
    let (n, c, image) = (cell.sizes.n, plan.c, cell.sizes.node());
    let seconds: Vec<_> = plan.convs.iter().filter_map(|k| Some((&k.item, k.second.as_ref()?))).collect();
    if seconds.is_empty() {
        return;
    }
    let places: Vec<usize> = seconds.iter().map(|(item, _)| item.value + 1).collect();
    let mut taken: Vec<&mut [R::Kept]> = places.iter().map(|&v| std::mem::take(&mut values[v])).collect();
    let (read, known, threads) = (&*values, &*stats, rayon::current_num_threads());
    let mut outs = by_image(taken.iter_mut().map(|t| &mut **t), n);
    let mut moments = Scratch::new(n * places.len() * 3 * c);
    each(
        equal_parts(&mut outs, n).zip(equal_parts(&mut moments, n)),
        || (plan.z(), Bands::new(plan.out, plan.out, c)),
        |(padded, bands), i, (outs, moments): (&mut [&mut [R::Kept]], &mut [R])| {
            moments.fill(R::ZERO);
            let targets = outs.iter_mut().zip(moments.chunks_exact_mut(3 * c));
            for ((k, &(item, half)), (z, moments)) in seconds.iter().enumerate().zip(targets) {
                let x = &read[item.value][i * image..][..image];
                let (k, then) = if k + 1 < seconds.len() { (k + 1, i) } else { (0, i + threads) };
                let next = (read[seconds[k].0.value].as_ptr().wrapping_add(then * image), c);
                let pixels = if then < n { image / c } else { 0 };
                let ahead = Ahead::new([Stream::new(next, c)], pixels, half.run_fetches());
                let moments = cell.given.is_none().then_some(moments);
                let (norm, keep) = (cell.norm(known, item.norm), cell.sizes.keep::<R>(cell.spec));
                let job = Second { half, x, norm, padded, bands, z, moments, keep, ahead };
                dispatch_exactly(plan.isa, plan.lanes, job);
            }
        },
    );
    places.iter().zip(taken).for_each(|(&v, t)| values[v] = t);
    if cell.given.is_none() {
        set_statistics(cell, &places, &moments, stats);
    }
}

struct Second<'a, R: Real> {
    half: &'a super::half::Half<R>,
    x: &'a [R::Kept],
    norm: Norm<'a, R>,
    padded: &'a mut Padded<R>,
    bands: &'a mut Bands<R>,
    z: &'a mut [R::Kept],
    moments: Option<&'a mut [R]>,
    keep: Keep,
    ahead: Ahead,
}

impl<R: Real> Kernel<R> for Second<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(mut self) {
        let pad = &self.half.x_pad;
        // SAFETY: `x` and `z` are images of the nodes' size.
        unsafe {
            pad.fill::<V, _>((self.x.as_ptr(), pad.c), Some(self.norm), self.half.out, self.padded);
            self.half.run::<V>(self.padded, self.bands, self.z, self.moments, self.keep, &mut self.ahead);
        }
    }
}

/// Writes mean, r and biased variance of the values at `places` to the rows of all norms that apply to them; `moments`
/// are those of each image, (n, values, 3, c).
fn set_statistics<R: Real>(cell: &Cell<R>, places: &[usize], moments: &[R], stats: &mut [R]) {
    let (n, c) = (cell.sizes.n, cell.sizes.c);
    let rows = small((0..places.len()).collect(), 2 * n * c, |k| {
        let images = moments.chunks_exact(places.len() * 3 * c).map(|all| &all[3 * k * c..][..3 * c]);
        statistics(images, c, n, cell.sizes.node() / c)
    });
    for (&place, row) in places.iter().zip(&rows) {
        for item in &cell.spec.items {
            for later in 0..item.norms {
                if item.value + later == place {
                    stats[(item.norm + later) * 3 * c..][..3 * c].copy_from_slice(row);
                }
            }
        }
    }
}

/// Mean, r and biased variance of `c` channels, from the moments of `n` images of so many pixels.
fn statistics<'m, R: Real>(
    images: impl Iterator<Item = &'m [R]> + Clone,
    c: usize,
    n: usize,
    pixels: usize,
) -> Vec<R> {
    let wide = R::Wide::of;
    let (pixels, share) = (wide(pixels as f64), wide(1.0 / pixels as f64));
    let count = wide(n as f64);
    let (mut mean, mut within) = (vec![R::Wide::default(); c], vec![R::Wide::default(); c]);
    for moments in images.clone() {
        let (sum, shift) = (&moments[..c], &moments[2 * c..]);
        for ((mean, sum), shift) in mean.iter_mut().zip(sum).zip(shift) {
            *mean += shift.wide() + sum.wide() * share;
        }
    }
    mean.iter_mut().for_each(|mean| *mean = *mean / count);
    for moments in images {
        let (sum, square, shift) = (&moments[..c], &moments[c..2 * c], &moments[2 * c..]);
        let all = within.iter_mut().zip(&mean).zip(sum).zip(square).zip(shift);
        for ((((within, &mean), sum), square), shift) in all {
            let (s, off) = (sum.wide(), shift.wide() + sum.wide() * share - mean);
            *within += square.wide() - s * s * share + pixels * off * off;
        }
    }
    let mut row = vec![R::ZERO; 3 * c];
    for (ch, (mean, within)) in mean.into_iter().zip(within).enumerate() {
        let variance = if within < wide(0.0) { wide(0.0) } else { within / (count * pixels) };
        row[ch] = R::narrow(mean);
        row[c + ch] = R::narrow(wide(1.0) / (variance + wide(EPSILON)).sqrt());
        row[2 * c + ch] = R::narrow(variance);
    }
    row
}

/// A node's value: the weighted sum of its candidates, their norms applied.
struct NodeSum<'a, R: Real> {
    node: usize,
    terms: Vec<Term<'a, R>>,
    /// Factors and constant, if they are the same for all images.
    alike: Option<(Vec<R>, Vec<R>)>,
}

impl<'a, R: Real> NodeSum<'a, R> {
    fn new(cell: &'a Cell<R>, node: usize, stats: &[R]) -> Self {
        let mut items: Vec<&Item> = cell.spec.into_node(node).collect();
        Images::<R>::sort(&mut items, |item| item.last().is_some());
        let terms: Vec<Term<R>> = items.iter().map(|item| Term::new(cell, item, stats)).collect();
        let dropped = items.iter().any(|item| cell.dropped(item.index, 0).is_some());
        let alike = if dropped { None } else { Some(combine(cell, &terms, 0)) };
        Self { node, terms, alike }
    }
    /// What it reads of image `i`, whose nodes are at `y`.
    fn images(&self, cell: &Cell<R>, values: &[&mut [R::Kept]], y: *const R, i: usize) -> Images<R> {
        read(cell, self.terms.iter().map(|term| term.item), values, y, i)
    }
    /// Computes it for image `i`, whose nodes are `y`.
    fn run(&self, cell: &Cell<R>, values: &[&mut [R::Kept]], y: &mut [R], i: usize) {
        let (c, (isa, lanes)) = (cell.sizes.c, lanes::<R>(cell.spec, cell.sizes.c));
        let y = y.as_mut_ptr();
        let images = &self.images(cell, values, y, i);
        let out = (y.wrapping_add(self.node * c), cell.spec.nodes * c);
        let own;
        let (factors, constant) = match &self.alike {
            Some(alike) => alike,
            None => {
                own = combine(cell, &self.terms, i);
                &own
            }
        };
        let pixels = cell.sizes.node() / c;
        dispatch_exactly(isa, lanes, Sum { images, factors, constant, out, pixels });
    }
}

/// A candidate in a node's sum: what its value is multiplied by in every channel, and what is added.
struct Term<'a, R: Real> {
    item: &'a Item,
    factor: Vec<R::Wide>,
    plus: Vec<R::Wide>,
}

impl<'a, R: Real> Term<'a, R> {
    /// w (gamma (x - m) r + beta): factor w gamma r, and the rest is constant.
    fn new(cell: &Cell<R>, item: &'a Item, stats: &[R]) -> Self {
        let (c, w) = (cell.sizes.c, cell.mix[item.entry].wide());
        let Some(at) = item.last_norm() else {
            return Self { item, factor: vec![w; c], plus: vec![R::Wide::default(); c] };
        };
        let Norm { mean, r, gamma, beta } = cell.norm(stats, at);
        let factor: Vec<R::Wide> = (0..c).map(|ch| w * gamma[ch].wide() * r[ch].wide()).collect();
        let plus = (0..c).map(|ch| w * beta[ch].wide() - factor[ch] * mean[ch].wide()).collect();
        Self { item, factor, plus }
    }
}

/// All factors, term by term, and the constant of image `i`.
fn combine<R: Real>(cell: &Cell<R>, terms: &[Term<R>], i: usize) -> (Vec<R>, Vec<R>) {
    let c = cell.sizes.c;
    let (mut factors, mut constant) = (Vec::with_capacity(terms.len() * c), vec![R::Wide::default(); c]);
    for Term { item, factor, plus } in terms {
        let by = cell.dropped(item.index, i).map_or(R::Wide::of(1.0), R::wide);
        factors.extend(factor.iter().map(|&f| R::narrow(by * f)));
        constant.iter_mut().zip(plus).for_each(|(to, &plus)| *to += by * plus);
    }
    (factors, constant.into_iter().map(R::narrow).collect())
}
