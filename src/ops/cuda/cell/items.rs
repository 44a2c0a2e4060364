//! What the kernels of a cell take by value: the twins of the structs in kernels/cell*.

use crate::ops::window::Window as Sizes;
use bytemuck::{Pod, Zeroable};

/// Bytes of all parameters of a kernel.
const PARAMETERS: usize = 4096;

macro_rules! item {
    ($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $t:ty),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Pod, Zeroable)]
        pub struct $name {
            $(pub $field: $t),*
        }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

/// A launch: what all its items share, and the items.
macro_rules! launch {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $t:ty),* } of $item:ident, $most:literal) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Pod, Zeroable)]
        pub struct $name {
            $(pub $field: $t,)*
            pub at: [$item; $most],
        }
        const _: () = assert!(size_of::<$name>() <= PARAMETERS);
        impl $name {
            pub const MOST: usize = $most;
            /// The items of `at` that count are those of `items`.
            pub fn of(items: &[$item]) -> Self {
                let mut launch = Self::zeroed();
                launch.at[..items.len()].copy_from_slice(items);
                launch
            }
        }
    };
}

item!(Window, 16 { kernel: [i16; 2], stride: [i16; 2], padding: [i16; 2], dilation: [i16; 2] });

impl From<Sizes> for Window {
    fn from(w: Sizes) -> Self {
        let [kernel, stride, padding, dilation] =
            [w.kernel, w.stride, w.padding, w.dilation].map(|pair| pair.map(|x| x as i16));
        Self { kernel, stride, padding, dilation }
    }
}

impl Window {
    /// Every `stride`-th pixel from (offset, offset) on.
    pub fn pixels(stride: usize, offset: usize) -> Self {
        let (stride, offset) = (stride as i16, offset as i16);
        Self { kernel: [1; 2], stride: [stride; 2], padding: [-offset; 2], dilation: [1; 2] }
    }
}

item!(Images, 12 { n: i32, h: i32, w: i32 });

item!(
    /// What a convolution or a pool reads.
    Operand, 56 {
        x: u64,
        depth: u64,
        stats: u64,
        window: Window,
        pitch: i32,
        c: i32,
        h: i16,
        w: i16,
        kind: i32,
    }
);
pub const CONVOLUTION: i32 = 0;
pub const MAXIMUM: i32 = 1;
pub const AVERAGE: i32 = 2;

item!(ConvItem, 88 {
    from: Operand,
    with: u64,
    z: u64,
    moments: u64,
    z_pitch: i32,
    cout: i16,
    moments_pitch: i16,
});
launch!(Convs { out: Images, count: i32 } of ConvItem, 40);

item!(Term, 24 { value: u64, stats: u64, pitch: i32, entry: i32 });
launch!(
    Sum { mix: u64, y: u64, pixels: i32, c: i32, quads: i32, count: i32, pitch: i32, accumulate: i32 }
    of Term, 64
);

item!(StatisticsItem, 16 { moments: u64, stats: u64 });
launch!(Statistics { pixels: f64, epsilon: f64, blocks: i32, c: i32 } of StatisticsItem, 200);

item!(
    /// The gradient of a value before its norm, from that behind it.
    Incoming, 40 { g: u64, z: u64, factors: u64, g_pitch: i32, z_pitch: i32, factors_pitch: i32, c: i32 }
);

item!(PullItem, 96 {
    from: Incoming,
    point: u64,
    to: u64,
    mask: u64,
    window: Window,
    to_pitch: i32,
    columns: i16,
    h: i16,
    w: i16,
    stride: i16,
    offset: i16,
    flags: i16,
});
launch!(Pulls { out: Images, count: i32 } of PullItem, 40);
/// Add to what is there.
pub const ACCUMULATE: i16 = 1;
/// Divide by the taps inside the image.
pub const SHARED: i16 = 2;

launch!(
    Sums { g: u64, parts: u64, g_pitch: i32, pixels: i32, c: i32, quads: i32, count: i32, unused: i32 }
    of Term, 128
);

item!(FactorsItem, 48 {
    s1: u64,
    s2: u64,
    stats: u64,
    factors: u64,
    step: i32,
    blocks: i32,
    entry: i32,
    normalised: i32,
});
launch!(Factors { mix: u64, d_mix: u64, pixels: f64, c: i32, given: i32 } of FactorsItem, 80);

item!(GatherPart, 48 {
    from: u64,
    with: u64,
    window: Window,
    pitch: i32,
    h: i16,
    w: i16,
    kind: i32,
    unused: i32,
});
/// What a part is of.
pub const DEPTHWISE: i32 = 0;
pub const PIXELS: i32 = 1;
pub const MAXIMA: i32 = 2;
pub const SHARES: i32 = 3;
pub const IDENTITY: i32 = 4;

item!(GatherTarget, 64 {
    x: u64,
    stats: u64,
    before: u64,
    to: u64,
    sums: u64,
    x_pitch: i32,
    before_pitch: i32,
    h: i16,
    w: i16,
    first: i16,
    masked: i16,
    count: i16,
    unused: [i16; 3],
});

/// Targets, and their parts.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Gathers {
    pub n: i32,
    pub c: i32,
    pub quads: i32,
    pub count: i32,
    pub part: [GatherPart; 56],
    pub at: [GatherTarget; 20],
}
const _: () = assert!(size_of::<Gathers>() <= PARAMETERS);
impl Gathers {
    pub const MOST: usize = 20;
    pub const MOST_PARTS: usize = 56;
}

item!(PointItem, 104 { from: Operand, grads: Incoming, parts: u64 });
launch!(Points { out: Images, rounds: i32, count: i32, unused: i32 } of PointItem, 38);

item!(DepthItem, 72 { from: Operand, grads: u64, parts: u64 });
launch!(Depths { out: Images, rounds: i32, quads: i32, count: i32 } of DepthItem, 48);

item!(TotalItem, 32 {
    parts: u64,
    to: u64,
    count: i32,
    parts_count: i32,
    channels: i32,
    accumulate: i32,
});
launch!(Totals { count: i64 } of TotalItem, 120);
