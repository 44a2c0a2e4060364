//! The crate as a library: the examples run, an operation of one's own takes part in everything, edges have their own
//! candidates, and a search in memory gives the numbers of the program.

#[path = "common/mod.rs"]
mod common;
#[path = "../examples/own_dataset.rs"]
mod own_dataset;
#[path = "../examples/own_operation.rs"]
mod own_operation;
#[path = "../examples/own_space.rs"]
mod own_space;
#[path = "../examples/search.rs"]
mod search;

use common::{batch, searcher, small};
use oche::data::{Dataset, ImageSet};
use oche::nn::{Context, Conv2d, Norm};
use oche::search::{Order, Search, Settings};
use oche::space::candidate::{Candidate, State, Term};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::space::genotype::{CANDIDATES, CellKind};
use oche::space::{Operation, Space};
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};

#[test]
fn the_examples_run() {
    search::main().unwrap();
    own_dataset::main().unwrap();
    own_operation::main().unwrap();
    own_space::main().unwrap();
}

/// 1 x 1 convolution and batch norm, without relu.
#[derive(Debug)]
struct Linear(Conv2d, Norm);

impl Candidate for Linear {
    fn forward(&self, cx: &mut Context, input: &mut State) -> oche::Result<Option<Term>> {
        Ok(Some(Term::new(self.0.forward(cx, input.x)?, Some(self.1))))
    }
}

fn linear() -> Operation {
    let window = |stride| oche::ops::window::Window::square(1, stride, 0, 1);
    Operation::new("linear_1x1", move |b, place| {
        let conv = Conv2d::dense(b, "conv", place.channels, place.channels, window(place.stride));
        Ok(Box::new(Linear(conv, Norm::new(b, "norm", place.channels, place.affine))))
    })
    .unwrap()
}

fn net(space: Space, cells: usize) -> CnnSupernet {
    CnnSupernet::new(&CnnConfig { space, ..small(cells, 1) }).unwrap()
}

/// sum_k <gradient_k, direction_k>
fn dot(a: &[Tensor], b: &[Tensor]) -> f64 {
    let pairs = a.iter().zip(b).flat_map(|(a, b)| a.to_f64().into_iter().zip(b.to_f64()));
    pairs.map(|(a, b)| a * b).sum()
}

/// Of the first order against the slope of the validation loss; of the finite difference against dual numbers, which
/// differentiate the operation's own pullback.
#[test]
fn an_own_operation_has_gradients_of_both_orders() {
    let space = Space::published(2, &["none", "skip_connect", "sep_conv_3x3"]).unwrap().with(&linear());
    let mut s = searcher(net(space, 2), DType::F64, 3);
    let (train, valid) = (batch(4, 8, DType::F64, 3, 0), batch(4, 8, DType::F64, 3, 1));
    let direction: Vec<Tensor> = s.alphas.iter().map(|a| normal(*a.shape(), 3, 9).unwrap()).collect();
    let (gradient, _) = s.arch_gradient(Order::First, &train, &valid, 0.1).unwrap();
    let start = s.alphas.clone();
    let mut at = |h: f64| {
        for (alpha, (start, d)) in s.alphas.iter_mut().zip(start.iter().zip(&direction)) {
            let moved: Vec<f64> = start.to_f64().iter().zip(d.to_f64()).map(|(a, d)| a + h * d).collect();
            *alpha = Tensor::from_f64(*start.shape(), &moved, DType::F64).unwrap();
        }
        s.arch_gradient(Order::First, &train, &valid, 0.1).unwrap().1.loss().unwrap()
    };
    let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
    at(0.0);
    let along = dot(&gradient, &direction);
    assert!((along - slope).abs() < 1e-6 * slope.abs().max(1e-3), "{along} {slope}");
    s.hyper.radius = 1e-4;
    let [second, exact] = [Order::Second, Order::Exact]
        .map(|order| dot(&s.arch_gradient(order, &train, &valid, 0.1).unwrap().0, &direction));
    assert!((second - exact).abs() < 1e-4 * exact.abs(), "{second} {exact}");
    assert!((exact - along).abs() > 1e-6, "the second order is the first: {exact} {along}");
}

#[test]
fn fused_cells_give_way_to_an_own_operation_and_say_so() {
    use oche::space::Supernet;
    assert_eq!(net(Space::darts(1), 2).unfused(), [""; 0]);
    assert_eq!(net(Space::darts(1).with(&linear()), 2).unfused(), ["linear_1x1"]);
    let published = Space::published(1, &["skip_connect", "conv_7x1_1x7"]).unwrap();
    assert_eq!(net(published, 2).unfused(), ["conv_7x1_1x7"]);
    let reference = CnnConfig { space: Space::darts(1).with(&linear()), fused: false, ..small(2, 1) };
    assert_eq!(CnnSupernet::new(&reference).unwrap().unfused(), [""; 0]); // nobody asked for fused ones
}

/// Lists of different lengths: elements beyond a list weigh nothing, move nothing and never get into a genotype; fused and
/// unfused agree.
#[test]
fn edges_have_their_own_candidates() {
    let op = |name: &str| Operation::published(name).unwrap();
    let space = Space::by_edge(2, |edge| match edge.input {
        0 => vec![op("max_pool_3x3")],
        1 => vec![op("none"), op("sep_conv_3x3"), op("dil_conv_5x5")],
        _ => vec![op("skip_connect"), op("avg_pool_3x3")],
    });
    let (train, valid) = (batch(4, 8, DType::F64, 1, 0), batch(4, 8, DType::F64, 1, 1));
    let [fused, reference] = [true, false].map(|fused| {
        let config = CnnConfig { space: space.clone(), fused, ..small(3, 2) };
        let mut s = searcher(CnnSupernet::new(&config).unwrap(), DType::F64, 1);
        assert_eq!(s.net().kinds()[0].shape(), [5, 3]);
        assert_eq!(s.net().kinds()[0].alphas(), 10);
        let before = s.edge_weights().unwrap();
        for _ in 0..2 {
            s.step(Order::Second, &train, &valid, 0.05).unwrap();
        }
        let after = s.edge_weights().unwrap();
        assert_ne!(before, after);
        let lengths: Vec<usize> = after[1].iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 3, 1, 3, 2]);
        for row in after.iter().flatten() {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        for gene in s.genotype().unwrap().normal.chunks(2).flatten() {
            let known = space.candidates(CellKind::Normal)[[0, 1, 4][gene.input]].clone();
            assert!(known.contains(&gene.op) && gene.op != "none", "{gene:?}");
        }
        after.concat().concat()
    });
    for (a, b) in fused.iter().zip(&reference) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn spaces_that_cannot_be_searched_are_refused() {
    let refusal = |space: Space| match CnnSupernet::new(&CnnConfig { space, ..small(2, 1) }) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    };
    let op = |name: &str| Operation::published(name).unwrap();
    assert!(refusal(Space::darts(0)).contains("space.nodes: a cell cannot have 0 nodes"));
    assert!(refusal(Space::darts(usize::MAX)).contains("give 1 to 64"));
    assert!(refusal(Space::darts(1).with(&op("none"))).contains("none stands twice"));
    assert!(refusal(Space::new(1, &[])).contains("node 0 of the normal cell has 0 edges"));
    let one = Space::by_edge(1, |e| vec![op(if e.input == 0 { "none" } else { "skip_connect" })]);
    assert!(refusal(one).contains("has 1 edges with an operation besides none"));
    assert!(refusal(Space::darts(1).with(&linear()).with(&linear())).contains("two operations are called"));
    let refused = |name: &str| match Operation::new(name, |_, _| unreachable!()) {
        Ok(_) => panic!("{name} was accepted"),
        Err(e) => e.to_string(),
    };
    assert!(refused("skip_connect").contains("is a published operation"));
    assert!(refused("it's").contains("cannot be the name"));
    let near = Operation::published("sep_conv3x3").unwrap_err().to_string();
    assert!(near.contains("did you mean sep_conv_3x3?"), "{near}");
}

#[test]
fn genotypes_of_own_operations_are_read_by_their_names() {
    let operations = Space::darts(1).with(&linear()).operations().unwrap();
    assert_eq!(operations.names().len(), CANDIDATES.len() + 1);
    let text = |op: &str| {
        format!(
            "Genotype(normal=[('{op}', 0), ('none', 1)], normal_concat=[2], reduce=[('none', 0), ('{op}', 1)], reduce_concat=[2])"
        )
    };
    let genotype = operations.parse(&text("linear_1x1")).unwrap();
    assert_eq!(operations.parse(&genotype.to_json()).unwrap(), genotype);
    let near = operations.parse(&text("linear_1x")).unwrap_err().to_string();
    assert!(near.contains("did you mean linear_1x1?"), "{near}");
    let unknown = text("linear_1x1").parse::<oche::space::Genotype>().unwrap_err().to_string();
    assert!(unknown.contains("unknown operation \"linear_1x1\""), "{unknown}");
}

#[test]
fn arrays_that_are_no_data_set_are_refused() {
    let refusal = |bytes: usize, labels: &[u32], size| {
        ImageSet::new(vec![0; bytes], labels.to_vec(), size, &["a", "b"]).unwrap_err().to_string()
    };
    assert!(refusal(7, &[0, 1], [2, 2, 1]).contains("2 images take 8 bytes, but 7 were given"));
    assert!(refusal(8, &[0, 2], [2, 2, 1]).contains("label 2 names none of 2 classes"));
    assert!(refusal(4, &[0], [2, 2, 1]).contains("1 images of 2 classes"));
    assert!(refusal(16, &[0, 1], [2, 2, 2]).contains("neither grey nor RGB"));
    let set = |size: usize| ImageSet::new(vec![0; 2 * size], vec![0, 1], [size, 1, 1], &["a", "b"]).unwrap();
    assert!(Dataset::new("own", set(2), Some(set(3))).is_err());
    let images = ImageSet::new(vec![0; 72], vec![0, 1], [6, 6, 1], &["a", "b"]).unwrap();
    let refused = Search::new(&Space::darts(1), images, Settings { channels: 2, ..Settings::default() });
    assert!(refused.err().unwrap().to_string().contains("6 x 6 pixels cannot be halved twice"));
}

/// The numbers of `search` with the same settings, to the bit.
#[cfg(unix)]
#[test]
fn a_search_in_memory_is_that_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--train-images 24 --channels 2 --cells 2 --nodes 1 --image-size 8 --batch-size 8 --crop-padding 1 \
        --epochs 2 --order second --device cpu --out run";
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_search"))
        .args(flags.split_whitespace())
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(program.status.success(), "{program:?}");
    let rows = std::fs::read_to_string(dir.path().join("run/alphas.jsonl")).unwrap();
    let images = oche::data::synthetic(8, 24, 2).unwrap().train;
    let mut settings = Settings {
        channels: 2,
        cells: 2,
        epochs: 2,
        batch_size: 8,
        order: Order::Second,
        ..Settings::default()
    };
    settings.augment.crop_padding = 1;
    let mut search = Search::new(&Space::darts(1), images, settings).unwrap();
    for row in rows.lines() {
        assert!(search.epoch().unwrap().is_some());
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let weights = search.searcher().edge_weights().unwrap();
        for (name, weights) in ["normal", "reduce"].iter().zip(weights) {
            let logged: Vec<Vec<f64>> = serde_json::from_value(row[name].clone()).unwrap();
            assert_eq!(logged, weights, "{name}");
        }
    }
    assert!(search.epoch().unwrap().is_none());
    let found = std::fs::read_to_string(dir.path().join("run/genotype.txt")).unwrap();
    assert_eq!(found.trim(), search.genotype().unwrap().to_string());
}
