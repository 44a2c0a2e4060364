#![doc = include_str!("../README.md")]

pub mod data;
pub mod device;
pub mod error;
pub mod nn;
pub mod ops;
pub mod run;
pub mod search;
pub mod space;
mod suggest;
pub mod tape;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
