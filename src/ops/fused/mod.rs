//! Operations that do the work of several in one pass over memory. `reference()` is what each is held to.

mod grad;
pub mod mixed_cell;
