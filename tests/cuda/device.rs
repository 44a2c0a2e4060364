//! Memory, launches, captured graphs and what goes wrong, on the emulated driver.

use super::device;
use oche::device::cuda::{Cuda, Mode};
use oche::device::{Device, cuda};
use oche::ops::pointwise::{Add, Scale};
use oche::tape::Tape;
use oche::tensor::{DType, Tensor};

fn numbers(count: usize) -> Tensor {
    let values: Vec<f32> = (0..count).map(|i| i as f32 - 7.5).collect();
    Tensor::from_slice([count], &values).unwrap()
}

#[test]
fn emulated_tensors_come_back_as_they_went() {
    let (device, _turn) = device();
    for count in [1, 31, 33, 1025] {
        let there = numbers(count).to_device(&device).unwrap();
        let mut shared = there.clone();
        shared.make_unique().unwrap();
        assert_ne!(shared.address(), there.address());
        for tensor in [&there, &shared, &there.view(0, [count])] {
            assert_eq!(tensor.to_host().unwrap().to_f64(), numbers(count).to_f64());
        }
        let last = there.view(count - 1, [1]);
        assert_eq!(last.read().unwrap(), numbers(count).to_f64()[count - 1]);
        let zeros = there.zeros_alike([count], DType::F32).unwrap().to_host().unwrap();
        assert!(zeros.to_f64().iter().all(|x| *x == 0.0));
        let ones = there.full_alike([count], DType::F32, 1.0).unwrap().to_host().unwrap();
        assert!(ones.to_f64().iter().all(|x| *x == 1.0));
    }
}

#[test]
fn emulated_pools_reuse_and_return_memory() {
    let (_, _turn) = device();
    let pooled = Cuda::open(0, Mode::Pooled).unwrap();
    let arena = pooled.arena();
    let pieces: Vec<_> = (1..40usize).map(|i| arena.take(i * 100_000).unwrap()).collect();
    let mut spans: Vec<(u64, u64)> = pieces.iter().zip(1..).map(|(p, i)| (p.address, i * 100_000)).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|s| s[0].0 + s[0].1 <= s[1].0), "pieces overlap");
    let full = arena.usage();
    assert!(full.live >= 78_000_000 && full.peak == full.live && full.held >= full.live);
    drop(pieces);
    assert_eq!(arena.usage().live, 0);
    let again = arena.take(3_000_000).unwrap();
    assert_eq!(arena.usage().held, full.held, "what was given back is taken again");
    arena.trim();
    assert!(arena.usage().held < full.held);
    drop(again);
    arena.trim();
    assert_eq!(arena.usage().held, 0);
    let peak = arena.usage().peak;
    arena.reset_peak();
    assert!(peak == full.peak && arena.usage().peak == 0);
}

#[test]
fn emulated_graphs_replay_on_new_numbers() {
    let (device, _turn) = device();
    let Device::Cuda(cuda) = &device else { unreachable!() };
    let mut x = numbers(33).to_device(&device).unwrap();
    let work = || {
        let mut tape = Tape::new();
        let v = tape.constant(x.clone());
        let twice = tape.apply(Add, &[v, v])?;
        let y = tape.apply(Scale(0.5), &[twice])?;
        Ok(tape.value(y).clone())
    };
    let (graph, y) = cuda.capture(work).unwrap();
    assert!(graph.usage().live > 0);
    for shift in [0.0, 3.0] {
        let moved: Vec<f32> = numbers(33).to_f64().iter().map(|v| (*v + shift) as f32).collect();
        x.copy_from(&Tensor::from_slice([33], &moved).unwrap()).unwrap();
        graph.launch().unwrap();
        assert_eq!(y.to_host().unwrap().to_f64(), moved.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    }
    // a capture that fails leaves the device as it was
    let failed = cuda.capture(|| -> oche::Result<()> { Err(oche::Error::config("test", "no")) });
    assert!(failed.unwrap_err().to_string().contains("test: no"));
    assert_eq!(numbers(3).to_device(&device).unwrap().to_host().unwrap().to_f64(), numbers(3).to_f64());
}

/// Every refusal is one sentence that says what to do.
#[test]
fn emulated_refusals_say_what_to_do() {
    use oche_emulated_driver::{reset, set};
    let (_, _turn) = device();
    let refused = |ordinal| Cuda::open(ordinal, Mode::Pooled).unwrap_err().to_string();
    let expect = |said: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| said.contains(part)) && !said.contains('\n'), "{said}");
    };
    expect(refused(7), &["no device 7", "cuda:0"]);
    set("driver_version", 11_040);
    expect(refused(0), &["CUDA 11.4", "12.0 or newer", "--device cpu"]);
    reset();
    set("devices", 0);
    expect(cuda::count().unwrap_err().to_string(), &["finds no device", "CUDA_VISIBLE_DEVICES"]);
    reset();
    set("capability", 75);
    expect(refused(0), &["compute capability 7.5", "8.0 or newer"]);
    reset();
    set("module_error", 222);
    expect(refused(0), &["UNSUPPORTED_PTX_VERSION", "driver is too old", "--device cpu"]);
    set("module_error", 200);
    expect(refused(0), &["INVALID_IMAGE", "build it again"]);
    reset();
    set("memory", 64 << 20);
    let small = Cuda::open(0, Mode::Pooled).unwrap();
    let said = small.take(1 << 30).unwrap_err().to_string();
    expect(said, &["out of memory", "1.07 GB asked for", "--batch-size"]);
    reset();
}
