//! Operations that do the work of several in one pass over memory. `reference()` is what each is held to.

pub mod found_cell;
pub(super) mod grad;
pub mod mixed_cell;
mod parts;
pub mod relu_conv_norm;
pub(super) mod relu_conv_norm_grad;
