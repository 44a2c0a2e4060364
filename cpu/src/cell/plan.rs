//! What the passes of a cell work out from shapes and weights alone, state by state.

use super::Cell;
use super::half::{Half, Keep, paired};
use super::pad::{Pad, Padded};
use super::product::Matrix;
use super::spec::{Item, Kind, Spec};
use crate::jobs::each;
use crate::real::Real;
use crate::simd::{Isa, lanes_dividing};
use crate::window::Window;
use crate::{isa, pool};

/// Extents of a cell: images, channels, sizes of the two inputs and of the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub n: usize,
    pub c: usize,
    pub inputs: [[usize; 2]; 2],
    pub out: [usize; 2],
}

impl Sizes {
    /// Height and width of state `from`.
    pub fn of(&self, from: usize) -> [usize; 2] {
        *self.inputs.get(from).unwrap_or(&self.out)
    }
    /// Elements of one image of state `from`, and of a node.
    pub fn image(&self, from: usize) -> usize {
        self.of(from).iter().product::<usize>() * self.c
    }
    pub fn node(&self) -> usize {
        self.out[0] * self.out[1] * self.c
    }
    /// Whether values that are read again only in the backward pass, or by a node's sum, are forgotten by then.
    pub fn keep<R: Real>(&self, spec: &Spec) -> Keep {
        const CACHED: usize = 32 << 20; // bytes
        match spec.values * self.n * self.node() * size_of::<R::Kept>() > CACHED {
            true => Keep::Far,
            false => Keep::Near,
        }
    }
}

/// A convolution: its candidate and its one or two halves.
pub struct Conv<R: Real> {
    pub item: Item,
    pub first: Half<R>,
    pub second: Option<Half<R>>,
}

/// A stride-2 skip: both 1 x 1 convolutions, for a backward pass transposed.
pub struct Reduce<R: Real> {
    pub item: Item,
    pub halves: [Matrix<R>; 2],
}

/// A pool and, of a maximum, its place among the maxima.
pub struct Pool {
    pub item: Item,
    pub images: pool::Images,
    pub maximum: Option<usize>,
}

impl Pool {
    /// Those of state `from`.
    pub fn of_state(spec: &Spec, sizes: &Sizes, from: usize) -> Vec<Self> {
        let [h, w] = sizes.of(from);
        let of = |(&item, maximum): (&Item, _)| {
            let images = pool::Images::new(item.kind.window(), [sizes.n, h, w, sizes.c]);
            Self { item, images, maximum }
        };
        spec.pools_of(from).into_iter().map(of).collect()
    }
}

/// What the nodes read of one state.
pub struct StatePlan<R: Real> {
    pub isa: Isa,
    pub lanes: usize,
    pub from: usize,
    pub c: usize,
    pub size: [usize; 2],
    pub out: [usize; 2],
    /// Of the state, of the values between two halves, and of gradients at the nodes' size.
    pub x_pad: Pad,
    pub z_pad: Pad,
    pub g_pad: Pad,
    /// The dilations, 1 and 2, of which pairs are read of each of them.
    paired: [[bool; 2]; 3],
    pub pools: Vec<Pool>,
    pub convs: Vec<Conv<R>>,
    pub reduces: Vec<Reduce<R>>,
}

impl<R: Real> StatePlan<R> {
    /// Of all states that are read, for the forward pass or `back`.
    pub fn all(cell: &Cell<R>, back: bool) -> Vec<Option<Self>> {
        each(
            0..2 + cell.spec.nodes,
            || (),
            |(), _, from| cell.spec.reading(from).next().map(|_| Self::new(cell, from, back)),
        )
    }
    fn new(cell: &Cell<R>, from: usize, back: bool) -> Self {
        let Cell { spec, sizes, weights, .. } = cell;
        let items = || spec.reading(from);
        let (c, size, out) = (sizes.c, sizes.of(from), sizes.out);
        let (isa, lanes) = lanes::<R>(spec, c);
        let kinds: Vec<Kind> = items().map(|i| i.kind).collect();
        let firsts: Vec<Window> = kinds.iter().filter_map(|k| k.depthwise().first().copied()).collect();
        let seconds: Vec<Window> = kinds.iter().filter_map(|k| k.depthwise().get(1).copied()).collect();
        let x_pad = Pad::for_windows(&firsts, size, out, c);
        let z_pad = Pad::for_windows(&seconds, out, out, c);
        let all = firsts.iter().map(|&w| (w, size)).chain(seconds.iter().map(|&w| (w, out)));
        let g_pad = Pad::for_gradients(&all.collect::<Vec<_>>(), out, c);
        let (mut convs, mut reduces) = (vec![], vec![]);
        for &item in items() {
            let w = |k: usize| weights[item.weight + k];
            if let [window, rest @ ..] = item.kind.depthwise() {
                let first = Half::new(*window, size, out, (isa, lanes), [x_pad, g_pad], [w(0), w(1)], back);
                let second = rest.first().map(|window| {
                    Half::new(*window, out, out, (isa, lanes), [z_pad, g_pad], [w(2), w(3)], back)
                });
                convs.push(Conv { item, first, second });
            } else if item.kind == Kind::Reduce {
                let halves = [0, 1].map(|k| match back {
                    false => Matrix::new(c, c / 2, (isa, lanes), |i, j| w(k)[j * c + i]),
                    true => Matrix::new(c / 2, c, (isa, lanes), |i, j| w(k)[i * c + j]),
                });
                reduces.push(Reduce { item, halves });
            }
        }
        let reads = |windows: &[Window]| {
            let of = |d: usize| windows.iter().any(|w| paired::<R>(w, (isa, lanes)) == Some(d));
            [of(1), of(2)]
        };
        let paired = [reads(&firsts), reads(&seconds), reads(&[firsts, seconds].concat())];
        let pools = Pool::of_state(spec, sizes, from);
        Self { isa, lanes, from, c, size, out, x_pad, z_pad, g_pad, paired, pools, convs, reduces }
    }
    /// Memory for copies by `x_pad`, `z_pad` and `g_pad`.
    pub fn x(&self) -> Padded<R> {
        Padded::new(&self.x_pad, self.paired[0])
    }
    pub fn z(&self) -> Padded<R> {
        Padded::new(&self.z_pad, self.paired[1])
    }
    pub fn g(&self) -> Padded<R> {
        Padded::new(&self.g_pad, self.paired[2])
    }
    /// Places of the values computed from the state itself: of the pools, the convolutions, the skips.
    pub fn first_values(&self) -> Vec<usize> {
        (self.pools.iter().map(|p| p.item.value))
            .chain(self.convs.iter().map(|k| k.item.value))
            .chain(self.reduces.iter().map(|r| r.item.value))
            .collect()
    }
    /// Whether anything reads the state through a relu.
    pub fn has_relu(&self) -> bool {
        !self.convs.is_empty() || !self.reduces.is_empty()
    }
}

/// Instruction set, and lanes that divide the channels of everything in the cell.
pub fn lanes<R: Real>(spec: &Spec, c: usize) -> (Isa, usize) {
    let halved = spec.items.iter().any(|i| i.kind == Kind::Reduce);
    let isa = isa();
    (isa, lanes_dividing::<R>(isa, if halved { c / 2 } else { c }))
}
