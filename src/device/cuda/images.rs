//! The compiled kernels in this program, as build.rs left them.

/// What one file of kernels was compiled to.
#[derive(Debug)]
pub struct Image {
    /// The file without its ending: `pointwise` for `kernels/pointwise.cu`.
    pub name: &'static str,
    /// PTX for every GPU since Ampere, translated by the driver; ends with NUL.
    pub ptx: &'static [u8],
    /// Machine code for Hopper (9.0) alone; only where nvcc was at hand.
    pub cubin: Option<&'static [u8]>,
}

impl Image {
    /// The machine code, if there is some for this kind of device; what else there is, the driver compiles from PTX.
    pub fn cubin_for(&self, capability: [usize; 2]) -> Option<&'static [u8]> {
        self.cubin.filter(|_| capability == [9, 0])
    }
}

// ORIGIN: "nvcc 13.0.88", "prebuilt PTX" or "none"; HASH: of the sources; IMAGES: one for each kernels/*.cu
include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
