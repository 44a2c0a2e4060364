//! The sums over the gradients of nodes that candidates' norms and mixing weights need.

use super::backward::Pass;
use super::plan::lanes;
use super::read;
use super::spec::Item;
use super::sum::{Images, Products};
use crate::ahead::Streams;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::dispatch_exactly;
use std::ops::Range;

/// Those of some candidates, node by node: a row of channels a candidate, and one of the gradient alone.
pub struct NormSums<'a, R: Real> {
    nodes: Vec<OfNode<'a, R>>,
    rows: usize,
}

struct OfNode<'a, R> {
    node: usize,
    terms: Vec<&'a Item>,
    shifts: Vec<R>,
    /// Its first row.
    start: usize,
}

impl<'a, R: Real> NormSums<'a, R> {
    /// Of the candidates that read one of the states `from`. `mix`: whether the gradients of the mixing weights are wanted;
    /// without, candidates that have no norm need no sums.
    pub fn new(pass: &Pass<'a, R>, from: Range<usize>, mix: bool) -> Self {
        let (cell, mut rows) = (pass.cell, 0);
        let zeros = vec![R::ZERO; cell.sizes.c];
        let mut nodes = vec![];
        for node in 0..cell.spec.nodes {
            let read = |item: &&Item| from.contains(&item.from) && (mix || item.norms > 0);
            let mut terms: Vec<&Item> = cell.spec.into_node(node).filter(read).collect();
            if terms.is_empty() {
                continue;
            }
            Images::<R>::sort(&mut terms, |item| item.last().is_some());
            let mean = |item: &&Item| item.last_norm().map_or(&zeros[..], |at| pass.norm(at).mean);
            let shifts = terms.iter().flat_map(mean).copied().collect();
            let start = rows;
            rows += terms.len() + 1;
            nodes.push(OfNode { node, terms, shifts, start });
        }
        Self { nodes, rows }
    }
    /// Every candidate, with its row and that of its node's gradient alone.
    pub fn rows(&self) -> impl Iterator<Item = (&'a Item, [usize; 2])> {
        self.nodes.iter().flat_map(|of| {
            let last = of.start + of.terms.len();
            of.terms.iter().enumerate().map(move |(k, &item)| (item, [of.start + k, last]))
        })
    }
    /// What is read of image `i` besides the gradients.
    pub fn streams(&self, pass: &Pass<R>, i: usize) -> Streams {
        self.nodes.iter().flat_map(|of| of.images(pass, i).streams(pass.cell.sizes.c)).collect()
    }
    /// Room for those of all images.
    pub fn room(&self, pass: &Pass<R>) -> Scratch<R> {
        Scratch::new(pass.cell.sizes.n * self.rows * pass.cell.sizes.c)
    }
    /// The sums of image `i`, `d` being the gradients of its nodes.
    pub fn run(&self, pass: &Pass<R>, d: *const R, i: usize, all: &mut [R]) {
        let (c, (isa, lanes)) = (pass.cell.sizes.c, lanes::<R>(pass.cell.spec, pass.cell.sizes.c));
        all.fill(R::ZERO);
        for of in &self.nodes {
            let (g, images) = (pass.node_grad(d, of.node), &of.images(pass, i));
            let (shifts, pixels) = (&of.shifts[..], pass.cell.sizes.node() / c);
            let sums = &mut all[of.start * c..][..(of.terms.len() + 1) * c];
            dispatch_exactly(isa, lanes, Products { g, images, shifts, c, pixels, sums });
        }
    }
}

impl<R: Real> OfNode<'_, R> {
    fn images(&self, pass: &Pass<R>, i: usize) -> Images<R> {
        let y = pass.kept.y[i * pass.cell.nodes()..].as_ptr();
        read(pass.cell, self.terms.iter().copied(), &pass.kept.values, y, i)
    }
}
