//! From a genotype to a trained network: schedules, the training step, evaluation. Knows nothing of searching.

mod captured;
mod pass;
mod schedule;
mod step;

pub use pass::{Hits, Objective, Pass};
pub use schedule::{Decay, Schedule, drop_rate};
pub use step::{Hyper, Trainer};
