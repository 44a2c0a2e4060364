//! Working memory of a kernel: aligned numbers from the tensor pool.

use crate::memory::Block;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Numbers aligned to a cache line.
pub struct Scratch<R> {
    block: Block,
    of: PhantomData<R>,
}

impl<R: bytemuck::Pod> Scratch<R> {
    /// Arbitrary content.
    pub fn new(len: usize) -> Self {
        Self { block: Block::new(len * size_of::<R>()), of: PhantomData }
    }
    pub fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(R::zeroed());
        scratch
    }
}

impl<R: bytemuck::Pod> Deref for Scratch<R> {
    type Target = [R];
    fn deref(&self) -> &[R] {
        bytemuck::cast_slice(self.block.bytes())
    }
}

impl<R: bytemuck::Pod> DerefMut for Scratch<R> {
    fn deref_mut(&mut self) -> &mut [R] {
        bytemuck::cast_slice_mut(self.block.bytes_mut())
    }
}
