//! The driver as a test uses it: by cudarc's thin layer, so that every call and its error is seen.
#![allow(dead_code)] // no test uses all of it

use std::ffi::{CString, c_void};
use std::sync::{Mutex, MutexGuard};

use cudarc::driver::result::{self, DriverError, module, stream};
use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUmodule, CUresult, CUstream};

/// The state of the driver is the process's: one test at a time has it.
static TURN: Mutex<()> = Mutex::new(());

pub struct Gpu {
    pub stream: CUstream,
    pub module: CUmodule,
    _turn: MutexGuard<'static, ()>,
}

pub fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    oche_emulated_driver::install();
    oche_emulated_driver::reset();
    turn
}

impl Gpu {
    pub fn new() -> Gpu {
        let turn = turn();
        bind_device();
        let image = c"// any text";
        let stream = Gpu::stream();
        // SAFETY: the image ends in a zero
        let module = unsafe { module::load_data(image.as_ptr().cast()).unwrap() };
        Gpu { stream, module, _turn: turn }
    }

    /// Another stream.
    pub fn stream() -> CUstream {
        stream::create(stream::StreamKind::NonBlocking).unwrap()
    }

    pub fn function(&self, name: &str) -> CUfunction {
        // SAFETY: the module is loaded
        unsafe { module::get_function(self.module, CString::new(name).unwrap()).unwrap() }
    }

    /// Launches a kernel with one-dimensional sizes.
    pub fn launch(
        &self,
        name: &str,
        blocks: u32,
        threads: u32,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CUresult> {
        self.launch_with((blocks, 1, 1), (threads, 1, 1), 0, name, arguments)
    }

    pub fn launch_with(
        &self,
        grid: (u32, u32, u32),
        block: (u32, u32, u32),
        shared: u32,
        name: &str,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CUresult> {
        // SAFETY: tests give the arguments that the kernel has
        code(unsafe {
            result::launch_kernel(self.function(name), grid, block, shared, self.stream, arguments)
        })
    }

    pub fn synchronize(&self) -> Result<(), CUresult> {
        // SAFETY: the stream lives as long as this
        code(unsafe { stream::synchronize(self.stream) })
    }

    pub fn upload<T>(&self, values: &[T]) -> CUdeviceptr {
        // SAFETY: the memory has the size of the values
        unsafe {
            let at = result::malloc_sync(size_of_val(values)).unwrap();
            result::memcpy_htod_sync(at, values).unwrap();
            at
        }
    }

    pub fn download<T: Copy + Default>(&self, from: CUdeviceptr, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        // SAFETY: any bits are a value of the types that tests use
        unsafe { result::memcpy_dtoh_sync(&mut values, from).unwrap() };
        values
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        oche_emulated_driver::reset();
        // SAFETY: neither is used again
        unsafe {
            module::unload(self.module).unwrap();
            stream::destroy(self.stream).unwrap();
        }
    }
}

/// Makes device 0 the current one of this thread.
pub fn bind_device() {
    result::init().unwrap();
    let device = result::device::get(0).unwrap();
    // SAFETY: the device exists
    unsafe {
        let context = result::primary_ctx::retain(device).unwrap();
        result::ctx::set_current(context).unwrap();
    }
}

pub fn code<T>(result: Result<T, DriverError>) -> Result<T, CUresult> {
    result.map_err(|error| error.0)
}

/// What the driver calls an error.
pub fn name_of(error: CUresult) -> String {
    let error = DriverError(error);
    error.error_name().unwrap().to_str().unwrap().to_owned()
}

/// Pointers to arguments, in the order of the kernel's parameters.
#[macro_export]
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { &mut [$((&raw const $value).cast_mut().cast::<std::ffi::c_void>()),*] };
}
