//! What surrounds a search: configuration, command line, run folder, metrics, checkpoint, progress, report;
//! comparisons and measurements.

pub mod bench;
pub mod cases;
mod caught;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod device;
pub mod draw;
pub mod folder;
pub mod interrupt;
pub mod jsonl;
mod layered;
pub mod memory;
pub mod parity;
pub mod progress;
pub mod report;
pub mod result;
pub mod search;
mod state;
mod tensor_file;

pub use tensor_file::{NamedTensors, safetensors_read};
