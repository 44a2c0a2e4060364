//! Cases: every operation with inputs that suit it. One registry drives the tests and the benches.
//!
//! The constructors take sizes, so that property tests can draw them.

pub mod channel;
pub mod fused;
pub mod image;
pub mod mixed;
pub mod pointwise;

use crate::error::Result;
use crate::tape::check::normal;
use crate::tape::{Op, Tape, Var};
use crate::tensor::{DType, Shape, Tensor};
use std::rc::Rc;

/// How the elements of an input are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    /// At least 0.1 from zero, where relu has its kink.
    AwayFromZero,
    /// All different by 4/count and none at zero: no two are close to a tie, where a maximum has its kink.
    Spread,
    /// At least 0.5: variances.
    Positive,
}

/// An input of a case.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub shape: Shape,
    pub kind: Kind,
}

/// An input of standard normal numbers.
pub fn any(shape: impl Into<Shape>) -> Input {
    of(shape, Kind::Normal)
}

/// An input of the given kind.
pub fn of(shape: impl Into<Shape>, kind: Kind) -> Input {
    Input { shape: shape.into(), kind }
}

/// What a case computes from its inputs.
pub type Function = dyn Fn(&mut Tape, &[Var]) -> Result<Var>;

/// A function of tensors that is differentiable near its inputs.
pub struct Case {
    pub name: String,
    pub inputs: Vec<Input>,
    /// The operation, if the function is one operation on all inputs.
    pub op: Option<Rc<dyn Op>>,
    /// Highest order of derivative there is.
    pub orders: u8,
    /// No device has a kernel for it.
    pub host_only: bool,
    function: Box<Function>,
}

impl Case {
    /// One operation on all inputs, in order.
    pub fn op(name: impl Into<String>, op: impl Op + Clone, inputs: impl Into<Vec<Input>>) -> Self {
        let shared: Rc<dyn Op> = Rc::new(op.clone());
        Self { op: Some(shared), ..Self::of(name, inputs, move |tape, xs| tape.apply(op.clone(), xs)) }
    }
    /// A composition, or an operation that also has constants for inputs.
    pub fn of(
        name: impl Into<String>,
        inputs: impl Into<Vec<Input>>,
        function: impl Fn(&mut Tape, &[Var]) -> Result<Var> + 'static,
    ) -> Self {
        let (name, inputs, function) = (name.into(), inputs.into(), Box::new(function));
        Self { name, inputs, op: None, orders: 2, host_only: false, function }
    }
    /// The same with derivatives up to `orders` only.
    pub fn orders(self, orders: u8) -> Self {
        Self { orders, ..self }
    }
    /// The same, for the CPU only.
    pub fn on_host(self) -> Self {
        Self { host_only: true, ..self }
    }
    /// The inputs, in `F64`, drawn from `seed`.
    pub fn draw(&self, seed: u64) -> Result<Vec<Tensor>> {
        self.inputs.iter().zip(5000..).map(|(input, k)| draw(input, seed, k)).collect()
    }
    /// Computes the case on `tape`.
    pub fn run(&self, tape: &mut Tape, inputs: &[Var]) -> Result<Var> {
        (self.function)(tape, inputs)
    }
}

fn draw(input: &Input, seed: u64, k: u64) -> Result<Tensor> {
    let drawn = normal(input.shape, seed, k)?;
    let mut values = drawn.to_f64();
    match input.kind {
        Kind::Normal => return Ok(drawn),
        Kind::AwayFromZero => values.iter_mut().for_each(|x| *x += 0.1f64.copysign(*x)),
        Kind::Positive => values.iter_mut().for_each(|x| *x = 0.5 + x.abs()),
        Kind::Spread => {
            let count = values.len() as f64;
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
            // a quarter of a gap off the middle, so that none is zero
            order.into_iter().enumerate().for_each(|(rank, i)| {
                values[i] = 4.0 * (rank as f64 + 0.25) / count - 2.0;
            });
        }
    }
    Tensor::from_f64(input.shape, &values, DType::F64)
}

/// `value` as a constant of `tape`, where `like` is; a floating-point tensor of the type of parameters beside it.
fn constant(tape: &mut Tape, value: &Tensor, like: Var) -> Result<Var> {
    let value = match value.dtype() {
        DType::F32 | DType::F64 => value.to_dtype(tape.dtype(like).exact())?,
        _ => value.clone(),
    };
    let value = value.to_device(&tape.value(like).device())?;
    Ok(tape.constant(value))
}

/// Every operation, at sizes that are quick to check.
pub fn cases() -> Vec<Case> {
    let all = [pointwise::cases(), channel::cases(), image::cases(), mixed::cases(), fused::cases()];
    all.into_iter().flatten().collect()
}

/// The operations of a search at the shapes that it uses: C = 16 on 32 x 32 and C = 64 on 8 x 8, `batch` images.
pub fn search_cases(batch: usize) -> Vec<Case> {
    [[batch, 32, 32, 16], [batch, 8, 8, 64]].into_iter().flat_map(image::search_cases).collect()
}
