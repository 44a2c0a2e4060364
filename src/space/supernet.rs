//! What a search method needs of a search space: this trait and the matrices of edge weights are all they share.

use crate::error::Result;
use crate::nn::Context;
use crate::space::Genotype;
use crate::tape::{Layout, Var};
use std::sync::Arc;

/// A kind of cell, all of whose copies share one matrix of architecture parameters alpha.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellKind {
    pub name: String,
    /// Names of the candidates, one list an edge.
    pub candidates: Vec<Vec<String>>,
}

impl CellKind {
    /// Of the alphas: edges, and the candidates of that which has most. A row of an edge with fewer has elements at its
    /// end that stand for nothing and whose weights are 0.
    pub fn shape(&self) -> [usize; 2] {
        [self.candidates.len(), self.candidates.iter().map(Vec::len).max().unwrap_or(0)]
    }
    /// How many architecture parameters it has.
    pub fn alphas(&self) -> usize {
        self.candidates.iter().map(Vec::len).sum()
    }
}

/// A network that holds every architecture of a space.
pub trait Supernet {
    /// Names and places of the weights.
    fn layout(&self) -> &Arc<Layout>;
    /// Names and channels of the normalisations.
    fn norms(&self) -> &[(String, usize)];
    /// One entry a matrix of architecture parameters.
    fn kinds(&self) -> &[CellKind];
    /// Logits (N, classes) of images (N, H, W, C). `mix[i]` holds the weights of the candidates of kind `i`, of the shape
    /// [`CellKind::shape`], one row an edge.
    fn forward(&self, cx: &mut Context, images: Var, mix: &[Var]) -> Result<Var>;
    /// Cells that keep only their result and run again in the pullback.
    fn recomputed(&self) -> &[usize] {
        &[]
    }
    /// Candidates for whose sake cells run one operation at a time, where fused ones were asked for.
    fn unfused(&self) -> &[String] {
        &[]
    }
    /// The architecture that edge weights stand for; one matrix a kind, whose rows have the candidates of their edges.
    fn genotype(&self, weights: &[Vec<Vec<f64>>]) -> Result<Genotype>;
}
