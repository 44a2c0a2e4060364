//! Memory for time: recomputed cells change no bit, and what a plan says is what a step takes.

mod bits;
mod choice;
#[path = "../common/mod.rs"]
mod common;
