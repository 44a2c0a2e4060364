//! The kernels compiled for every number type, once, for the crates that call them.

use crate::cell::{Cell, Gradients, Kept, Pools};
use crate::dual::Dual;
use crate::lean::Lean;
use crate::preprocess::{self, Sizes};
use crate::real::Real;
use crate::window::Window;
use crate::{cell, conv, depthwise, gemm, pool};

/// Declares a trait of kernels, and implements it for number types by the generic functions.
macro_rules! kernels {
    ($(#[$about:meta])* $trait:ident for [$($number:ty),*] $functions:tt) => {
        kernels!(@trait [$(#[$about])*] $trait $functions);
        $(kernels!(@impl $trait $number, $functions);)*
    };
    (@trait [$(#[$about:meta])*] $trait:ident {
        $($(#[$doc:meta])* $name:ident = $path:path, ($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*
    }) => {
        $(#[$about])*
        #[allow(clippy::too_many_arguments, clippy::type_complexity)]
        pub trait $trait: Real {
            $($(#[$doc])* fn $name($($arg: $type),*) $(-> $result)?;)*
        }
    };
    (@impl $trait:ident $number:ty, {
        $($(#[$doc:meta])* $name:ident = $path:path, ($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*
    }) => {
        impl $trait for $number {
            $(fn $name($($arg: $type),*) $(-> $result)? {
                $path($($arg),*)
            })*
        }
    };
}

kernels! {
    /// Kernels of single layers. `dims` is the shape (n, h, w, c) of the input `x` in all passes; `accumulate` adds to what
    /// is written to.
    LayerKernels for [f32, f64, Dual<f32>, Dual<f64>] {
        /// Dense convolution, weights (out_channels, c, kh, kw).
        conv = conv::forward, (w: &Window, dims: [usize; 4], out_channels: usize, x: &[Self], weight: &[Self], y: &mut [Self],
            accumulate: bool);
        /// The gradient of its input.
        conv_input_grad = conv::input_grad, (w: &Window, dims: [usize; 4], out_channels: usize, weight: &[Self], dy: &[Self],
            dx: &mut [Self], accumulate: bool);
        /// The gradient of its weights.
        conv_weight_grad = conv::weight_grad, (w: &Window, dims: [usize; 4], out_channels: usize, x: &[Self], dy: &[Self],
            dw: &mut [Self], accumulate: bool);
        /// Depthwise convolution, weights (c, 1, kh, kw).
        depthwise = depthwise::forward, (w: &Window, dims: [usize; 4], x: &[Self], weight: &[Self], y: &mut [Self],
            accumulate: bool);
        /// The gradient of its input.
        depthwise_input_grad = depthwise::input_grad, (w: &Window, dims: [usize; 4], weight: &[Self], dy: &[Self],
            dx: &mut [Self], accumulate: bool);
        /// The gradient of its weights.
        depthwise_weight_grad = depthwise::weight_grad, (w: &Window, dims: [usize; 4], x: &[Self], dy: &[Self],
            dw: &mut [Self], accumulate: bool);
        /// Maximum, and the tap that it was at.
        max_pool = pool::max_forward, (w: &Window, dims: [usize; 4], x: &[Self], y: &mut [Self], index: &mut [u8]);
        /// What is at these taps.
        max_pool_gather = pool::max_gather, (w: &Window, dims: [usize; 4], x: &[Self], index: &[u8], y: &mut [Self],
            accumulate: bool);
        /// The gradient of the input of the maximum.
        max_pool_scatter = pool::max_scatter, (w: &Window, dims: [usize; 4], dy: &[Self], index: &[u8], dx: &mut [Self],
            accumulate: bool);
        /// Mean of the taps inside the image.
        avg_pool = pool::avg_forward, (w: &Window, dims: [usize; 4], x: &[Self], y: &mut [Self], accumulate: bool);
        /// The gradient of its input.
        avg_pool_input_grad = pool::avg_input_grad, (w: &Window, dims: [usize; 4], dy: &[Self], dx: &mut [Self],
            accumulate: bool);
        /// (m, k) times (k, n), either given transposed.
        matmul = gemm::matmul, (sizes: (usize, usize, usize), a: &[Self], transpose_a: bool, b: &[Self], transpose_b: bool,
            c: &mut [Self], accumulate: bool);
    }
}

kernels! {
    /// Kernels of whole cells, and of the layers that preprocess their inputs.
    CellKernels for [f32, f64, Dual<f32>, Dual<f64>, Lean] {
        /// See [`crate::preprocess`]. `weights` are (output / stride, input) each. Writes the result and the statistics
        /// (3, output) that a batch norm saves; given statistics are used and copied. The result is normalised; with scale,
        /// shift and room for the convolution's result that is left there, and the result is scaled and shifted.
        preprocess = preprocess::forward, (sizes: &Sizes, x: &[Self], weights: &[&[Self]], given: Option<&[Self]>,
            y: &mut [Self], stats: &mut [Self], affine: Option<(&[Self], &[Self], &mut [Self])>);
        /// The gradients of everything from `g`, that of the result.
        preprocess_gradient = preprocess::gradient, (sizes: &Sizes, x: &[Self], weights: &[&[Self]],
            kept: &preprocess::Kept<Self>, g: &[Self], to: preprocess::Gradients<Self>);
        /// Computes the nodes, (n, h, w, nodes c), and what the backward needs: statistics (norms, 3, c), values and taps.
        cell = cell::forward, (cell: &Cell<Self>, y: &mut [Self], stats: &mut [Self],
            values: &mut [&mut [<Self as Real>::Kept]], indices: &mut [&mut [u8]]);
        /// The gradients of everything from `g`, that of the nodes.
        cell_gradient = cell::gradient, (cell: &Cell<Self>, kept: &Kept<Self>, g: &[Self], to: Gradients<Self>);
        /// What the forward pass of `cell` had in its pools, `y` being its nodes.
        pools_again = Pools::again, (cell: &Cell<Self>, y: &[Self]) -> Pools<Self>;
    }
}
