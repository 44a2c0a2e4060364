//! What can be searched: candidate operations, mixed edges, cells, supernets; and the networks of found cells.
//!
//! A [`Space`] says which [`Operation`]s are candidates on which edge; [`cnn::CnnSupernet`] is its supernet and
//! [`network::Network`] that of a [`Genotype`]. Another topology is another [`Supernet`].

pub mod candidate;
pub mod cell;
pub mod cnn;
pub mod discretise;
mod ends;
mod found_cell;
pub mod genotype;
pub mod network;
pub mod notation;
mod operation;
pub mod random;
mod search_space;
mod supernet;
pub mod zoo;

pub use genotype::{Gene, Genotype};
pub use operation::{Operation, Operations};
pub use search_space::{Edge, Space};
pub use supernet::{CellKind, Supernet};
