//! A CUDA device: kernels, memory, copies and captured graphs, on one stream. The only place that launches.
//!
//! The driver library is looked for when a device is opened; without one the rest of the program runs as ever.

mod arena;
mod driver;
mod graph;
mod images;
mod timer;

pub use arena::{Arena, Mode, Piece, Usage};
pub use graph::Graph;
pub use images::{HASH, IMAGES, Image, ORIGIN};

use crate::error::{Error, Result};
use arena::Context;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use driver::{attribute, failed, refused};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use sys::CUdevice_attribute as Attribute;

/// Oldest compute capability that the kernels are compiled for.
const OLDEST: [usize; 2] = [8, 0];

/// Threads of a block, at the most, and of a flat launch.
pub const THREADS: usize = 256;

/// What a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    pub ordinal: usize,
    pub name: String,
    pub capability: [usize; 2],
    /// Bytes.
    pub memory: usize,
    pub multiprocessors: usize,
    /// Of the driver's interface, as "12.4".
    pub driver: String,
}

/// An open device.
pub struct Cuda {
    info: Info,
    context: Context,
    stream: Stream,
    modules: Vec<Module>,
    /// Whether the driver took machine code of all of them, and compiled none from PTX.
    machine_code: bool,
    functions: Mutex<HashMap<&'static str, Function>>,
    arena: Mutex<Arc<Arena>>,
    launches: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Stream(sys::CUstream);
#[derive(Clone, Copy)]
struct Module(sys::CUmodule);
#[derive(Clone, Copy)]
struct Function(sys::CUfunction);
// SAFETY: handles that the driver allows every thread to use.
unsafe impl Send for Stream {}
unsafe impl Sync for Stream {}
unsafe impl Send for Module {}
unsafe impl Sync for Module {}
unsafe impl Send for Function {}
unsafe impl Sync for Function {}

/// A kernel's argument: numbers, addresses and `#[repr(C)]` structs by value.
pub trait Argument {
    fn pointer(&self) -> *mut c_void;
}
impl<T: bytemuck::NoUninit> Argument for T {
    fn pointer(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// How many devices there are, or in one sentence why none can be used.
pub fn count() -> Result<usize> {
    driver::devices()
}

/// What device `ordinal` is, below [`count`], whether or not this program can use it.
pub fn describe(ordinal: usize) -> Result<Info> {
    info(ordinal, result::device::get(ordinal as i32).map_err(failed("find its device"))?)
}

impl Cuda {
    /// Opens device `ordinal`.
    pub fn open(ordinal: usize, mode: Mode) -> Result<Arc<Self>> {
        let count = driver::devices()?;
        if ordinal >= count {
            let last = count - 1;
            let what = format!(
                "there is no device {ordinal}; this machine has devices 0 to {last}, so take --device cuda:{last} or lower"
            );
            return Err(Error::device(what));
        }
        if IMAGES.is_empty() {
            return Err(Error::device(
                "this program was built without CUDA kernels; build it where nvcc is (scripts/nvcc installs one), or take --device cpu",
            ));
        }
        let device = result::device::get(ordinal as i32).map_err(failed("find its device"))?;
        let info = info(ordinal, device)?;
        if info.capability < OLDEST {
            let [major, minor] = info.capability;
            let what = format!(
                "{} has compute capability {major}.{minor}; the kernels need 8.0 or newer, so take --device cpu",
                info.name
            );
            return Err(Error::device(what));
        }
        // SAFETY: `device` came from the driver; the context stays retained as long as the process lives.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed("open its device"))?;
        let context = Context(context);
        context.enter()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        let stream = Stream(stream.map_err(failed("make a stream"))?);
        let mut machine_code = true;
        let mut modules = vec![];
        for image in IMAGES {
            let (module, as_machine_code) = load(image, info.capability)?;
            modules.push(module);
            machine_code &= as_machine_code;
        }
        let arena = Mutex::new(Arena::new(context, mode, false));
        Ok(Arc::new(Self {
            info,
            context,
            stream,
            modules,
            machine_code,
            functions: Mutex::default(),
            arena,
            launches: AtomicUsize::new(0),
        }))
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Whether the kernels run as the machine code in this program; else the driver compiled PTX.
    pub fn runs_machine_code(&self) -> bool {
        self.machine_code
    }

    /// The memory that allocations come from now.
    pub fn arena(&self) -> Arc<Arena> {
        lock(&self.arena).clone()
    }

    /// `bytes` bytes with arbitrary content.
    pub fn take(&self, bytes: usize) -> Result<Piece> {
        self.arena().take(bytes)
    }

    /// Launches `kernel` with `blocks` blocks of `threads` threads and `shared` bytes of dynamic shared memory. The
    /// arguments must be of the number and the types that the kernel declares, and addresses must be of this device.
    pub fn launch(
        &self,
        kernel: &'static str,
        blocks: [usize; 3],
        threads: usize,
        shared: usize,
        arguments: &[&dyn Argument],
    ) -> Result<()> {
        if blocks.contains(&0) {
            return Ok(()); // nothing to do, which the driver would refuse
        }
        self.context.enter()?;
        let function = self.function(kernel)?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|a| a.pointer()).collect();
        let [x, y, z] = blocks.map(|n| n as u32);
        // SAFETY: the kernel is loaded, and the caller vouches for its arguments, which the driver copies.
        let launched = unsafe {
            result::launch_kernel(
                function.0,
                (x, y, z),
                (threads as u32, 1, 1),
                shared as u32,
                self.stream.0,
                &mut pointers,
            )
        };
        launched.map_err(|e| refused(&format!("run kernel {kernel}"), e))?;
        self.launches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Kernels launched so far, or captured: replays of a graph do not count.
    pub fn launches(&self) -> usize {
        self.launches.load(Ordering::Relaxed)
    }

    /// Launches `kernel` with a thread an element.
    pub fn launch_flat(&self, kernel: &'static str, count: usize, arguments: &[&dyn Argument]) -> Result<()> {
        self.launch(kernel, [count.div_ceil(THREADS), 1, 1], THREADS, 0, arguments)
    }

    fn function(&self, kernel: &'static str) -> Result<Function> {
        let mut functions = lock(&self.functions);
        if let Some(function) = functions.get(kernel) {
            return Ok(*function);
        }
        let name =
            CString::new(kernel).map_err(|_| Error::device(format!("{kernel} is no name of a kernel")))?;
        for module in &self.modules {
            // SAFETY: the module is loaded.
            match unsafe { result::module::get_function(module.0, name.clone()) } {
                Ok(function) => {
                    functions.insert(kernel, Function(function));
                    return Ok(Function(function));
                }
                Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND)) => {} // in another one
                // of earlier work, or of loading it, which drivers may put off until now
                Err(error) => return Err(refused(&format!("find kernel {kernel}"), error)),
            }
        }
        Err(Error::device(format!("this program has no kernel {kernel}; build it again")))
    }

    /// Waits until everything that was launched is done.
    pub fn synchronize(&self) -> Result<()> {
        self.context.enter()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream.0) }.map_err(failed("finish its work"))
    }

    /// Copies bytes to `to`, and waits for it.
    pub fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        self.context.enter()?;
        // SAFETY: `to` has room for `from`, which lives until the copy is done.
        unsafe { result::memcpy_htod_async(to, from, self.stream.0) }
            .map_err(failed("copy to the device"))?;
        self.synchronize()
    }

    /// Copies bytes from `from`, and waits for it.
    pub fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.context.enter()?;
        // SAFETY: `from` has as many bytes as `to`, which lives until the copy is done.
        unsafe { result::memcpy_dtoh_async(to, from, self.stream.0) }
            .map_err(failed("copy from the device"))?;
        self.synchronize()
    }

    /// Copies bytes on the device.
    pub fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.context.enter()?;
        // SAFETY: both have as many bytes, and the stream keeps the order.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.0) }
            .map_err(failed("copy on the device"))
    }

    /// Sets bytes to zero.
    pub fn zero(&self, to: u64, bytes: usize) -> Result<()> {
        self.context.enter()?;
        // SAFETY: `to` has as many bytes.
        unsafe { result::memset_d8_async(to, 0, bytes, self.stream.0) }.map_err(failed("clear memory"))
    }

    /// Free and total bytes of the device.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context.enter()?;
        result::mem_get_info().map_err(failed("tell its memory"))
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "cuda:{}", self.info.ordinal)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn info(ordinal: usize, device: sys::CUdevice) -> Result<Info> {
    let name = result::device::get_name(device).map_err(failed("name its device"))?;
    // SAFETY: `device` came from the driver.
    let memory = unsafe { result::device::total_mem(device) }.map_err(failed("describe its device"))?;
    Ok(Info {
        ordinal,
        name,
        capability: [
            attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ],
        memory,
        multiprocessors: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        driver: driver::show_version(driver::version()?),
    })
}

/// The module of `image`, and whether it is machine code. A driver older than the toolkit that made the code may refuse
/// it and still compile the PTX.
fn load(image: &Image, capability: [usize; 2]) -> Result<(Module, bool)> {
    if let Some(Ok(module)) = image.cubin_for(capability).map(load_bytes) {
        return Ok((module, true));
    }
    let module = load_bytes(image.ptx);
    Ok((module.map_err(|e| refused(&format!("load the kernels of {}", image.name), e))?, false))
}

fn load_bytes(bytes: &[u8]) -> std::result::Result<Module, DriverError> {
    // machine code is a structure: a copy that is aligned as one
    let mut aligned = vec![0u64; bytes.len().div_ceil(size_of::<u64>())];
    bytemuck::cast_slice_mut(&mut aligned)[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: a whole image: the text ends in a zero byte, the binary knows its length.
    unsafe { result::module::load_data(aligned.as_ptr().cast()) }.map(Module)
}
