//! What surrounds a search or a training: configuration, command line, run folder, metrics, checkpoint, progress,
//! report; comparisons and measurements.

pub mod bench;
pub mod board;
pub mod cases;
mod caught;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod course;
pub mod device;
pub mod download;
pub mod draw;
pub mod evaluate;
pub mod export;
pub mod folder;
pub mod found;
pub mod image_order;
pub mod interrupt;
pub mod jsonl;
mod layered;
pub mod loaded;
pub mod memory;
mod network_state;
pub mod onnx;
pub mod parity;
pub mod progress;
mod records;
pub mod report;
pub mod result;
pub mod search;
pub mod select;
mod state;
pub mod state_dict;
mod tensor_file;
pub mod train;
mod train_data;
mod train_result;
mod train_state;
pub mod zoo;

pub use tensor_file::{NamedTensors, safetensors_read};
