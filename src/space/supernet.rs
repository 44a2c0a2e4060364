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
    pub edges: usize,
    pub candidates: Vec<String>,
}

/// A network that holds every architecture of a space.
pub trait Supernet {
    /// Names and places of the weights.
    fn layout(&self) -> &Arc<Layout>;
    /// Names and channels of the normalisations.
    fn norms(&self) -> &[(String, usize)];
    /// One entry a matrix of architecture parameters.
    fn kinds(&self) -> &[CellKind];
    /// Logits (N, classes) of images (N, H, W, C). `mix[i]` holds the weights of the candidates of kind `i`,
    /// (edges, candidates), one row an edge.
    fn forward(&self, cx: &mut Context, images: Var, mix: &[Var]) -> Result<Var>;
    /// Cells that keep only their result and run again in the pullback.
    fn recomputed(&self) -> &[usize] {
        &[]
    }
    /// The architecture that edge weights stand for; one matrix a kind.
    fn genotype(&self, weights: &[Vec<Vec<f64>>]) -> Result<Genotype>;
}
