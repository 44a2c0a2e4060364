//! Gradients of a state's weights: sums over parts of the batch, then their total in order.

use super::plan::{Sizes, StatePlan};
use super::spec::{Item, Kind, Spec};
use crate::jobs::all;
use crate::real::Real;
use crate::scratch::Scratch;

/// The batch is cut in at most so many parts with sums of their own, whatever the number of threads.
const PARTS: usize = 16;
/// Without sums parts cost nothing.
const FREE_PARTS: usize = 64;

/// Two weight tensors' place in a part's sums: (taps, c) and (c, c), or two of (c / 2, c).
pub struct Place {
    offset: usize,
    sizes: [usize; 2],
    /// The first one's index among all weights.
    weight: usize,
    /// Taps, if the first is a depthwise convolution's.
    taps: Option<usize>,
}

impl Place {
    fn list(all: impl Iterator<Item = ([usize; 2], usize, Option<usize>)>) -> Vec<Self> {
        let mut next = 0;
        all.map(|(sizes, weight, taps)| {
            let offset = next;
            next += sizes[0] + sizes[1];
            Self { offset, sizes, weight, taps }
        })
        .collect()
    }
    /// Of the first halves, then of the stride-2 skips.
    pub fn of_firsts<R: Real>(plan: &StatePlan<R>) -> Vec<Self> {
        let skip = |item: &Item| ([plan.c * plan.c / 2; 2], item.weight, None);
        let half =
            |k: &super::plan::Conv<R>| (k.first.weight_sizes(), k.item.weight, Some(k.first.window.taps()));
        Self::list(plan.convs.iter().map(half).chain(plan.reduces.iter().map(|r| skip(&r.item))))
    }
    /// Of the second halves.
    pub fn of_seconds<R: Real>(plan: &StatePlan<R>) -> Vec<Self> {
        Self::list(plan.convs.iter().filter_map(|k| {
            let half = k.second.as_ref()?;
            Some((half.weight_sizes(), k.item.weight + 2, Some(half.window.taps())))
        }))
    }
    /// The two sums in those of a part.
    pub fn split<'s, R>(&self, sums: &'s mut [R]) -> [&'s mut [R]; 2] {
        let own = &mut sums[self.offset..][..self.sizes[0] + self.sizes[1]];
        own.split_at_mut(self.sizes[0]).into()
    }
}

/// Elements of the moments that a forward pass of a cell has at once.
pub fn moments_scratch(spec: &Spec, sizes: &Sizes) -> usize {
    let of_state = |from: usize| {
        let own = spec.reading(from).filter(|item| !item.kind.is_pool() && item.kind.values() > 0);
        spec.pools_of(from).len() + own.count()
    };
    3 * sizes.c * sizes.n * (0..2 + spec.nodes).map(of_state).max().unwrap_or(0)
}

/// Elements that a gradient of a cell needs while it runs, what a thread needs for one image not counted; `weight`
/// gives the elements of a weight tensor; values are kept lean or not.
pub fn gradient_scratch(
    spec: &Spec,
    sizes: &Sizes,
    weight: impl Fn(usize) -> usize,
    (wanted, lean): (bool, bool),
) -> usize {
    let (node, n) = (sizes.n * sizes.node(), sizes.n);
    let parts = if wanted { n.div_ceil(n.div_ceil(PARTS)) } else { 0 };
    let of_state = |from: usize| {
        let (mut betweens, mut halves) = (0, [0, 0]);
        for item in spec.reading(from) {
            for k in 0..item.kind.weights() {
                halves[k / 2] += weight(item.weight + k);
            }
            betweens += usize::from(matches!(item.kind, Kind::TwoConvs(_))) * node;
        }
        betweens.div_ceil(1 + usize::from(lean)) + parts * halves[0].max(halves[1])
    };
    // of the sums of norms: a row a candidate, and one for each node
    let rows = |from: usize| {
        let read = |node: &usize| spec.into_node(*node).any(|item| item.from == from);
        spec.reading(from).count() + (0..spec.nodes).filter(read).count()
    };
    let most = |of: &dyn Fn(usize) -> usize| (0..2 + spec.nodes).map(of).max().unwrap_or(0);
    spec.nodes * node + most(&of_state) + sizes.n * sizes.c * most(&rows)
}

/// The sums of all parts.
pub struct Parts<R> {
    /// Images of a part.
    group: usize,
    /// Elements of a part's sums, and those of all.
    size: usize,
    sums: Scratch<R>,
}

/// A part of the batch: its first image, all its images, and if there are any its sums, arbitrary.
pub type Group<'s, R, T> = (usize, Vec<T>, Option<&'s mut [R]>);

impl<R: Real> Parts<R> {
    pub fn new(wanted: bool, images: usize, places: &[Place]) -> Self {
        let group = images.div_ceil(if wanted { PARTS } else { FREE_PARTS });
        let size = places.iter().map(|p| p.sizes[0] + p.sizes[1]).sum();
        let size = if wanted { size } else { 0 };
        Self { group, size, sums: Scratch::new(images.div_ceil(group) * size) }
    }
    pub fn groups<T>(&mut self, images: Vec<T>) -> Vec<Group<'_, R, T>> {
        let (count, mut images) = (images.len().div_ceil(self.group), images.into_iter());
        let mut sums = self.sums.chunks_exact_mut(self.size.max(1));
        (0..count)
            .map(|k| (k * self.group, images.by_ref().take(self.group).collect(), sums.next()))
            .collect()
    }
    /// Writes the totals to the tensors.
    pub fn total(&self, places: &[Place], weights: &mut [&mut [R]]) {
        let mut tensors: Vec<Option<&mut &mut [R]>> = weights.iter_mut().map(Some).collect();
        let mut jobs = vec![];
        for place in places {
            for k in 0..2 {
                if let Some(to) = tensors[place.weight + k].take() {
                    jobs.push((place.offset + k * place.sizes[0], place.taps.filter(|_| k == 0), to));
                }
            }
        }
        all(jobs, |(offset, taps, to)| {
            let mut total = vec![R::Wide::of(0.0); to.len()];
            for sums in self.sums.chunks_exact(self.size) {
                total.iter_mut().zip(&sums[offset..]).for_each(|(t, x)| *t += x.wide());
            }
            let c = taps.map_or(1, |taps| to.len() / taps);
            for (i, t) in total.into_iter().enumerate() {
                // a depthwise weight is (c, taps)
                let at = taps.map_or(i, |taps| i % c * taps + i / c);
                to[at] = R::narrow(t);
            }
        });
    }
}
