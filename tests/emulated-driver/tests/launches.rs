//! What a launch takes, and what the driver says of its device.

mod common;

use std::ffi::CString;

use common::{Gpu, bind_device, code, turn};
use cudarc::driver::result::{self, device, function, module, primary_ctx};
use cudarc::driver::sys::{self, CUdevice_attribute::*, CUfunction_attribute::*, CUresult::*};
use oche_emulated_driver as emulated;

#[repr(C)]
#[derive(Clone, Copy)]
struct Shape {
    rows: i64,
    columns: i64,
    bias: [f32; 3],
    letter: u8,
}

#[test]
fn structs_go_by_value() {
    let gpu = Gpu::new();
    let shape = Shape { rows: 1 << 40, columns: 3, bias: [0.5, 1.5, 2.5], letter: b'A' };
    let (before, after, y) = (-7i16, 0.1f64, gpu.upload(&[0f64; 8]));
    gpu.launch("test_by_value", 1, 1, arguments![before, shape, after, y]).unwrap();
    let rows = (1u64 << 40) as f64;
    assert_eq!(gpu.download::<f64>(y, 8), [-7.0, rows, 3.0, 0.5, 1.5, 2.5, 65.0, 0.1]);
    gpu.launch("test_no_parameters", 2, 3, &mut []).unwrap();
}

#[test]
fn launches_outside_the_limits_are_refused() {
    let gpu = Gpu::new();
    let launch = |grid, block, shared| gpu.launch_with(grid, block, shared, "test_no_parameters", &mut []);
    launch((1, 65535, 1), (1, 1, 1), 0).unwrap();
    launch((1, 1, 1), (32, 2, 4), 48 * 1024).unwrap();
    for (grid, block, shared) in [
        ((0, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 0, 1), 0),
        ((1, 65536, 1), (1, 1, 1), 0),
        ((1, 1, 65536), (1, 1, 1), 0),
        ((1, 1, 1), (257, 1, 1), 0), // KERNEL has 256
        ((1, 1, 1), (1, 1, 65), 0),
        ((1, 1, 1), (1, 1, 1), 48 * 1024 + 1),
    ] {
        assert_eq!(launch(grid, block, shared), Err(CUDA_ERROR_INVALID_VALUE), "{grid:?} {block:?} {shared}");
    }
    let y = gpu.upload(&[0i32; 1]);
    assert_eq!(gpu.launch("test_large_block", 1, 1025, arguments![y]), Err(CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn dynamic_shared_memory_grows_when_asked() {
    let gpu = Gpu::new();
    let name = "test_write_dynamic";
    let set = |bytes| {
        let attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is of a loaded module
        code(unsafe { function::set_function_attribute(gpu.function(name), attribute, bytes) })
    };
    let (y, most) = (gpu.upload(&[0f32]), 227 * 1024);
    let last = most / 4 - 1;
    assert_eq!(set(most + 1), Err(CUDA_ERROR_INVALID_VALUE));
    set(most).unwrap();
    gpu.launch_with((1, 1, 1), (1, 1, 1), most as u32, name, arguments![y, last]).unwrap();
    assert_eq!(gpu.download::<f32>(y, 1), [2.0]);
    emulated::set("capability", 80);
    assert_eq!(set(most), Err(CUDA_ERROR_INVALID_VALUE));
    set(163 * 1024).unwrap();
}

#[test]
fn kernels_have_names() {
    let gpu = Gpu::new();
    let find = |name: &str| {
        // SAFETY: the module is loaded
        code(unsafe { module::get_function(gpu.module, CString::new(name).unwrap()) })
    };
    assert_eq!(find("test_scale"), find("test_scale"));
    assert!(find("test_scale").is_ok());
    assert_eq!(find("test_nothing"), Err(CUDA_ERROR_NOT_FOUND));
}

#[test]
fn modules_fail_when_told() {
    let _gpu = Gpu::new();
    // SAFETY: images end in a zero
    let load = |image: &std::ffi::CStr| code(unsafe { module::load_data(image.as_ptr().cast()) });
    assert_eq!(load(c""), Err(CUDA_ERROR_INVALID_IMAGE));
    for error in [CUDA_ERROR_INVALID_IMAGE, CUDA_ERROR_UNSUPPORTED_PTX_VERSION] {
        emulated::set("module_error", error as i64);
        assert_eq!(load(c"// PTX"), Err(error));
    }
    emulated::set("module_error", 0);
    assert!(load(c"// PTX").is_ok());
}

#[test]
fn device_is_what_was_set() {
    let _gpu = Gpu::new();
    emulated::set("driver_version", 11040);
    emulated::set("memory", 1 << 30);
    emulated::set("capability", 86);
    emulated::set("multiprocessors", 7);
    let device = device::get(0).unwrap();
    let mut version = 0;
    // SAFETY: the device exists
    unsafe {
        assert_eq!(sys::cuDriverGetVersion(&mut version), CUDA_SUCCESS);
        assert_eq!(version, 11040);
        assert_eq!(device::total_mem(device).unwrap(), 1 << 30);
        let attribute = |which| device::get_attribute(device, which).unwrap();
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), 8);
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), 6);
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 7);
        assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
    }
    assert_eq!(device::get_name(device).unwrap(), "Emulated GPU");
    assert_eq!(device::get_count().unwrap(), 1);
    assert_eq!(code(device::get(1)), Err(CUDA_ERROR_INVALID_DEVICE));
    emulated::set("devices", 2);
    assert_ne!(device::get_uuid(device).unwrap().bytes, device::get_uuid(1).unwrap().bytes);
    emulated::set("devices", 0);
    assert_eq!(code(result::init()), Err(CUDA_ERROR_NO_DEVICE));
}

#[test]
fn calls_need_a_context() {
    let _turn = turn();
    bind_device();
    // SAFETY: the driver refuses what is wrong
    unsafe {
        result::ctx::set_current(std::ptr::null_mut()).unwrap();
        assert_eq!(code(result::malloc_sync(4)), Err(CUDA_ERROR_INVALID_CONTEXT));
        assert_eq!(code(result::ctx::synchronize()), Err(CUDA_ERROR_INVALID_CONTEXT));
        // the context of a thread is not that of another
        bind_device();
        let other = std::thread::spawn(|| code(result::malloc_sync(4)));
        assert_eq!(other.join().unwrap(), Err(CUDA_ERROR_INVALID_CONTEXT));
        result::free_sync(result::malloc_sync(4).unwrap()).unwrap();
        primary_ctx::release(0).unwrap();
    }
}

#[test]
fn kernels_run_on_several_threads_at_a_time() {
    let gpu = Gpu::new();
    let (x, n) = (gpu.upload(&[1f64; 1000]), 1000i32);
    let (function, stream) = (gpu.function("test_sum") as usize, gpu.stream as usize);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                bind_device();
                // SAFETY: these are the kernel's arguments
                unsafe {
                    let y = result::malloc_sync(64 * 8).unwrap();
                    let (one, grid, block) = (arguments![x, y, n], (64, 1, 1), (256, 1, 1));
                    result::launch_kernel(function as _, grid, block, 0, stream as _, one).unwrap();
                    let mut sums = [0f64; 64];
                    result::memcpy_dtoh_sync(&mut sums, y).unwrap();
                    assert_eq!(sums, [1000.0; 64]);
                }
            });
        }
    });
    assert_eq!(emulated::get("launches"), 4);
}
