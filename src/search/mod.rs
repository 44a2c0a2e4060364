//! How to search: architecture gradients of first and second order, and the step that alternates them with SGD.

pub mod bilevel;
mod captured;
mod gradient;
mod pass;
mod plan;
mod step;

pub use bilevel::Order;
pub use pass::{Pass, Want};
pub use plan::{StepPlan, Workload};
pub use step::{Hyper, Searcher, StepReport, finite};
