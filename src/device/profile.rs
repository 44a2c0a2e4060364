//! What the environment asks for: `OCHE_DEBUG` (0 to 4), and `OCHE_SIMD`, which the CPU kernels read; and what the process
//! takes.
//!
//! | `OCHE_DEBUG` | prints |
//! | --- | --- |
//! | 1 | tensor memory after every epoch: live, peak, kept for reuse |
//! | 2 | one line per operation: name, shape, microseconds, GB/s, GFLOP/s |
//! | 3 | a listing of every tape before its gradient |
//! | 4 | checks every result for NaN and infinity and names the operation |

use super::simd;
use crate::error::{Error, Result};
use std::sync::OnceLock;

/// That both variables hold something they may: for a program to call as it starts. The library takes a value that
/// they may not hold as if it was not there.
pub fn check() -> Result<()> {
    level()?;
    simd::wanted().map_err(|what| Error::config("OCHE_SIMD", what))?;
    Ok(())
}

/// The level asked for by `OCHE_DEBUG`; 0 if unset.
pub fn debug_level() -> u8 {
    static LEVEL: OnceLock<u8> = OnceLock::new();
    *LEVEL.get_or_init(|| level().unwrap_or(0))
}

fn level() -> Result<u8> {
    let Some(text) = variable("OCHE_DEBUG") else { return Ok(0) };
    let level = text.trim().parse().ok().filter(|level| *level <= 4);
    level.ok_or_else(|| {
        Error::config("OCHE_DEBUG", format!("is \"{text}\", must be a whole number from 0 to 4; or unset it"))
    })
}

/// What is set to nothing counts as unset.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    (!value.is_empty()).then(|| value.to_string_lossy().into_owned())
}

/// The most memory that this process has had resident, in bytes; nothing where the system does not tell.
pub fn peak_resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kib| kib << 10)
}

/// The line of `OCHE_DEBUG=1`.
pub fn memory() {
    if debug_level() == 1 {
        let super::memory::Usage { live, peak, kept } = super::memory::usage();
        let [live, peak, kept] = [live, peak, kept].map(|bytes| bytes as f64 / (1 << 20) as f64);
        eprintln!(
            "tensor memory: {live:.1} MiB live, {peak:.1} MiB at the peak, {kept:.1} MiB kept for reuse"
        );
    }
}

/// One aligned line of `OCHE_DEBUG=2`.
pub fn operation(name: &str, shape: &str, took: std::time::Duration, flops: u64, bytes: u64) {
    let ns = took.as_nanos().max(1) as f64;
    let (us, gflops, gbytes) = (ns / 1e3, flops as f64 / ns, bytes as f64 / ns);
    eprintln!("{name:<24} {shape:<20} {us:>10.1} us {gbytes:>8.2} GB/s {gflops:>8.2} GFLOP/s");
}
