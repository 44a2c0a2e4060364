//! What a cell computes: candidates on edges between states, and where each value, norm and weight has its place.

use crate::window::Window;

/// A candidate operation. All but the identity end in a batch norm, pools only if the cell's [`Spec`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Identity,
    MaxPool(Window),
    AvgPool(Window),
    /// Relu, then two 1 x 1 convolutions of stride 2 on the even and on the odd pixels, concatenated.
    Reduce,
    /// Relu, depthwise, 1 x 1.
    Conv(Window),
    /// Twice relu, depthwise, 1 x 1, with a batch norm between.
    TwoConvs([Window; 2]),
}

impl Kind {
    /// Values that it computes, each of which a batch norm may follow.
    pub fn values(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::TwoConvs(_) => 2,
            _ => 1,
        }
    }
    pub(super) fn is_pool(self) -> bool {
        matches!(self, Self::MaxPool(_) | Self::AvgPool(_))
    }
    /// Weight tensors.
    pub fn weights(self) -> usize {
        match self {
            Self::Identity | Self::MaxPool(_) | Self::AvgPool(_) => 0,
            Self::Reduce | Self::Conv(_) => 2,
            Self::TwoConvs(_) => 4,
        }
    }
    /// The window that takes the edge's input to its output.
    pub fn window(self) -> Window {
        match self {
            Self::Identity => Window::square(1, 1, 0, 1),
            Self::Reduce => Window::square(1, 2, 0, 1),
            Self::MaxPool(w) | Self::AvgPool(w) | Self::Conv(w) | Self::TwoConvs([w, _]) => w,
        }
    }
    /// The windows of its depthwise convolutions.
    pub fn depthwise(&self) -> &[Window] {
        match self {
            Self::Conv(w) => std::slice::from_ref(w),
            Self::TwoConvs(w) => w,
            _ => &[],
        }
    }
}

/// A candidate on an edge. States 0 and 1 are the cell's inputs, state 2 + i is node i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub from: usize,
    pub node: usize,
    /// Its element of the mixing weights.
    pub entry: usize,
    pub kind: Kind,
}

/// A candidate with its places: of its (first) norm, weight tensor and value before the norm.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Among the items of the cell.
    pub index: usize,
    pub from: usize,
    pub node: usize,
    pub entry: usize,
    pub kind: Kind,
    pub norm: usize,
    /// Batch norms.
    pub norms: usize,
    pub weight: usize,
    /// Two convolutions have two values, the identity none; the candidates of a state share its pools.
    pub value: usize,
}

impl Item {
    /// The value that the node's sum reads; none is the state itself.
    pub fn last(&self) -> Option<usize> {
        Some(self.value + self.kind.values().checked_sub(1)?)
    }
    /// The norm that the node's sum applies to it.
    pub fn last_norm(&self) -> Option<usize> {
        Some(self.norm + self.norms.checked_sub(1)?)
    }
}

/// All candidates of a cell.
#[derive(Clone, Debug)]
pub struct Spec {
    pub nodes: usize,
    pub items: Vec<Item>,
    pub norms: usize,
    pub weights: usize,
    pub values: usize,
    /// The values that are those of pools, and those of them that are maxima, which have taps.
    pub pools: Vec<usize>,
    pub maxima: Vec<usize>,
}

impl Spec {
    /// Norms and weights are counted in the order of the candidates; whether pools have norms is for the cell to say.
    pub fn new(nodes: usize, candidates: &[Candidate], pool_norms: bool) -> Self {
        let mut spec =
            Self { nodes, items: vec![], norms: 0, weights: 0, values: 0, pools: vec![], maxima: vec![] };
        for &Candidate { from, node, entry, kind } in candidates {
            let shared = spec.items.iter().find(|i| kind.is_pool() && i.from == from && i.kind == kind);
            let value = shared.map_or(spec.values, |i| i.value);
            if shared.is_none() {
                if kind.is_pool() {
                    spec.pools.push(value);
                }
                if matches!(kind, Kind::MaxPool(_)) {
                    spec.maxima.push(value);
                }
                spec.values += kind.values();
            }
            let norms = if kind.is_pool() && !pool_norms { 0 } else { kind.values() };
            let (index, norm, weight) = (spec.items.len(), spec.norms, spec.weights);
            spec.items.push(Item { index, from, node, entry, kind, norm, norms, weight, value });
            spec.norms += norms;
            spec.weights += kind.weights();
        }
        spec
    }
    /// Candidates that read state `from`.
    pub fn reading(&self, from: usize) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |i| i.from == from)
    }
    /// Terms of the sum of `node`.
    pub fn into_node(&self, node: usize) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |i| i.node == node)
    }
    /// One candidate a pool of state `from`, with the pool's place among the maxima if it is one.
    pub fn pools_of(&self, from: usize) -> Vec<(&Item, Option<usize>)> {
        let mut pools: Vec<(&Item, Option<usize>)> = vec![];
        for item in self.reading(from).filter(|i| i.kind.is_pool()) {
            if pools.iter().all(|(i, _)| i.value != item.value) {
                pools.push((item, self.maxima.iter().position(|&m| m == item.value)));
            }
        }
        pools
    }
}
