//! Finding the driver and its devices, and what its refusals mean in words.

use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

/// Oldest driver interface that this program uses: CUDA 12.0.
const OLDEST: i32 = 12_000;

/// What a driver that refuses means, and what to do.
pub(super) fn refused(action: &str, error: DriverError) -> Error {
    let name = error.error_name().map_or("unknown error".into(), |name| name.to_string_lossy().into_owned());
    let why = match error.0 {
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the driver is too old for this program's kernels; update it, or take --device cpu"
        }
        sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | sys::CUresult::CUDA_ERROR_INVALID_PTX => {
            "this program has no kernels for a device of this kind; it needs compute capability 8.0 or newer"
        }
        sys::CUresult::CUDA_ERROR_INVALID_IMAGE => {
            "this program's kernels are damaged; build it again, or take --device cpu"
        }
        sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS | sys::CUresult::CUDA_ERROR_LAUNCH_FAILED => {
            "a kernel went wrong, and the device is lost to this process; run with OCHE_DEBUG=4 to see which, and report it"
        }
        _ => "see nvidia-smi for the device's state, or take --device cpu",
    };
    Error::device(format!("the driver could not {action} ({name}): {why}"))
}

/// For `map_err`.
pub(super) fn failed(action: &'static str) -> impl FnOnce(DriverError) -> Error {
    move |error| refused(action, error)
}

/// Fails with a sentence unless there is a driver that this program can talk to; gives the number of its devices.
pub(super) fn devices() -> Result<usize> {
    // SAFETY: looks for the library only.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::device("there is no CUDA driver (libcuda) on this machine; take --device cpu"));
    }
    let mut version = 0;
    // SAFETY: writes one integer; may be called before anything else.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(failed("tell its version"))?;
    if version < OLDEST {
        let [has, needs] = [version, OLDEST].map(show_version);
        let what = format!(
            "the driver speaks CUDA {has}, this program needs {needs} or newer; update it, or take --device cpu"
        );
        return Err(Error::device(what));
    }
    match result::init() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => {}
        Err(error) => return Err(refused("start", error)),
        Ok(()) => {
            let count = result::device::get_count().map_err(failed("count its devices"))?;
            if count > 0 {
                return Ok(count as usize);
            }
        }
    }
    Err(Error::device("the CUDA driver finds no device; check CUDA_VISIBLE_DEVICES, or take --device cpu"))
}

/// 12040 as "12.4".
pub(super) fn show_version(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Version of the driver's interface, as 12040 for 12.4.
pub(super) fn version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(failed("tell its version"))?;
    Ok(version)
}

/// A number that a device says of itself.
pub(super) fn attribute(device: sys::CUdevice, which: sys::CUdevice_attribute) -> Result<usize> {
    // SAFETY: `device` came from the driver.
    let value = unsafe { result::device::get_attribute(device, which) };
    Ok(value.map_err(failed("describe its device"))? as usize)
}
