//! What can be searched: candidate operations, mixed edges, cells, supernets; and the networks of found cells.

pub mod candidate;
pub mod cell;
pub mod cnn;
pub mod discretise;
mod ends;
mod found_cell;
pub mod genotype;
pub mod network;
pub mod notation;
pub mod random;
mod supernet;
pub mod zoo;

pub use genotype::{Gene, Genotype};
pub use supernet::{CellKind, Supernet};
