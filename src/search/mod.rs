//! How to search: architecture gradients of first and second order, and the step that alternates them with SGD.

pub mod bilevel;
mod captured;
mod feed;
mod gradient;
mod pass;
mod plan;
mod step;
mod whole;

pub use bilevel::Order;
pub use feed::{Draws, Feed};
pub use pass::{Pass, Want};
pub use plan::{StepPlan, Workload, largest_batch};
pub use step::{Hyper, Searcher, StepReport, finite};
pub use whole::{Epoch, Search, Settings};
