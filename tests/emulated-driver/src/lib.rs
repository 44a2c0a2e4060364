//! A CUDA driver without a GPU: a `libcuda.so` that runs the kernels of Oche on the CPU.
//!
//! After [`install`] everything in this process that loads `libcuda.so` gets it: tests go the way that they go on a GPU,
//! from the loading of modules to launches, captured graphs and errors. Kernels are the same `.cu` files. Threads of a
//! block run one after another between barriers, in one of two orders, so that a missing barrier is seen in one of them;
//! memory is NaN until it is written and has pages without access around it, so that a kernel which leaves its memory
//! ends with `CUDA_ERROR_ILLEGAL_ADDRESS`. Needs Linux and a C++ compiler.
//!
//! What it cannot show: how fast a GPU is, and what goes wrong only there: weak order of memory between blocks, work that
//! is not done when the host goes on, and work of two streams at a time.

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::sync::OnceLock;

use libloading::Library;

/// The emulated `libcuda.so`.
pub fn path() -> &'static Path {
    Path::new(env!("OCHE_EMULATED_DRIVER"))
}

/// Loads the emulated driver, for as long as the process lives: what loads `libcuda.so` from now on finds this one.
///
/// # Panics
///
/// If the library cannot be loaded.
pub fn install() {
    library();
}

/// Changes a setting: `driver_version` (12040), `devices` (1), `capability` (90 for 9.0), `multiprocessors` (4), `memory`
/// (bytes of each device, 8 GiB), and the errors that are returned by the loading of a module, `module_error`, and by
/// `cuInit`, `init_error` (0: none).
///
/// # Panics
///
/// If there is no such setting.
pub fn set(key: &str, value: i64) {
    type Set = unsafe extern "C" fn(*const c_char, i64) -> c_int;
    let name = CString::new(key).unwrap();
    // SAFETY: the function has this type, and does not keep the name
    let result = unsafe { library().get::<Set>(b"oche_emulated_set\0").unwrap()(name.as_ptr(), value) };
    assert_eq!(result, 0, "the emulated driver has no setting `{key}`");
}

/// A setting, or what was counted since the start or [`reset`]: `launches` of kernels on streams that did not capture,
/// `graph_launches`, `kernels` run by either, `allocations`, `captured_nodes`; or `live_bytes`, those allocated now.
///
/// # Panics
///
/// If there is nothing of this name.
pub fn get(key: &str) -> i64 {
    type Get = unsafe extern "C" fn(*const c_char) -> i64;
    let name = CString::new(key).unwrap();
    // SAFETY: the function has this type, and does not keep the name
    let value = unsafe { library().get::<Get>(b"oche_emulated_get\0").unwrap()(name.as_ptr()) };
    assert!(value >= 0, "the emulated driver has no value `{key}`");
    value
}

/// The order in which threads run between two barriers, for launches to come: ascending (0) or descending (1). At first it
/// is what the environment variable `OCHE_EMULATED_ORDER` says, else 0.
pub fn order(order: i32) {
    // SAFETY: the function has this type
    unsafe { library().get::<unsafe extern "C" fn(c_int)>(b"oche_emulated_order\0").unwrap()(order) }
}

/// Mends a device that a kernel broke, ends captures, and sets settings, counters and the order back. Memory, streams and
/// modules stay.
pub fn reset() {
    // SAFETY: the function has this type
    unsafe { library().get::<unsafe extern "C" fn()>(b"oche_emulated_reset\0").unwrap()() }
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    // SAFETY: loading it runs no more than the registration of its kernels
    LIBRARY.get_or_init(|| unsafe { Library::new(path()).expect("the emulated driver cannot be loaded") })
}
