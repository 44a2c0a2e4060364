//! How to search: architecture gradients of first and second order, and the step that alternates them with SGD.

mod gradient;
mod pass;
mod step;

pub use gradient::Order;
pub use pass::{Pass, Want};
pub use step::{Hyper, Searcher, StepReport};
