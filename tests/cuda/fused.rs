//! The fused cell and its preprocessing on the device, against the CPU: any candidates, sizes, and wants.

use super::{bits, device, distance};
use oche::device::Device;
use oche::ops::cases::Case;
use oche::ops::cases::fused::{Cell, Preprocess};
use oche::run::cases::projected;
use oche::tape::{Tape, Var};
use oche::tensor::{DType, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError};

/// Of single precision, against double.
const TOLERANCE: f64 = 2e-4;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Default::default() }
}

/// The element types of a run: of images, and of all else.
#[derive(Clone, Copy)]
struct Types(DType, DType);
const DOUBLE: Types = Types(DType::F64, DType::F64);
const SINGLE: Types = Types(DType::F32, DType::F32);
const HALF: Types = Types(DType::BF16, DType::F32);

/// Value of `case`, whose images are its inputs of the places `images`, and the gradients of those that are `wanted`. All
/// inputs are numbers that bf16 has, if `rounded`.
fn evaluate(
    (case, images): (&Case, &[usize]),
    (seed, rounded): (u64, bool),
    Types(image, other): Types,
    wanted: &[usize],
    device: &Device,
) -> Vec<Tensor> {
    let mut tape = Tape::new();
    let place = |(k, x): (usize, Tensor)| {
        let x = if rounded { x.to_dtype(DType::BF16).unwrap() } else { x };
        let x = x.to_dtype(if images.contains(&k) { image } else { other }).unwrap();
        x.to_device(device).unwrap()
    };
    let placed: Vec<Tensor> = case.draw(seed).unwrap().into_iter().enumerate().map(place).collect();
    let vars: Vec<Var> = placed.into_iter().map(|x| tape.leaf(x)).collect();
    let y = case.run(&mut tape, &vars).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let mut all = vec![tape.value(y).clone()];
    let s = projected(&mut tape, y, 0).unwrap();
    let wrt: Vec<Var> = wanted.iter().map(|&k| vars[k]).collect();
    all.extend(tape.grad(s, &wrt).unwrap_or_else(|e| panic!("{}: {e}", case.name)));
    all.iter().map(|t| t.to_host().unwrap()).collect()
}

/// The places of a case's images.
const CELL: [usize; 2] = [1, 2];
const LAYER: [usize; 1] = [0];

/// In single precision: the values and all gradients are the CPU's; those of any part of the inputs are the same bits.
fn agree(case: &Case, images: &[usize], seed: u64) -> Result<(), TestCaseError> {
    let (device, _turn) = device();
    let run = |types, wanted: &[usize], device: &Device| {
        evaluate((case, images), (seed, false), types, wanted, device)
    };
    let all: Vec<usize> = (0..case.inputs.len()).collect();
    let (ours, expected) = (run(SINGLE, &all, &device), run(DOUBLE, &all, &Device::Cpu));
    for (k, (a, b)) in ours.iter().zip(&expected).enumerate() {
        let error = distance(a, b);
        prop_assert!(error <= TOLERANCE, "{}, result {k}: {error:e}", case.name);
    }
    let weights: Vec<usize> = all.iter().copied().filter(|k| !images.contains(k)).collect();
    for some in [&[0][..], images, &weights, &images[..1]] {
        let part = run(SINGLE, some, &device);
        let whole = std::iter::once(&ours[0]).chain(some.iter().map(|&k| &ours[1 + k]));
        for (a, b) in part.iter().zip(whole) {
            prop_assert!(bits(a) == bits(b), "{}, gradients of {some:?}", case.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn emulated_cells(
        n in 2usize..4, h in 1usize..9, w in 1usize..9, c in 1usize..21, nodes in 1usize..4,
        chosen in prop::collection::vec(prop::collection::vec(0usize..9, 0..5), 1..6),
        reduction: bool, given: bool, seed in 0u64..100,
    ) {
        let [h, w, c] = if reduction { [h, w, c].map(|x| x.next_multiple_of(2)) } else { [h, w, c] };
        prop_assume!(chosen.iter().any(|c| !c.is_empty()));
        prop_assume!(n * h * w > 16); // of fewer values a channel the norm makes nearly constants
        // the first edges have candidates, so that the size of the nodes is known
        let chosen = chosen.into_iter().filter(|c| !c.is_empty()).collect();
        let cell = Cell { x: [n, h, w, c], nodes, reduction, chosen, given };
        agree(&cell.case(false), &CELL, seed)?;
    }

    #[test]
    fn emulated_preprocessing(
        n in 1usize..5, h in 1usize..9, w in 1usize..9, c in 1usize..40, share in 1usize..40,
        halve: bool, given: bool, seed in 0u64..100,
    ) {
        prop_assume!(n * h * w > 8);
        let [h, w] = if halve { [2 * h, 2 * w] } else { [h, w] };
        let layer = Preprocess { x: [n, h, w, c], share, halve, affine: false, given };
        agree(&layer.case(false), &LAYER, seed)?;
    }
}

/// Every tile of channels, whole and not, and more than the largest.
fn cells() -> Vec<Cell> {
    let mut cells = vec![];
    for (x, kinds) in [
        ([2, 8, 8, 16], vec![vec![0, 1, 2, 3, 4, 5, 6], vec![7, 8, 1, 1]]),
        ([2, 6, 4, 32], vec![vec![0, 3, 6, 2, 1]]),
        ([2, 4, 4, 64], vec![vec![4, 5, 2, 1], vec![0]]),
        ([3, 4, 4, 80], vec![vec![3, 5, 0, 1]]),
        ([2, 5, 3, 70], vec![vec![5, 4, 2]]),
    ] {
        for reduction in [false, true] {
            let [n, h, w, c]: [usize; 4] = x;
            let x = if reduction { [n, h.next_multiple_of(2), w.next_multiple_of(2), c] } else { x };
            cells.push(Cell { x, nodes: 2, reduction, chosen: kinds.clone(), given: false });
        }
    }
    cells
}

#[test]
fn emulated_cells_with_every_tile_of_channels() {
    for cell in cells() {
        agree(&cell.case(false), &CELL, 3).unwrap();
    }
}

/// More terms, parts and convolutions than one launch holds.
#[test]
fn emulated_cells_with_many_candidates() {
    let chosen = vec![[5, 4, 2, 1, 0, 3].repeat(4)];
    let cell = Cell { x: [2, 4, 4, 4], nodes: 4, reduction: false, chosen, given: false };
    agree(&cell.case(false), &CELL, 3).unwrap();
}

#[test]
fn emulated_preprocessing_with_every_tile_of_channels() {
    for (x, share) in [
        ([2, 8, 8, 64], 16usize),
        ([3, 6, 6, 48], 16),
        ([5, 4, 4, 256], 64),
        ([2, 4, 4, 128], 32),
        ([2, 2, 70, 64], 5),
    ] {
        for halve in [false, true] {
            let layer = Preprocess { x, share, halve, affine: false, given: false };
            agree(&layer.case(false), &LAYER, 3).unwrap();
        }
    }
}

#[test]
fn emulated_fused_operations_give_the_same_bits_in_any_order_of_threads() {
    let (device, _turn) = device();
    let cells = cells().into_iter().map(|cell| (cell.case(false), &CELL[..]));
    let layers = [[2, 8, 8, 12], [3, 6, 6, 17]].map(|x| {
        let layer = Preprocess { x, share: 8, halve: true, affine: false, given: false };
        (layer.case(false), &LAYER[..])
    });
    for (case, images) in cells.chain(layers) {
        let all: Vec<usize> = (0..case.inputs.len()).collect();
        let run = |order| {
            oche_emulated_driver::order(order);
            let results = evaluate((&case, images), (3, false), SINGLE, &all, &device);
            results.iter().map(bits).collect::<Vec<_>>()
        };
        let (ascending, descending) = (run(0), run(1));
        oche_emulated_driver::order(0);
        assert!(ascending == descending, "{} depends on the order of threads", case.name);
    }
}

/// At the size of a search, four nodes and seven candidates an edge, a cell is few launches: time on a GPU.
#[test]
fn emulated_cells_are_few_launches() {
    if std::env::var_os("OCHE_REQUIRE_CUDA").is_some() {
        return; // a real driver does not count
    }
    let (device, _turn) = device();
    for reduction in [false, true] {
        let chosen = vec![(0..7).collect()];
        let case = Cell { x: [2, 4, 4, 16], nodes: 4, reduction, chosen, given: false }.case(false);
        let mut tape = Tape::new();
        let place = |x: Tensor| x.to_dtype(DType::F32).unwrap().to_device(&device).unwrap();
        let vars: Vec<Var> = case.draw(3).unwrap().into_iter().map(|x| tape.leaf(place(x))).collect();
        let count = || oche_emulated_driver::get("launches");
        let start = count();
        let y = case.run(&mut tape, &vars).unwrap();
        // the skips of a reduction are two convolutions each: one launch does not hold all of the inputs'
        assert_eq!(count() - start, if reduction { 21 } else { 20 }, "forward");
        for (wrt, launches) in [(&vars[..3], 28), (&vars[..], 40)] {
            let s = projected(&mut tape, y, 0).unwrap();
            let start = count();
            tape.grad(s, wrt).unwrap();
            // and two: the gradient of the projection
            assert_eq!(count() - start, launches + 2, "backward, {} gradients", wrt.len());
        }
    }
}

/// Root of the mean square of the difference, relative to that of `b`.
fn spread(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_f64(), b.to_f64());
    let square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    square(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / square(&mut b.iter().copied()).max(1e-3)
}

/// Images in bf16, everything else in single precision. Where a relu reads what was rounded, some of its values are on
/// the other side of zero, and their whole gradient with them.
#[test]
fn emulated_fused_operations_in_bf16() {
    let (device, _turn) = device();
    let cell = |x, (reduction, given), nodes, chosen: &[usize]| {
        let chosen = vec![chosen.to_vec()];
        (Cell { x, nodes, reduction, chosen, given }.case(false), &CELL[..])
    };
    let layer = |x, share, halve| {
        (Preprocess { x, share, halve, affine: false, given: false }.case(false), &LAYER[..])
    };
    let one = &[0, 1, 2, 3, 4, 8];
    let all = &[0, 2, 3, 4, 5, 6, 7];
    for ((case, images), tolerance) in [
        (cell([4, 8, 8, 16], (false, false), 1, one), 1e-2),
        (cell([4, 8, 8, 16], (true, false), 1, one), 1e-2),
        (cell([4, 6, 5, 7], (false, true), 1, one), 1e-2),
        (cell([4, 6, 6, 6], (true, false), 1, one), 1e-2),
        (layer([4, 8, 8, 32], 16, false), 1e-2),
        (layer([4, 8, 8, 7], 5, true), 1e-2),
        (cell([4, 8, 8, 32], (false, false), 2, all), 0.15),
        (cell([4, 9, 7, 5], (false, false), 2, all), 0.15),
    ] {
        let wanted: Vec<usize> = (0..case.inputs.len()).collect();
        let run = |types| evaluate((&case, images), (3, true), types, &wanted, &device);
        for (k, (a, b)) in run(HALF).iter().zip(&run(SINGLE)).enumerate() {
            let image = k == 0 || images.contains(&(k - 1));
            assert_eq!(a.dtype(), if image { DType::BF16 } else { DType::F32 }, "{}, result {k}", case.name);
            let error = spread(a, b);
            assert!(error < tolerance, "{}, result {k}: {error:e}", case.name);
        }
    }
}
