//! Operations between an image batch (or any tensor) and one number a channel, the innermost extent C.
//!
//! Scale and shift are the affine part of batch norm; the shift is also the bias of a linear layer.

use super::cast::Cast;
use super::cuda::channel as twin;
use super::pointwise::same;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{DType, Shape, Tensor};
use oche_cpu::channel::{apply, reduce};

fn with_channels(op: &'static str, x: Shape, c: Shape) -> Result<Shape> {
    if x.rank() == 0 || c.rank() != 1 || c.last() != x.last() {
        return Err(Error::shape(op, format!("{c} does not give one number a channel of {x}")));
    }
    Ok(x)
}

/// The result is an image like the first input.
fn image(x: DType) -> DType {
    x
}

macro_rules! channel_op {
    ($(#[$doc:meta])* $op:ident $twin:ident, $name:literal, $flops:literal, $out:expr, $dtype:expr,
     |$r:ident, $x:ident, $o:ident| $run:expr, |$cx:ident| $vjp:block) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn shape(&self, ins: &[Shape]) -> Result<Shape> {
                ($out)(ins)
            }
            fn dtype(&self, ins: &[DType]) -> DType {
                ($dtype)(ins[0])
            }
            fn cost(&self, ins: &[Shape]) -> Cost {
                let out = self.shape(ins).unwrap_or(ins[0]);
                Cost { flops: $flops * ins[0].count() as u64, ..Cost::pointwise(ins, out, 0) }
            }
            fn run(&self, $x: &[&Tensor], $o: &mut Out) -> Result<()> {
                if let Some(cuda) = $o.value.cuda().cloned() {
                    return twin::$twin(&cuda, $x, $o);
                }
                on_real!($o.value.dtype(), $r => $run);
                Ok(())
            }
            fn vjp(&self, $cx: &mut Pullback) -> Result<()> $vjp
        }
    };
}

channel_op!(
    /// (x, gamma) -> gamma_c x
    ChannelScale scale, "channel_scale", 1, |s: &[Shape]| with_channels("channel_scale", s[0], s[1]), image,
    |R, x, out| {
        let c = x[1].as_slice::<R>();
        apply([x[0].as_slice::<R>(); 2], &[c], out.value.make_mut(), out.accumulate, |x, _, p| p[0] * x)
    },
    |cx| {
        let (x, c, g) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, ChannelScale, &[g, c])?;
        cx.send(1, ChannelDot, &[x, g])
    }
);
channel_op!(
    /// (x, beta) -> x + beta_c
    ChannelShift shift, "channel_shift", 1, |s: &[Shape]| with_channels("channel_shift", s[0], s[1]), image,
    |R, x, out| {
        let c = x[1].as_slice::<R>();
        apply([x[0].as_slice::<R>(); 2], &[c], out.value.make_mut(), out.accumulate, |x, _, p| x + p[0])
    },
    |cx| {
        let g = cx.g();
        cx.pass(0, g)?;
        cx.send(1, ChannelSum, &[g])
    }
);
channel_op!(
    /// (a, b) -> sum over all but the channels of a b, (C)
    ChannelDot dot, "channel_dot", 2, |s: &[Shape]| same("channel_dot", s).map(|s| Shape::from([s.last()])), DType::exact,
    |R, x, out| {
        let b = x[1].as_slice::<R>();
        reduce::<R>(x[0].as_slice(), Some(b), out.value.make_mut(), out.accumulate)
    },
    |cx| {
        let (a, b, g) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, ChannelScale, &[b, g])?;
        cx.send(1, ChannelScale, &[a, g])
    }
);
channel_op!(
    /// x -> sum over all but the channels, (C)
    ChannelSum sum, "channel_sum", 1, |s: &[Shape]| Ok(Shape::from([s[0].last()])), DType::exact,
    |R, x, out| reduce::<R>(x[0].as_slice(), None, out.value.make_mut(), out.accumulate),
    |cx| {
        let (x, mut g) = (cx.x(0), cx.g());
        let (shape, dtype) = (cx.tape().shape(x), cx.tape().dtype(x));
        if cx.wants(0) && cx.tape().dtype(g) != dtype {
            g = cx.tape().apply(Cast(dtype), &[g])?; // a sum over the image has more bits than the image
        }
        cx.send(0, ChannelBroadcast(shape), &[g])
    }
);

/// (C) -> a tensor of the given shape that repeats it
#[derive(Clone, Copy, Debug)]
pub struct ChannelBroadcast(pub Shape);
impl Op for ChannelBroadcast {
    fn name(&self) -> &'static str {
        "channel_broadcast"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        with_channels(self.name(), self.0, ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, self.0, 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::broadcast(&cuda, ins[0], out);
        }
        let accumulate = out.accumulate;
        on_real!(out.value.dtype(), R => {
            let c = ins[0].as_slice::<R>();
            for pixel in out.value.make_mut::<R>().chunks_exact_mut(c.len()) {
                pixel.iter_mut().zip(c).for_each(|(y, &c)| *y = if accumulate { *y + c } else { c });
            }
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let g = cx.g();
        cx.send(0, ChannelSum, &[g])
    }
}
