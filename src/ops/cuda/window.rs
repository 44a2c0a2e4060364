//! A window over images as kernels take it. Kernels: kernels/window.cuh.

use super::int;
use crate::ops::window::Window;
use crate::tensor::Shape;

/// Images (n, h, w, c), and what a window makes of them, (n, oh, ow, d).
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct ImageWindow {
    pub image: [i32; 4],
    /// Rows, columns and channels.
    pub out: [i32; 3],
    kernel: [i32; 2],
    stride: [i32; 2],
    padding: [i32; 2],
    dilation: [i32; 2],
}

impl ImageWindow {
    /// For images `x` and `y`, which the operation has checked `window` to lead to.
    pub fn new(window: &Window, x: &Shape, y: &Shape) -> Self {
        let dims = |s: &Shape| s.nhwc().unwrap_or([1; 4]).map(int);
        let [_, oh, ow, d] = dims(y);
        let pair = |of: [usize; 2]| of.map(int);
        Self {
            image: dims(x),
            out: [oh, ow, d],
            kernel: pair(window.kernel),
            stride: pair(window.stride),
            padding: pair(window.padding),
            dilation: pair(window.dilation),
        }
    }
}

/// Images, rows, columns and channels of `s`.
pub fn extents(s: &Shape) -> [usize; 4] {
    s.nhwc().unwrap_or([1; 4])
}

/// Channels that a block takes, of `channels` in all and at most `most`, so that blocks have equal shares; and blocks.
pub fn shares(channels: usize, most: usize) -> [usize; 2] {
    let blocks = channels.div_ceil(most).max(1);
    [channels.div_ceil(blocks).max(1), blocks]
}
