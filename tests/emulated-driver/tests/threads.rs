//! Threads of a grid, a block and a warp.

mod common;

use common::Gpu;
use cudarc::driver::sys::CUresult::{self, *};
use oche_emulated_driver as emulated;

#[test]
fn every_thread_of_a_grid_runs_once() {
    let gpu = Gpu::new();
    let values: Vec<f32> = (0..1024).map(|i| i as f32).collect();
    let (y, factor, n) = (gpu.upload(&values), 3f32, 1000i32);
    gpu.launch("test_scale", 4, 256, arguments![y, factor, n]).unwrap();
    let result: Vec<f32> = gpu.download(y, 1024);
    assert!((0..1000).all(|i| result[i] == 3.0 * values[i]));
    assert_eq!(result[1000..], values[1000..]);
}

#[test]
fn threads_know_where_they_are() {
    let gpu = Gpu::new();
    let (grid, block) = ((2, 3, 4), (5, 2, 3));
    let y = gpu.upload(&[[0u32; 4]; 24 * 30]);
    for order in [0, 1] {
        emulated::order(order);
        gpu.launch_with(grid, block, 0, "test_indices", arguments![y]).unwrap();
        let result: Vec<[u32; 4]> = gpu.download(y, 24 * 30);
        for (i, at) in result.into_iter().enumerate() {
            let (of_grid, thread) = (i as u32 / 30, i as u32 % 30);
            assert_eq!(at, [thread % 5, thread / 5 % 2, thread / 10, of_grid]);
        }
    }
}

#[test]
fn block_of_1024_threads() {
    let gpu = Gpu::new();
    let y = gpu.upload(&[-1i32; 1024]);
    gpu.launch("test_large_block", 1, 1024, arguments![y]).unwrap();
    assert_eq!(gpu.download::<i32>(y, 1024), (0..1024).collect::<Vec<_>>());
}

#[test]
fn integer_atomics_count() {
    let gpu = Gpu::new();
    let (bins, bin_count, n) = (gpu.upload(&[0u32; 7]), 7i32, 1000i32);
    gpu.launch("test_count", 4, 256, arguments![bins, bin_count, n]).unwrap();
    assert_eq!(gpu.download::<u32>(bins, 7), [143, 143, 143, 143, 143, 143, 142]);
}

#[test]
fn barrier_makes_writes_of_the_block_seen() {
    let gpu = Gpu::new();
    for order in [0, 1] {
        emulated::order(order);
        assert_eq!(wrong_when_reversed(&gpu, true), 0);
    }
}

#[test]
fn missing_barrier_is_seen() {
    let gpu = Gpu::new();
    for order in [0, 1] {
        emulated::order(order);
        assert_eq!(wrong_when_reversed(&gpu, false), 128);
    }
}

fn wrong_when_reversed(gpu: &Gpu, with_barrier: bool) -> usize {
    let values: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let (x, y, with_barrier) = (gpu.upload(&values), gpu.upload(&values), i32::from(with_barrier));
    gpu.launch("test_reverse", 1, 256, arguments![x, y, with_barrier]).unwrap();
    let result: Vec<f32> = gpu.download(y, 256);
    result.iter().zip(values.iter().rev()).filter(|(is, should)| is != should).count()
}

#[test]
fn shuffles_sum_a_block() {
    let gpu = Gpu::new();
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let (x, y, n) = (gpu.upload(&values), gpu.upload(&[0f64; 3]), 1000i32);
    for (order, threads) in [(0, 256), (1, 256), (0, 32), (1, 96)] {
        emulated::order(order);
        gpu.launch("test_sum", 3, threads, arguments![x, y, n]).unwrap();
        assert_eq!(gpu.download::<f64>(y, 3), [499_500.0; 3]);
    }
}

#[test]
fn shuffles_stay_in_their_segment() {
    let gpu = Gpu::new();
    let y = gpu.upload(&[-1i32; 5 * 32]);
    gpu.launch("test_shuffles", 1, 32, arguments![y]).unwrap();
    let result: Vec<i32> = gpu.download(y, 5 * 32);
    for lane in 0..32 {
        let (segment, at) = (lane / 8 * 8, lane % 8);
        let expected = [
            segment + 3,
            if at < 2 { lane } else { lane - 2 },
            if at > 5 { lane } else { lane + 2 },
            segment + (at ^ 5),
            3,
        ];
        let got: Vec<i32> = (0..5).map(|row| result[(row * 32 + lane) as usize]).collect();
        assert_eq!(got, expected, "lane {lane}");
    }
}

#[test]
fn votes_are_of_the_mask() {
    let gpu = Gpu::new();
    let y = gpu.upload(&[0u32; 5 * 32]);
    gpu.launch("test_votes", 1, 32, arguments![y]).unwrap();
    let result: Vec<u32> = gpu.download(y, 5 * 32);
    let thirds = (0..32).filter(|lane| lane % 3 == 0).map(|lane| 1u32 << lane).sum::<u32>();
    for lane in 0..32 {
        let upper = lane >= 16;
        let expected =
            [thirds, if upper { 0xaaaa_0000 } else { 0x0000_aaaa }, u32::from(upper), u32::from(upper), 7];
        let got: Vec<u32> = (0..5).map(|row| result[row * 32 + lane]).collect();
        assert_eq!(got, expected, "lane {lane}");
    }
}

#[test]
fn what_absent_lanes_would_send_is_nan() {
    let gpu = Gpu::new();
    let y = gpu.upload(&[-1f32; 51]);
    gpu.launch("test_absent_lanes", 1, 51, arguments![y]).unwrap();
    let result: Vec<f32> = gpu.download(y, 51);
    for (thread, got) in result.into_iter().enumerate() {
        match thread {
            5 | 37 => assert_eq!(got, -1.0),
            4 | 36 | 50 => assert!(got.is_nan(), "thread {thread}"),
            _ => assert_eq!(got, (thread ^ 1) as f32),
        }
    }
}

#[test]
fn tensor_cores_multiply() {
    let gpu = Gpu::new();
    let (m, n, k) = (32usize, 24usize, 48usize);
    let bf16 = |x: f32| (x.to_bits() >> 16) as u16;
    let float = |x: u16| f64::from(f32::from_bits(u32::from(x) << 16));
    let a: Vec<u16> = (0..m * k).map(|i| bf16((i * 37 % 101) as f32 / 50.0 - 1.0)).collect();
    let b: Vec<u16> = (0..n * k).map(|i| bf16((i * 53 % 97) as f32 / 48.0 - 1.0)).collect();
    let (on_a, on_b, on_c) = (gpu.upload(&a), gpu.upload(&b), gpu.upload(&vec![0f32; m * n]));
    let (columns, depth) = (n as i32, k as i32);
    let grid = (n as u32 / 8, m as u32 / 16, 1);
    gpu.launch_with(grid, (32, 1, 1), 0, "test_multiply", arguments![on_a, on_b, on_c, columns, depth])
        .unwrap();
    let c: Vec<f32> = gpu.download(on_c, m * n);
    for (i, c) in c.into_iter().enumerate() {
        let (row, column) = (i / n * k, i % n * k);
        let expected: f64 = (0..k).map(|at| float(a[row + at]) * float(b[column + at])).sum();
        assert!((f64::from(c) - expected).abs() < 1e-4, "{i}: {c} for {expected}");
    }
}

fn breaks(name: &str, threads: u32) -> CUresult {
    let gpu = Gpu::new();
    let y = gpu.upload(&[0i32; 256]);
    let error = gpu.launch(name, 2, threads, arguments![y]).unwrap_err();
    assert_eq!(gpu.synchronize(), Err(error));
    emulated::reset();
    gpu.launch("test_large_block", 1, 256, arguments![y]).unwrap();
    assert_eq!(gpu.download::<i32>(y, 256), (0..256).collect::<Vec<_>>());
    error
}

#[test]
fn barriers_that_never_fill_are_errors() {
    for name in [
        "test_barrier_after_exit",
        "test_barrier_against_shuffle",
        "test_masks_differ",
        "test_not_in_own_mask",
    ] {
        for threads in [64, 256] {
            assert_eq!(breaks(name, threads), CUDA_ERROR_LAUNCH_FAILED, "{name}");
        }
    }
}
