//! The fused cell: with the published candidates on every edge, and with one kind on every edge, which shows what is
//! slow. Arithmetic and traffic are what the operations declare.

use crate::{Bench, STAGES, numbers};
use oche::Result;
use oche::ops::cases::fused::kinds;
use oche::ops::fused::mixed_cell::{Candidate, Kind, MixedCell, Spec};
use oche::tape::{Cost, Op, Out, Pullback, Tape, Var};
use oche::tensor::{DType, Shape, Tensor};
use std::sync::Arc;

const NODES: usize = 4;
/// Places in [`kinds`] and what they are called.
const KINDS: [&str; 7] = ["skip", "max pool", "avg pool", "dil 3x3", "dil 5x5", "sep 3x3", "sep 5x5"];

pub fn passes(bench: &mut Bench, batch: usize) {
    let all: Vec<usize> = (0..KINDS.len()).collect();
    for (c, size) in STAGES {
        Cell::new([batch, size, size, c], false, &all).run(bench, "cell");
    }
    for (c, size) in &STAGES[1..] {
        Cell::new([batch, 2 * size, 2 * size, *c], true, &all).run(bench, "reduction cell");
    }
    for (c, size) in STAGES {
        for (kind, name) in KINDS.iter().enumerate() {
            Cell::new([batch, size, size, c], false, &[kind]).run(bench, &format!("cell of {name}"));
        }
    }
}

/// A cell and what it is computed from.
struct Cell {
    op: MixedCell,
    inputs: Vec<Tensor>,
}

impl Cell {
    /// Inputs `x` (N, H, W, C); `chosen` are the candidates of each edge.
    fn new(x: [usize; 4], reduction: bool, chosen: &[usize]) -> Self {
        let mut candidates = vec![];
        for (from, node) in (0..NODES).flat_map(|node| (0..node + 2).map(move |from| (from, node))) {
            let kinds = kinds(if reduction && from < 2 { 2 } else { 1 });
            for &k in chosen {
                candidates.push(Candidate { from, node, entry: candidates.len(), kind: kinds[k] });
            }
        }
        let shapes = [[1, candidates.len()].into(), x.into(), x.into()];
        let weights = candidates.iter().flat_map(|candidate| weights(candidate.kind, x[3]));
        let inputs = shapes.into_iter().chain(weights).map(tensor).collect();
        Self {
            op: MixedCell {
                given: false,
                spec: Arc::new(Spec::new(NODES, &candidates, true)),
                keeps_pools: false,
                lean: false,
            },
            inputs,
        }
    }

    /// Its forward, its gradient without and with that of the weights.
    fn run(&self, bench: &mut Bench, name: &str) {
        let [_, h, _, c] = self.inputs[1].shape().nhwc().expect("an image");
        let name = |pass: &str| format!("{name} {c}@{h} {pass}");
        let cost = self.forward().0.counters().cost;
        measure(bench, &name("forward"), cost, || drop(self.forward()));
        let (mut tape, vars, y) = self.forward();
        let g = tensor(tape.shape(y));
        let result = tape.apply(Seed { g }, &[y]).expect("a result");
        let mut passes = vec![("alphas", 3)];
        if vars.len() > 3 {
            passes.push(("weights", vars.len())); // pools and identities have none
        }
        for (pass, wanted) in passes {
            let wanted = &vars[..wanted];
            let before = tape.counters().cost;
            tape.grad(result, wanted).expect("a gradient");
            let cost = difference(tape.counters().cost, before);
            measure(bench, &name(pass), cost, || drop(tape.grad(result, wanted)));
        }
    }

    fn forward(&self) -> (Tape, Vec<Var>, Var) {
        let mut tape = Tape::new();
        let vars: Vec<Var> = self.inputs.iter().map(|x| tape.leaf(x.clone())).collect();
        let y = tape.apply(self.op.clone(), &vars).expect("a cell");
        (tape, vars, y)
    }
}

fn measure(bench: &mut Bench, name: &str, cost: Cost, work: impl FnMut()) {
    bench.run(name, cost.flops as usize, cost.bytes(DType::F32) as usize, work);
}

fn difference(after: Cost, before: Cost) -> Cost {
    Cost {
        flops: after.flops - before.flops,
        macs: after.macs - before.macs,
        reads: after.reads - before.reads,
        writes: after.writes - before.writes,
    }
}

/// Shapes of the weights of a candidate of `c` channels.
fn weights(kind: Kind, c: usize) -> Vec<Shape> {
    let mut shapes = vec![];
    for window in kind.depthwise() {
        let [kh, kw] = window.kernel;
        shapes.extend([Shape::from([c, 1, kh, kw]), Shape::from([c, c, 1, 1])]);
    }
    if kind == Kind::Reduce {
        shapes.extend([Shape::from([c / 2, c, 1, 1]); 2]);
    }
    shapes
}

fn tensor(shape: Shape) -> Tensor {
    Tensor::from_slice(shape, &numbers(shape.count())).expect("a tensor")
}

/// A number whose gradient in the input is `g`, at no cost.
#[derive(Debug)]
struct Seed {
    g: Tensor,
}

impl Op for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }
    fn shape(&self, _: &[Shape]) -> Result<Shape> {
        Ok(Shape::from([1]))
    }
    fn run(&self, _: &[&Tensor], out: &mut Out) -> Result<()> {
        out.value.make_mut::<f32>().fill(0.0);
        Ok(())
    }
    fn cost(&self, _: &[Shape]) -> Cost {
        Cost::default()
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let g = cx.tape().constant(self.g.clone());
        cx.pass(0, g)
    }
}
