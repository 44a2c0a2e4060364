//! Threads of a block and of a warp together.

mod common;

use common::Gpu;
use oche_emulated_driver as emulated;

#[test]
fn every_thread_of_a_grid_runs_once() {
    let gpu = Gpu::new();
    let n = 1000i32;
    let values: Vec<f32> = (0..1024).map(|i| i as f32).collect();
    let (y, factor) = (gpu.upload(&values), 3f32);
    gpu.launch("test_scale", 4, 256, arguments![y, factor, n]).unwrap();
    let result: Vec<f32> = gpu.download(y, 1024);
    assert!((0..1000).all(|i| result[i] == 3.0 * values[i]));
    assert_eq!(result[1000..], values[1000..]);
}

#[test]
fn barrier_makes_writes_of_the_block_seen() {
    let gpu = Gpu::new();
    for order in [0, 1] {
        emulated::order(order);
        assert_eq!(reversed(&gpu, true), (0..256).rev().map(|i| i as f32).collect::<Vec<_>>());
    }
}

#[test]
fn missing_barrier_is_seen() {
    let gpu = Gpu::new();
    let right: Vec<f32> = (0..256).rev().map(|i| i as f32).collect();
    let wrong = [0, 1].map(|order| {
        emulated::order(order);
        reversed(&gpu, false).iter().zip(&right).filter(|(is, should)| is != should).count()
    });
    assert_eq!(wrong, [128, 128]);
}

fn reversed(gpu: &Gpu, with_barrier: bool) -> Vec<f32> {
    let values: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let (x, y, with_barrier) = (gpu.upload(&values), gpu.upload(&values), i32::from(with_barrier));
    gpu.launch("test_reverse", 1, 256, arguments![x, y, with_barrier]).unwrap();
    gpu.download(y, 256)
}
