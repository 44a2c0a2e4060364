//! What surrounds a search: configuration, command line, run folder, metrics, checkpoint, progress.

pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod folder;
pub mod interrupt;
pub mod jsonl;
pub mod parity;
pub mod progress;
mod tensor_file;

pub use tensor_file::{NamedTensors, safetensors_read};
