//! Operations that do the work of several in one pass over memory. `reference()` is what each is held to.

pub mod normed_sum;
pub mod relu_conv;
