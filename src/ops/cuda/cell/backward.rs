//! The backward pass of a cell, node by node from the last. Kernels: kernels/cell_{sums,pull,gather}.cu.
//!
//! Of a node whose gradient is complete: the sums that its candidates' norms need, with the mixing weights' gradients
//! from them; the gradients behind the depthwise convolutions of all its candidates; those of the values between two
//! halves, their norms' sums, and the gradients behind the first depthwise convolutions. What a state gets from them
//! waits until every node that reads it has been there; then it is gathered, and the state's gradient written once.

use super::items::{
    self, DEPTHWISE, Factors, FactorsItem, GatherPart, GatherTarget, IDENTITY, Images, Incoming, MAXIMA,
    Operand, PIXELS, PullItem, SHARED, SHARES, Sums, Term, Window,
};
use super::launch::{factors, pull, sums};
use super::{Cell, images};
use crate::error::Result;
use crate::tensor::{DType, Tensor};
use bytemuck::Zeroable;
use oche_cpu::cell::{Item, Kind};
use std::collections::BTreeMap;

/// Where the gradients go, as far as they are wanted; overwritten.
pub(super) struct Gradients<'a> {
    pub mix: &'a Tensor,
    pub inputs: [Option<&'a Tensor>; 2],
    /// One a weight tensor.
    pub weights: Option<Vec<&'a Tensor>>,
}

/// A convolution of 1 x 1 with what is before it: half of a candidate.
pub(super) struct Half<'a> {
    pub item: &'a Item,
    /// What it reads, and the gradient of what it gives.
    pub from: Operand,
    pub grads: Incoming,
    /// Its weights' places among all.
    pub depth: Option<usize>,
    pub point: usize,
    /// The gradient of the product's operand.
    pub d: Tensor,
}

/// What a state is still to get, with the tensors that it lies in.
#[derive(Default)]
struct Pending {
    masked: Vec<GatherPart>,
    open: Vec<GatherPart>,
    held: Vec<Tensor>,
    /// The gradients of pools, by value: added to by every node that reads them.
    pools: BTreeMap<usize, Tensor>,
}

/// A gather before it is laid out in a launch.
pub(super) struct Target {
    pub at: GatherTarget,
    pub masked: Vec<GatherPart>,
    pub open: Vec<GatherPart>,
}

pub(super) struct Pass<'a> {
    pub cell: &'a Cell<'a>,
    /// The gradient of the nodes side by side.
    g: u64,
    to: Gradients<'a>,
    /// Gradients of the nodes that others read.
    nodes: Vec<Option<Tensor>>,
    /// By state.
    pending: Vec<Pending>,
}

/// The gradients of everything from `g`, that of the nodes side by side.
pub(super) fn gradient(cell: &Cell, g: u64, to: Gradients) -> Result<()> {
    let nodes = cell.spec.nodes;
    cell.cuda.zero(to.mix.address(), to.mix.bytes())?;
    let pending = (0..2 + nodes).map(|_| Pending::default()).collect();
    let mut pass = Pass { cell, g, to, nodes: (0..nodes).map(|_| None).collect(), pending };
    for node in (0..nodes).rev() {
        pass.complete(node)?;
        pass.pull_node(node)?;
    }
    pass.inputs()
}

impl<'a> Pass<'a> {
    /// Address and pitch of the gradient of `node`, once it is complete.
    fn node_grad(&self, node: usize) -> (u64, usize) {
        let (c, nodes) = (self.cell.sizes.c, self.cell.spec.nodes);
        match &self.nodes[node] {
            Some(own) => (own.address(), c),
            None => (self.g + self.cell.bytes(node * c), nodes * c),
        }
    }

    /// A temporary the size of a node.
    fn image(&self) -> Result<Tensor> {
        let (n, c, [h, w]) = (self.cell.sizes.n, self.cell.sizes.c, self.cell.sizes.out);
        self.cell.like.alike([n, h, w, c], self.cell.dtype)
    }

    fn out(&self) -> Images {
        images(self.cell.sizes.n, self.cell.sizes.out)
    }

    /// Whether the gradient of state `from` is wanted.
    fn wants(&self, from: usize) -> bool {
        self.to.inputs.get(from).is_none_or(Option::is_some)
    }

    /// The gradient of `node` from that of the result and from all that reads the node; the result's alone where nothing
    /// does.
    fn complete(&mut self, node: usize) -> Result<()> {
        let pending = std::mem::take(&mut self.pending[2 + node]);
        if pending.is_empty() {
            return Ok(());
        }
        let own = self.image()?;
        let (before, pitch) = self.node_grad(node);
        let target = self.target(2 + node, &own, Some((before, pitch)), &pending);
        self.gather(&[target])?;
        self.nodes[node] = Some(own);
        Ok(())
    }

    /// The gradients of both inputs.
    fn inputs(&mut self) -> Result<()> {
        let mut targets = vec![];
        let pending = [0, 1].map(|from: usize| std::mem::take(&mut self.pending[from]));
        for (from, pending) in pending.iter().enumerate() {
            let Some(to) = self.to.inputs[from] else { continue };
            match pending.is_empty() {
                true => self.cell.cuda.zero(to.address(), to.bytes())?,
                false => targets.push(self.target(from, to, None, pending)),
            }
        }
        self.gather(&targets)
    }

    fn target(&self, from: usize, to: &Tensor, before: Option<(u64, usize)>, pending: &Pending) -> Target {
        let state = self.cell.state(from);
        let ([h, w], (before, before_pitch)) = (state.size.map(|x| x as i16), before.unwrap_or((0, 0)));
        let at = GatherTarget {
            x: state.address,
            before,
            to: to.address(),
            x_pitch: state.pitch as i32,
            before_pitch: before_pitch as i32,
            h,
            w,
            ..GatherTarget::zeroed()
        };
        Target { at, masked: pending.masked.clone(), open: pending.open.clone() }
    }

    /// Takes the gradient of `node` to all that its candidates read.
    fn pull_node(&mut self, node: usize) -> Result<()> {
        let cell = self.cell;
        let items: Vec<&Item> = cell.spec.into_node(node).collect();
        let through = self.pull_sum(node, &items)?;
        let weights = self.to.weights.is_some();
        let needed = |item: &&Item| weights || self.wants(item.from);
        let needed: Vec<(usize, &Item)> =
            items.into_iter().enumerate().filter(|(_, item)| needed(item)).collect();
        let mut lasts = vec![];
        for &(k, item) in &needed {
            lasts.extend(self.last_halves(node, item, row(&through, k))?);
        }
        let pools = self.pools_of(node, &needed, &through)?;
        self.pull_halves(&lasts, pools)?;
        let (between, norms) = self.between(&lasts)?;
        let mut firsts = vec![];
        let twice = lasts.iter().filter(|half| matches!(half.item.kind, Kind::TwoConvs(_)));
        for (k, (second, du)) in twice.zip(&between).enumerate() {
            let Kind::TwoConvs([window, _]) = second.item.kind else { continue };
            let item = second.item;
            let grads = self.incoming((du.address(), cell.sizes.c), cell.values[item.value], row(&norms, k));
            firsts.push(self.half(item, cell.first(item, window), grads, item.weight)?);
        }
        self.pull_halves(&firsts, vec![])?;
        if let Some(weights) = &self.to.weights {
            self.pull_weights(lasts.iter().chain(&firsts), weights)?;
        }
        let lasts = lasts.into_iter().filter(|half| !matches!(half.item.kind, Kind::TwoConvs(_)));
        for half in lasts.chain(firsts) {
            self.wait(half);
        }
        for (k, item) in needed {
            if item.kind == Kind::Identity && self.wants(item.from) {
                let (from, pitch) = self.node_grad(node);
                let part = self.part(IDENTITY, (from, pitch), row(&through, k), Window::pixels(1, 0));
                self.pending[item.from].open.push(part);
            }
        }
        // the identities of this node read the factors, and its gradient, later
        self.pending.iter_mut().for_each(|pending| pending.held.push(through.clone()));
        Ok(())
    }

    /// The sums over `node`'s gradient, and from them its mixing weights' gradients and what takes the gradient through
    /// the norms: three rows a candidate.
    fn pull_sum(&self, node: usize, items: &[&Item]) -> Result<Tensor> {
        let (cell, c) = (self.cell, self.cell.sizes.c);
        let through = cell.like.alike([items.len(), 3, c], DType::F32)?;
        for (chunk, items) in items.chunks(Sums::MOST - 1).enumerate() {
            let terms: Vec<Term> = items.iter().map(|item| cell.term(item)).collect();
            let size = (cell.pixels(), c);
            let g = self.node_grad(node);
            let (parts, blocks) = sums(cell.cuda, cell.like, cell.dtype, cell.split, size, g, &terms)?;
            let part = |k: usize| parts.address() + (k * c * size_of::<f32>()) as u64;
            let item = |(k, item): (usize, &&Item)| FactorsItem {
                s1: part(items.len()),
                s2: part(k),
                stats: item.last_norm().map_or(0, |norm| cell.norm(norm)),
                factors: row(&through, chunk * (Sums::MOST - 1) + k),
                step: ((items.len() + 1) * c) as i32,
                blocks: blocks as i32,
                entry: item.entry as i32,
                normalised: 0,
            };
            let all: Vec<FactorsItem> = items.iter().enumerate().map(item).collect();
            let shared = Factors { mix: cell.mix, d_mix: self.to.mix.address(), ..self.factors() };
            factors(cell.cuda, shared, &all)?;
        }
        Ok(through)
    }

    fn factors(&self) -> Factors {
        let (c, given) = (self.cell.sizes.c as i32, i32::from(self.cell.given));
        Factors { pixels: self.cell.pixels() as f64, c, given, ..Factors::zeroed() }
    }

    /// The gradient of a value whose gradient behind the norm is `g`, an address and a pitch.
    fn incoming(&self, (g, g_pitch): (u64, usize), z: u64, factors: u64) -> Incoming {
        let c = self.cell.sizes.c as i32;
        Incoming { g, z, factors, g_pitch: g_pitch as i32, z_pitch: c, factors_pitch: c, c }
    }

    fn half(&self, item: &'a Item, from: Operand, grads: Incoming, depth: usize) -> Result<Half<'a>> {
        Ok(Half { item, from, grads, depth: Some(depth), point: depth + 1, d: self.image()? })
    }

    /// The convolutions that give what the node's sum reads of a candidate.
    fn last_halves(&self, node: usize, item: &'a Item, factors: u64) -> Result<Vec<Half<'a>>> {
        let (cell, g) = (self.cell, self.node_grad(node));
        let value = |later: usize| cell.values[item.value + later];
        match item.kind {
            Kind::Conv(window) => {
                let grads = self.incoming(g, value(0), factors);
                Ok(vec![self.half(item, cell.first(item, window), grads, item.weight)?])
            }
            Kind::TwoConvs([_, window]) => {
                let grads = self.incoming(g, value(1), factors);
                Ok(vec![self.half(item, cell.second(item, window), grads, item.weight + 2)?])
            }
            Kind::Reduce => {
                let c = cell.sizes.c / 2;
                let half = |k: usize| {
                    let off = cell.bytes(k * c);
                    let whole = self.incoming(g, value(0), factors + (k * c * size_of::<f32>()) as u64);
                    let grads = Incoming { g: whole.g + off, z: whole.z + off, c: c as i32, ..whole };
                    let from = cell.reading(item.from, Window::pixels(2, k));
                    Ok(Half { item, from, grads, depth: None, point: item.weight + k, d: self.image()? })
                };
                Ok(vec![half(0)?, half(1)?])
            }
            Kind::Identity | Kind::MaxPool(_) | Kind::AvgPool(_) => Ok(vec![]),
        }
    }

    /// The gradients of the pools that `node` reads, in groups of which each writes to a pool once: it may read one with
    /// several weights.
    fn pools_of(
        &mut self,
        node: usize,
        items: &[(usize, &'a Item)],
        through: &Tensor,
    ) -> Result<Vec<Vec<PullItem>>> {
        let (cell, c) = (self.cell, self.cell.sizes.c);
        let mut groups: Vec<Vec<PullItem>> = vec![];
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        for &(k, item) in items {
            let (Kind::MaxPool(window) | Kind::AvgPool(window), true) = (item.kind, self.wants(item.from))
            else {
                continue;
            };
            let known = self.pending[item.from].pools.get(&item.value).cloned();
            let d = match &known {
                Some(d) => d.clone(),
                None => self.new_pool(item, window.into())?,
            };
            let average = matches!(item.kind, Kind::AvgPool(_));
            let [h, w] = if average { cell.sizes.of(item.from) } else { cell.sizes.out };
            let grads = self.incoming(self.node_grad(node), cell.values[item.value], row(through, k));
            let accumulate = if known.is_some() { items::ACCUMULATE } else { 0 };
            let pulled = PullItem {
                window: window.into(),
                h: h as i16,
                w: w as i16,
                flags: accumulate | if average { SHARED } else { 0 },
                ..pulled(grads, 0, &d, c)
            };
            let group = seen.entry(item.value).or_default();
            if groups.len() == *group {
                groups.push(vec![]);
            }
            groups[*group].push(pulled);
            *group += 1;
        }
        Ok(groups)
    }

    /// A pool's gradient, which its state will read.
    fn new_pool(&mut self, item: &Item, window: Window) -> Result<Tensor> {
        let (cell, d) = (self.cell, self.image()?);
        let maximum = cell.spec.maxima.iter().position(|&m| m == item.value);
        let (kind, taps) = maximum.map_or((SHARES, 0), |at| (MAXIMA, cell.taps[at]));
        let part = self.part(kind, (d.address(), cell.sizes.c), taps, window);
        let pending = &mut self.pending[item.from];
        pending.open.push(part);
        pending.pools.insert(item.value, d.clone());
        Ok(d)
    }

    /// Takes gradients through norms and 1 x 1 convolutions, and those of pools through norms.
    fn pull_halves(&self, halves: &[Half], mut pools: Vec<Vec<PullItem>>) -> Result<()> {
        let (cell, c) = (self.cell, self.cell.sizes.c);
        let halves = halves.iter().map(|half| pulled(half.grads, cell.weights[half.point], &half.d, c));
        match pools.first_mut() {
            Some(first) => first.splice(0..0, halves).for_each(drop),
            None => pools.push(halves.collect()),
        }
        pools.iter().try_for_each(|items| pull(cell.cuda, cell.dtype, cell.split, self.out(), items))
    }

    /// The gradients of the values between two halves, behind their norms, and what takes them through those.
    fn between(&self, lasts: &[Half]) -> Result<(Vec<Tensor>, Tensor)> {
        let (cell, c, blocks) = (self.cell, self.cell.sizes.c, self.cell.strip_blocks());
        let seconds: Vec<&Half> =
            lasts.iter().filter(|half| matches!(half.item.kind, Kind::TwoConvs(_))).collect();
        let between = seconds.iter().map(|_| self.image()).collect::<Result<Vec<_>>>()?;
        let norms = cell.like.alike([seconds.len(), 3, c], DType::F32)?;
        let parts = cell.like.alike([seconds.len(), blocks, 2, c], DType::F32)?;
        let (mut targets, mut items) = (vec![], vec![]);
        for (k, (half, du)) in seconds.into_iter().zip(&between).enumerate() {
            let s1 = parts.address() + (k * blocks * 2 * c * size_of::<f32>()) as u64;
            let at = GatherTarget {
                x: half.from.x,
                stats: half.from.stats,
                to: du.address(),
                sums: s1,
                x_pitch: half.from.pitch,
                h: half.from.h,
                w: half.from.w,
                ..GatherTarget::zeroed()
            };
            targets.push(Target { at, masked: vec![self.part_of(half)], open: vec![] });
            items.push(FactorsItem {
                s1,
                s2: s1 + (c * size_of::<f32>()) as u64,
                stats: half.from.stats,
                factors: row(&norms, k),
                step: 2 * c as i32,
                blocks: blocks as i32,
                entry: 0,
                normalised: 0,
            });
        }
        self.gather(&targets)?;
        factors(cell.cuda, self.factors(), &items)?;
        Ok((between, norms))
    }

    /// What is gathered from an image of the nodes' size.
    fn part(&self, kind: i32, (from, pitch): (u64, usize), with: u64, window: Window) -> GatherPart {
        let [h, w] = self.cell.sizes.out.map(|x| x as i16);
        GatherPart { from, with, window, pitch: pitch as i32, h, w, kind, unused: 0 }
    }

    fn part_of(&self, half: &Half) -> GatherPart {
        let (kind, with) = match half.depth {
            Some(at) => (DEPTHWISE, self.cell.weights[at]),
            None => (PIXELS, 0),
        };
        self.part(kind, (half.d.address(), self.cell.sizes.c), with, half.from.window)
    }

    /// Leaves to its state what the half passes back.
    fn wait(&mut self, half: Half) {
        if self.wants(half.item.from) {
            let part = self.part_of(&half);
            let pending = &mut self.pending[half.item.from];
            pending.masked.push(part);
            pending.held.push(half.d);
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.masked.is_empty() && self.open.is_empty()
    }
}

/// The address of the k-th of rows of factors.
fn row(factors: &Tensor, k: usize) -> u64 {
    let c = factors.shape().last();
    factors.address() + (k * 3 * c * size_of::<f32>()) as u64
}

/// A gradient that goes through a norm, and a 1 x 1 convolution if `point` is one, to a dense image.
fn pulled(from: Incoming, point: u64, to: &Tensor, c: usize) -> PullItem {
    let dims = to.shape().nhwc().unwrap_or([0; 4]);
    PullItem {
        from,
        point,
        to: to.address(),
        to_pitch: c as i32,
        columns: c as i16,
        h: dims[1] as i16,
        w: dims[2] as i16,
        stride: 1,
        ..PullItem::zeroed()
    }
}
