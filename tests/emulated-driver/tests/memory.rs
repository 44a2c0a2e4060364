//! Memory of the device, and leaving it.

mod common;

use common::{Gpu, code, name_of};
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUresult::*};
use oche_emulated_driver as emulated;

#[test]
fn fresh_memory_is_nan() {
    let gpu = Gpu::new();
    // SAFETY: the driver says which of these are valid
    unsafe {
        for count in [1usize, 1000, 2_000_000] {
            let at = result::malloc_async(gpu.stream, count * 4).unwrap();
            assert!(gpu.download::<f32>(at, count).iter().all(|x| x.is_nan()));
            result::free_async(at, gpu.stream).unwrap();
        }
    }
}

#[test]
fn unwritten_shared_memory_is_nan() {
    let gpu = Gpu::new();
    let y = gpu.upload(&[0f32; 128]);
    for _ in ["before anything was written", "and of every launch's first block anew"] {
        gpu.launch_with((1, 1, 1), (64, 1, 1), 256, "test_unwritten_shared", arguments![y]).unwrap();
        assert!(gpu.download::<f32>(y, 128).iter().all(|x| x.is_nan()));
    }
}

#[test]
fn leaving_an_allocation_is_an_illegal_address() {
    for at in [64i64, -1025, 1 << 40, -(1 << 40)] {
        let gpu = Gpu::new();
        let y = gpu.upload(&[0f32; 64]);
        assert_eq!(gpu.launch("test_write_at", 1, 1, arguments![y, at]), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
        // and stays so for every call
        // SAFETY: the driver refuses
        unsafe {
            assert_eq!(gpu.synchronize(), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
            assert_eq!(code(result::malloc_sync(4)), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
            assert_eq!(code(result::memcpy_dtoh_sync(&mut [0f32], y)), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
        }
        emulated::reset();
        let inside = 63i64;
        gpu.launch("test_write_at", 1, 1, arguments![y, inside]).unwrap();
        assert_eq!(gpu.download::<f32>(y, 64)[63], 1.0);
    }
}

#[test]
fn faults_of_a_warp_in_flight_leave_the_next_launch_whole() {
    let gpu = Gpu::new();
    let x = gpu.upload(&[1f64; 256]);
    let (nowhere, n) = (0u64, 256i32);
    assert_eq!(gpu.launch("test_sum", 1, 256, arguments![x, nowhere, n]), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
    emulated::reset();
    let y = gpu.upload(&[0f64]);
    gpu.launch("test_sum", 1, 256, arguments![x, y, n]).unwrap();
    assert_eq!(gpu.download::<f64>(y, 1), [256.0]);
}

#[test]
fn freed_memory_is_out_of_reach() {
    let gpu = Gpu::new();
    let (y, at) = (gpu.upload(&[0f32; 64]), 0i64);
    // SAFETY: the driver refuses what is wrong
    unsafe {
        result::free_sync(y).unwrap();
        assert_eq!(code(result::free_sync(y)), Err(CUDA_ERROR_INVALID_VALUE));
        assert_eq!(code(result::memcpy_htod_sync(y, &[1f32])), Err(CUDA_ERROR_INVALID_VALUE));
    }
    gpu.upload(&[0f32; 64]); // not where the other was
    assert_eq!(gpu.launch("test_write_at", 1, 1, arguments![y, at]), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
}

#[test]
fn writing_past_the_end_is_found_when_freed() {
    let gpu = Gpu::new();
    let (y, at) = (gpu.upload(&[0f32; 3]), 3i64);
    gpu.launch("test_write_at", 1, 1, arguments![y, at]).unwrap();
    // SAFETY: the memory is not used again
    assert_eq!(code(unsafe { result::free_sync(y) }), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
}

#[test]
fn misaligned_vectors_are_errors() {
    let gpu = Gpu::new();
    let (x, y) = (gpu.upload(&[1f32; 64]), gpu.upload(&[0f32]));
    for at in [0i32, 4, 60] {
        gpu.launch("test_read_vector", 1, 1, arguments![x, y, at]).unwrap();
        assert_eq!(gpu.download::<f32>(y, 1), [4.0]);
    }
    let odd = 2i32;
    assert_eq!(
        gpu.launch("test_read_vector", 1, 1, arguments![x, y, odd]),
        Err(CUDA_ERROR_MISALIGNED_ADDRESS)
    );
}

#[test]
fn leaving_shared_memory_is_an_illegal_address() {
    let dynamic = |at: i32| {
        let gpu = Gpu::new();
        let y = gpu.upload(&[0f32]);
        gpu.launch_with((1, 1, 1), (1, 1, 1), 64, "test_write_dynamic", arguments![y, at])
    };
    assert_eq!(dynamic(15), Ok(()));
    assert_eq!(dynamic(16), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
    let fixed = |at: i32| {
        let gpu = Gpu::new();
        let y = gpu.upload(&[0f32]);
        gpu.launch("test_leave_shared_array", 1, 1, arguments![y, at])
    };
    assert_eq!(fixed(7), Ok(()));
    assert_eq!(fixed(8), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
}

#[test]
fn division_by_zero_and_deep_recursion_do_not_end_the_process() {
    let gpu = Gpu::new();
    let (y, zero) = (gpu.upload(&[0i32]), 0i32);
    assert_eq!(gpu.launch("test_divide", 1, 1, arguments![y, zero]), Err(CUDA_ERROR_LAUNCH_FAILED));
    emulated::reset();
    assert_eq!(gpu.launch("test_deep", 1, 1, arguments![y]), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
}

#[test]
fn memory_is_limited() {
    let gpu = Gpu::new();
    let before = emulated::get("live_bytes");
    emulated::set("memory", before + 1000);
    assert_eq!(result::mem_get_info().unwrap(), (1000, before as usize + 1000));
    // SAFETY: none of it is reached
    unsafe {
        assert_eq!(code(result::malloc_sync(1001)), Err(CUDA_ERROR_OUT_OF_MEMORY));
        let most = result::malloc_sync(1000).unwrap();
        assert_eq!(result::mem_get_info().unwrap().0, 0);
        assert_eq!(code(result::malloc_async(gpu.stream, 1)), Err(CUDA_ERROR_OUT_OF_MEMORY));
        result::free_sync(most).unwrap();
        assert_eq!(code(result::malloc_sync(0)), Err(CUDA_ERROR_INVALID_VALUE));
    }
    assert_eq!(emulated::get("live_bytes"), before);
    assert_eq!(emulated::get("allocations"), 1);
    assert_eq!(name_of(CUDA_ERROR_OUT_OF_MEMORY), "CUDA_ERROR_OUT_OF_MEMORY");
}

#[test]
fn large_memory_costs_nothing_until_it_is_written() {
    let gpu = Gpu::new();
    // SAFETY: copies are within the memory
    unsafe {
        let at = result::malloc_sync(6 << 30).unwrap();
        result::memcpy_htod_sync(at + (5 << 30), &[1f32]).unwrap();
        let ends = gpu.download::<f32>(at + (5 << 30) - 4, 3);
        assert!(ends[0].is_nan() && ends[1] == 1.0 && ends[2].is_nan());
        result::free_sync(at).unwrap();
    }
}

#[test]
fn copies_and_fills_stay_in_their_allocation() {
    let gpu = Gpu::new();
    let (a, b) = (gpu.upload(&[1f32, 2.0, 3.0, 4.0]), gpu.upload(&[0f32; 4]));
    // SAFETY: the driver refuses what is wrong
    unsafe {
        result::memcpy_dtod_async(b + 4, a, 8, gpu.stream).unwrap();
        assert_eq!(gpu.download::<f32>(b, 4), [0.0, 1.0, 2.0, 0.0]);
        result::memset_d8_async(b, 0, 8, gpu.stream).unwrap();
        assert_eq!(sys::cuMemsetD32Async(b + 8, 3f32.to_bits(), 2, gpu.stream), CUDA_SUCCESS);
        assert_eq!(gpu.download::<f32>(b, 4), [0.0, 0.0, 3.0, 3.0]);
        let wrong = Err(CUDA_ERROR_INVALID_VALUE);
        assert_eq!(code(result::memcpy_dtod_async(b + 12, a, 8, gpu.stream)), wrong);
        assert_eq!(code(result::memcpy_htod_async(a, &[0f32; 5], gpu.stream)), wrong);
        assert_eq!(code(result::memcpy_dtoh_async(&mut [0f32; 5], a, gpu.stream)), wrong);
        assert_eq!(code(result::memset_d8_async(a, 0, 17, gpu.stream)), wrong);
        assert_eq!(code(result::memset_d8_sync(a + 16, 0, 1)), wrong);
    }
}
