//! Operations that do the work of several in one pass over memory. `reference()` is what each is held to.

pub(super) mod grad;
pub mod mixed_cell;
pub mod relu_conv_norm;
pub(super) mod relu_conv_norm_grad;
