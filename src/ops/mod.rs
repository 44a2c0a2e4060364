//! Operations: one file a family, with forward, backward, cost and test cases.

pub mod window;
