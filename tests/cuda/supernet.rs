//! The whole supernet and whole search steps on the device, against the CPU.

use super::common::{batch, searcher, small};
use super::{bits, device, distance};
use oche::data::loader::Batch;
use oche::device::Device;
use oche::nn::RunningStats;
use oche::search::{Order, Pass, Searcher, Want};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tensor::{DType, Tensor};

fn config(fused: bool) -> CnnConfig {
    CnnConfig { fused, channels: 4, ..small(3, 2) }
}

fn scene(config: &CnnConfig) -> (Searcher, Batch, Batch) {
    let searcher = searcher(CnnSupernet::new(config).unwrap(), DType::F32, 2);
    (searcher, batch(4, 8, DType::F32, 2, 0), batch(4, 8, DType::F32, 2, 1))
}

/// Loss and gradients of a pass, and the running statistics after it.
fn pass(searcher: &Searcher, batch: &Batch) -> Vec<Tensor> {
    let device = searcher.device();
    let batch = batch.on(&device, DType::F32).unwrap();
    let running = RunningStats::new(searcher.net().norms(), DType::F32);
    let mut running = running.to_device(&device).unwrap();
    let at = (&searcher.weights.flat, &searcher.alphas[..]);
    let want = Want { weights: true, alphas: true };
    let pass = Pass::run(searcher.net(), at, &batch, &mut running, true, want).unwrap();
    let evaluated = Pass::evaluate(searcher.net(), at, &batch, &mut running).unwrap();
    let mut all = vec![pass.logits, pass.weights.unwrap(), evaluated.logits];
    all.extend(pass.alphas.unwrap());
    all.iter().map(|t| t.to_host().unwrap()).collect()
}

fn has_the_gradients_of_the_cpu(fused: bool) {
    let (device, _turn) = device();
    let (searcher, train, _) = scene(&config(fused));
    let expected = pass(&searcher, &train);
    let moved = searcher.on(&device).unwrap();
    for (k, (a, b)) in pass(&moved, &train).iter().zip(&expected).enumerate() {
        let error = distance(a, b);
        assert!(error < 1e-4, "result {k}: {error:e}");
    }
}

#[test]
fn emulated_fused_supernets_have_the_gradients_of_the_cpu() {
    has_the_gradients_of_the_cpu(true);
}

#[test]
fn emulated_unfused_supernets_have_the_gradients_of_the_cpu() {
    has_the_gradients_of_the_cpu(false);
}

#[test]
fn emulated_architecture_gradients_agree_with_the_cpu() {
    let (device, _turn) = device();
    let (mut here, train, valid) = scene(&config(true));
    let (there, ..) = scene(&config(true));
    let mut there = there.on(&device).unwrap();
    let [t, v] = [&train, &valid].map(|b| b.on(&device, DType::F32).unwrap());
    for order in [Order::First, Order::Second, Order::Exact] {
        let expected = here.arch_gradient(order, &train, &valid, 0.025).unwrap().0;
        let gradients = there.arch_gradient(order, &t, &v, 0.025).unwrap().0;
        // the finite difference divides what rounding leaves by e
        let tolerance = if order == Order::First { 1e-4 } else { 1e-2 };
        for (a, b) in gradients.iter().zip(&expected) {
            let error = distance(&a.to_host().unwrap(), b);
            assert!(error < tolerance, "{order:?}: {error:e}");
        }
    }
}

/// Everything that a step moves, as bits.
fn state(searcher: &Searcher) -> Vec<Vec<u64>> {
    let running = searcher.running.to_device(&Device::Cpu).unwrap();
    let running = (0..searcher.net().norms().len()).flat_map(|i| running.get(i));
    let adam = searcher.adam.iter().flat_map(|a| [a.first.clone(), a.second.clone()]);
    let tensors = [searcher.weights.flat.clone(), searcher.momentum.clone()].into_iter();
    let tensors = tensors.chain(searcher.alphas.clone()).chain(adam).chain(running);
    tensors.map(|t| bits(&t.to_host().unwrap())).collect()
}

/// Four steps: the first is launched kernel by kernel, the others as one graph.
fn steps(device: &Device, order: Order, graphs: bool) -> (Vec<[f64; 2]>, Vec<Vec<u64>>) {
    let (searcher, ..) = scene(&config(true));
    let mut searcher = searcher.on(device).unwrap();
    searcher.graphs = graphs;
    let mut losses = vec![];
    for k in 0..4 {
        let [train, valid] = [2 * k, 2 * k + 1].map(|k| batch(4, 8, DType::F32, 2, k));
        let [train, valid] = [train, valid].map(|b| b.on(device, DType::F32).unwrap());
        let report = searcher.step(order, &train, &valid, 0.1 / (1 + k) as f64).unwrap();
        losses.push([report.train_loss, report.valid_loss]);
    }
    assert_eq!(searcher.graph_usage().is_some(), graphs && device.cuda().is_some());
    assert_eq!((searcher.running.batches, searcher.adam[0].steps), (4, 4));
    (losses, state(&searcher))
}

#[test]
fn emulated_steps_as_a_graph_have_the_bits_of_single_launches() {
    let (device, _turn) = device();
    for order in [Order::First, Order::Second] {
        let graph = steps(&device, order, true);
        let single = steps(&device, order, false);
        assert!(graph == single, "{order:?}: {:?} and {:?}", graph.0, single.0);
        let (here, _) = steps(&Device::Cpu, order, true);
        for (a, b) in graph.0.iter().flatten().zip(here.iter().flatten()) {
            assert!((a - b).abs() < 1e-3, "{order:?}: {:?} and {here:?}", graph.0);
        }
    }
}

#[test]
fn emulated_steps_of_another_size_are_captured_anew() {
    let (device, _turn) = device();
    let (searcher, ..) = scene(&config(true));
    let mut searcher = searcher.on(&device).unwrap();
    let mut step = |n: usize, k: u64| {
        let [train, valid] =
            [2 * k, 2 * k + 1].map(|k| batch(n, 8, DType::F32, 2, k).on(&device, DType::F32).unwrap());
        searcher.step(Order::First, &train, &valid, 0.05).unwrap();
        searcher.graph_usage().map(|usage| usage.peak)
    };
    let [first, captured, odd, again, other, more] =
        [(4, 0), (4, 1), (3, 2), (4, 3), (6, 4), (6, 5)].map(|(n, k)| step(n, k));
    assert!(first.is_none() && captured.is_some());
    assert_eq!((odd, again), (captured, captured), "one odd batch is no reason to capture");
    assert!(other == captured && more > captured);
}
