//! Memory, vector instructions, random streams, profile. Knows no shapes and no gradients.

pub mod dual;
pub mod memory;
pub mod profile;
pub mod random;
mod ranges;
pub mod real;
pub mod simd;
