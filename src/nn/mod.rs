//! Layers, batch-norm statistics, optimisers and schedules. Knows nothing of cells or alphas.

mod cuda;
mod layers;
mod norm;
mod optim;
pub(crate) mod replay;
mod scalar;

pub use layers::{Conv2d, Linear};
pub use norm::{Norm, NormMode, RunningStats};
pub use optim::{Adam, AdamState, Sgd, clip_factor, cosine, global_norm};
pub(crate) use optim::{difference, plus_scaled};
pub use scalar::{Factor, Scalar};

use crate::tape::{Tape, Var};

/// What a layer's forward needs besides its input.
pub struct Context<'a> {
    pub tape: &'a mut Tape,
    /// The weights on this tape, in the order of their layout.
    pub weights: &'a [Var],
    pub mode: NormMode,
    /// Whether layers may use operations that do the work of several; a network may decide against it.
    pub fused: bool,
    /// Read in `Running` mode, moved in `BatchAndUpdate` mode.
    pub running: &'a mut RunningStats,
}
