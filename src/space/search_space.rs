//! A search space of cells: how many nodes, and which candidate operations on which edge.

use super::cell::edges;
use super::genotype::{CANDIDATES, CellKind, MAX_NODES};
use super::operation::{Operation, Operations};
use crate::error::{Error, Result};

/// Both kinds of cells, in order of their matrices of alphas.
pub(super) const CELLS: [CellKind; 2] = [CellKind::Normal, CellKind::Reduce];

/// A place in a cell that an operation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub cell: CellKind,
    /// The node that it leads to, from 0.
    pub node: usize,
    /// The state that it reads: 0 and 1 are the inputs of the cell, 2 + i is node i.
    pub input: usize,
}

/// The candidate operations of every edge of the normal and of the reduction cell.
///
/// ```
/// use oche::space::{Operation, Space};
/// // skips between nodes, everything else from the inputs
/// let skip = [Operation::published("skip_connect")?];
/// let all = ["none", "skip_connect", "sep_conv_3x3"].map(Operation::published);
/// let all = all.into_iter().collect::<oche::Result<Vec<_>>>()?;
/// let space = Space::by_edge(3, |edge| if edge.input < 2 { all.to_vec() } else { skip.to_vec() });
/// assert_eq!(space.candidates(oche::space::genotype::CellKind::Normal)[2..5].concat().len(), 7);
/// # Ok::<(), oche::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Space {
    nodes: usize,
    /// Normal, reduction; one list an edge, in order of (node, input).
    edges: [Vec<Vec<Operation>>; 2],
}

impl Space {
    /// The eight candidates of DARTS on every edge (section 3.1 of arXiv 1806.09055), whose cells have 4 nodes.
    pub fn darts(nodes: usize) -> Self {
        Self::new(nodes, &Operations::published().first(8))
    }

    /// `operations` on every edge of cells of `nodes` nodes.
    pub fn new(nodes: usize, operations: &[Operation]) -> Self {
        Self::by_edge(nodes, |_| operations.to_vec())
    }

    /// The published operations `names`, out of [`CANDIDATES`], on every edge.
    ///
    /// # Errors
    /// [`Error::Config`] about a name that is none of them.
    pub fn published<S: AsRef<str>>(nodes: usize, names: &[S]) -> Result<Self> {
        let operations = names.iter().map(|name| Operation::published(name.as_ref()));
        Ok(Self::new(nodes, &operations.collect::<Result<Vec<_>>>()?))
    }

    /// What `candidates` says on each edge; lists may differ in length. [`Self::check`] says what can be searched.
    pub fn by_edge(nodes: usize, candidates: impl Fn(Edge) -> Vec<Operation>) -> Self {
        let nodes = nodes.min(MAX_NODES + 1); // refused later, without the memory
        let of = |cell| {
            let ends = (0..nodes).flat_map(|node| (0..node + 2).map(move |input| Edge { cell, node, input }));
            ends.map(&candidates).collect()
        };
        Self { nodes, edges: CELLS.map(of) }
    }

    /// The same with `operation` as the last candidate of every edge.
    pub fn with(mut self, operation: &Operation) -> Self {
        self.edges.iter_mut().flatten().for_each(|list| list.push(operation.clone()));
        self
    }

    /// Nodes of a cell.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The candidates of each edge of a cell, in order of (node, input).
    pub fn edges(&self, cell: CellKind) -> &[Vec<Operation>] {
        &self.edges[usize::from(cell == CellKind::Reduce)]
    }

    /// Their names.
    pub fn candidates(&self, cell: CellKind) -> Vec<Vec<String>> {
        let names = |list: &Vec<Operation>| list.iter().map(|op| op.name().to_owned()).collect();
        self.edges(cell).iter().map(names).collect()
    }

    /// What the names in genotypes of this space stand for: its own operations and all published ones.
    ///
    /// # Errors
    /// [`Error::Config`] if two operations have one name.
    pub fn operations(&self) -> Result<Operations> {
        self.edges.iter().flatten().flatten().try_fold(Operations::published(), Operations::with)
    }

    /// Checks that every choice is a cell: 1 to [`MAX_NODES`] nodes, no candidate twice on an edge, and for each node
    /// two edges at the least with something besides `none`, for two are kept.
    ///
    /// # Errors
    /// [`Error::Config`] naming the edge or the node.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::config("space.candidates", what));
        if !(1..=MAX_NODES).contains(&self.nodes) {
            let what = format!("a cell cannot have {} nodes; give 1 to {MAX_NODES}", self.nodes);
            return Err(Error::config("space.nodes", what));
        }
        self.operations()?;
        for cell in CELLS {
            let (lists, name) = (self.edges(cell), cell.name());
            for node in 0..self.nodes {
                let first = edges(node);
                let into = &lists[first..first + node + 2];
                for (input, list) in into.iter().enumerate() {
                    let twice = list
                        .iter()
                        .enumerate()
                        .find(|(k, op)| list[..*k].iter().any(|before| before.name() == op.name()));
                    if let Some((_, op)) = twice {
                        return refuse(format!(
                            "{op:?} stands twice on the edge from state {input} to node {node} of the {name} cell; list it once"
                        ));
                    }
                }
                let open = into.iter().filter(|list| list.iter().any(|op| op.name() != "none")).count();
                if open < 2 {
                    return refuse(format!(
                        "node {node} of the {name} cell has {open} edges with an operation besides none, and needs two to keep; give them candidates"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Operations {
    fn first(self, count: usize) -> Vec<Operation> {
        CANDIDATES[..count].iter().filter_map(|name| self.get(name).ok().cloned()).collect()
    }
}
