//! The window that convolutions and pools slide over an image: kernel, stride, padding and dilation per axis.

/// `[rows, columns]` of each quantity, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

impl Window {
    /// A square window.
    pub fn square(kernel: usize, stride: usize, padding: usize, dilation: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2], dilation: [dilation; 2] }
    }
    /// A square window whose padding keeps the size at stride 1 (odd kernels).
    pub fn same(kernel: usize, stride: usize, dilation: usize) -> Self {
        Self::square(kernel, stride, dilation * (kernel - 1) / 2, dilation)
    }
    /// Taps of the window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
    /// Output `[height, width]` of an input `[height, width]`; or why there is none.
    pub fn out(&self, size: [usize; 2]) -> Result<[usize; 2], String> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let (k, s, p, d) =
                (self.kernel[axis], self.stride[axis], self.padding[axis], self.dilation[axis]);
            if k == 0 || s == 0 || d == 0 {
                return Err(format!("kernel, stride and dilation must be positive: {self:?}"));
            }
            let reach = d * (k - 1) + 1;
            if size[axis] + 2 * p < reach {
                return Err(format!(
                    "a window of {reach} pixels does not fit an image of {} padded by {p}",
                    size[axis]
                ));
            }
            out[axis] = (size[axis] + 2 * p - reach) / s + 1;
        }
        Ok(out)
    }
}
