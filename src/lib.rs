#![doc = include_str!("../README.md")]
pub mod device;
pub mod error;
pub mod ops;
pub mod tensor;
pub use error::{Error, Result};
