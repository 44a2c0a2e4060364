//! How to search: architecture gradients of first and second order, and the step that alternates them with SGD.

pub mod bilevel;
mod gradient;
mod pass;
mod step;

pub use bilevel::Order;
pub use gradient::StepPlan;
pub use pass::{Pass, Want};
pub use step::{Hyper, Searcher, StepReport, finite};
