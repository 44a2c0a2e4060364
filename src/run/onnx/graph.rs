//! Recorded operations as ONNX nodes: channels-last here, channels-first there, so only axes and weights' names are
//! added, and neighbours that ONNX has one operator for are joined.

use super::proto::{AttributeProto, FLOAT, GraphProto, INT64, NodeProto, TensorProto};
use crate::error::{Error, Result};
use crate::ops::batch_norm::{EPSILON, Normalise};
use crate::ops::channel::{ChannelScale, ChannelShift};
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::matmul::MatMul;
use crate::ops::pointwise::{Add, Relu, Scale};
use crate::ops::pool::{AvgPool, GlobalAvgPool, MaxPool};
use crate::ops::subsample::{Phase, Subsample};
use crate::ops::window::Window;
use crate::tape::{Op, Tape, Var};
use crate::tensor::Tensor;
use std::any::Any;
use std::collections::HashMap;

/// A value that is part of an operator whose rest is still to come.
#[derive(Clone, Copy)]
enum Part {
    Product { x: Var, weight: Var },
    Normalised { x: Var, statistics: [Var; 2] },
    Scaled { x: Var, statistics: [Var; 2], scale: Var },
}

/// A graph being put together from what a tape recorded.
pub struct Graph<'a> {
    tape: &'a Tape,
    /// Of inputs, weights and results.
    names: HashMap<Var, String>,
    /// Of tensors that are held fixed, by where they lie.
    fixed: HashMap<*const f32, String>,
    parts: HashMap<Var, Part>,
    pub proto: GraphProto,
}

impl<'a> Graph<'a> {
    /// An empty graph; `names` has those of the variables that are known beforehand.
    pub fn new(tape: &'a Tape, names: HashMap<Var, String>) -> Self {
        Self { tape, names, fixed: HashMap::new(), parts: HashMap::new(), proto: GraphProto::default() }
    }

    /// Names a tensor that operations find as a constant.
    pub fn name_fixed(&mut self, tensor: &Tensor, name: String) {
        self.fixed.insert(tensor.as_slice::<f32>().as_ptr(), name);
    }

    /// Adds what the tape has recorded.
    ///
    /// # Errors
    /// [`Error::Shape`] for an operation that has no translation, which no network of a genotype has.
    pub fn add_operations(&mut self) -> Result<()> {
        let tape = self.tape;
        tape.operations().try_for_each(|(op, ins, out)| self.add(op, ins, out))
    }

    fn add(&mut self, op: &dyn Op, ins: &[Var], out: Var) -> Result<()> {
        let any: &dyn Any = op;
        if let Some(conv) = any.downcast_ref::<Conv>() {
            let channels = self.tape.shape(ins[1]).dims()[0];
            let group = AttributeProto::int("group", if conv.0.depthwise { channels } else { 1 });
            let window = slide(&conv.0.window, true);
            return self.node("Conv", ins, out, window.into_iter().chain([group]));
        }
        if let Some(pool) = any.downcast_ref::<MaxPool>() {
            return self.node("MaxPool", ins, out, slide(&pool.window, false));
        }
        if let Some(pool) = any.downcast_ref::<AvgPool>() {
            return self.node("AveragePool", ins, out, slide(&pool.window, false)); // padding does not count by default
        }
        if let Some(Subsample(phase)) = any.downcast_ref() {
            return self.subsample(*phase, ins[0], out);
        }
        if let Some(Scale(factor)) = any.downcast_ref() {
            let factor = self.constant(&format!("factor_{factor}"), &[], FLOAT, &[*factor as f32]);
            let inputs = vec![self.name(ins[0])?, factor];
            return self.push("Mul", inputs, out, []);
        }
        match any {
            any if any.is::<Relu>() => self.node("Relu", ins, out, []),
            any if any.is::<Add>() => self.node("Add", ins, out, []),
            any if any.is::<Concat>() => self.node("Concat", ins, out, [AttributeProto::int("axis", 1)]),
            any if any.is::<GlobalAvgPool>() => self.global_pool(ins[0], out),
            any if any.is::<MatMul>() || any.is::<Normalise>() => self.begin(op, ins, out),
            any if any.is::<ChannelScale>() || any.is::<ChannelShift>() => self.go_on(op, ins, out),
            _ => Err(untranslated(op)),
        }
    }

    /// The first part of an operator of ONNX.
    fn begin(&mut self, op: &dyn Op, ins: &[Var], out: Var) -> Result<()> {
        let part = match (op as &dyn Any).downcast_ref::<MatMul>() {
            Some(MatMul { transpose: [false, true] }) => Part::Product { x: ins[0], weight: ins[1] },
            Some(_) => return Err(untranslated(op)),
            None => Part::Normalised { x: ins[0], statistics: [ins[1], ins[2]] },
        };
        self.parts.insert(out, part);
        Ok(())
    }

    /// A later part: scale and shift of a norm, or the shift of a linear layer.
    fn go_on(&mut self, op: &dyn Op, ins: &[Var], out: Var) -> Result<()> {
        let shift = (op as &dyn Any).is::<ChannelShift>();
        match (self.parts.get(&ins[0]).copied(), shift) {
            (Some(Part::Normalised { x, statistics }), false) => {
                self.parts.insert(out, Part::Scaled { x, statistics, scale: ins[1] });
                Ok(())
            }
            (Some(Part::Scaled { x, statistics: [mean, variance], scale }), true) => {
                let epsilon = AttributeProto::float("epsilon", EPSILON as f32);
                self.node("BatchNormalization", &[x, scale, ins[1], mean, variance], out, [epsilon])
            }
            (Some(Part::Product { x, weight }), true) => {
                self.node("Gemm", &[x, weight, ins[1]], out, [AttributeProto::int("transB", 1)])
            }
            _ => Err(untranslated(op)),
        }
    }

    /// Every `stride`-th pixel of both axes.
    fn subsample(&mut self, Phase { stride, offset }: Phase, x: Var, out: Var) -> Result<()> {
        let mut inputs = vec![self.name(x)?];
        if (stride, offset) == (1, 0) {
            self.names.insert(out, inputs.remove(0));
            return Ok(());
        }
        let (start, step) = (offset as i64, stride as i64);
        let bounds = [("from", [start; 2]), ("to", [i64::MAX; 2]), ("axes", [2, 3]), ("by", [step; 2])];
        for (what, values) in bounds {
            inputs.push(self.constant(&format!("pixels_{what}_{}", values[0]), &[2], INT64, &values));
        }
        self.push("Slice", inputs, out, [])
    }

    /// (N, C, H, W) -> (N, C)
    fn global_pool(&mut self, x: Var, out: Var) -> Result<()> {
        let (input, pooled) = (self.name(x)?, format!("{}_pixel", self.result("GlobalAveragePool", out)));
        self.operator("GlobalAveragePool", vec![input], pooled.clone(), []);
        self.push("Flatten", vec![pooled], out, [AttributeProto::int("axis", 1)])
    }

    fn node(
        &mut self,
        kind: &str,
        ins: &[Var],
        out: Var,
        attributes: impl IntoIterator<Item = AttributeProto>,
    ) -> Result<()> {
        let inputs = ins.iter().map(|&v| self.name(v)).collect::<Result<Vec<_>>>()?;
        self.push(kind, inputs, out, attributes)
    }

    fn push(
        &mut self,
        kind: &str,
        inputs: Vec<String>,
        out: Var,
        attributes: impl IntoIterator<Item = AttributeProto>,
    ) -> Result<()> {
        let output = self.result(kind, out);
        self.operator(kind, inputs, output, attributes);
        Ok(())
    }

    /// Adds an operator by names.
    pub fn operator(
        &mut self,
        kind: &str,
        input: Vec<String>,
        output: String,
        attributes: impl IntoIterator<Item = AttributeProto>,
    ) {
        self.proto.node.push(NodeProto {
            input,
            name: format!("node_{output}"),
            output: vec![output],
            op_type: kind.into(),
            attribute: attributes.into_iter().collect(),
        });
    }

    /// The name of what an operator gives.
    fn result(&mut self, kind: &str, out: Var) -> String {
        let name = || format!("{}_{}", kind.to_lowercase(), self.proto.node.len());
        self.names.entry(out).or_insert_with(name).clone()
    }

    /// The name of an input; weights and statistics become initialisers when they are first asked for.
    fn name(&mut self, v: Var) -> Result<String> {
        let constant = self.tape.constant_value(v);
        let name = match (self.names.get(&v), constant) {
            (Some(name), _) => name.clone(),
            (None, Some(value)) => match self.fixed.get(&value.as_slice::<f32>().as_ptr()) {
                Some(name) => name.clone(),
                None => return Err(Error::shape("onnx", "a constant has no name".to_owned())),
            },
            (None, None) => return Err(Error::shape("onnx", "half an operator has no name".to_owned())),
        };
        if let Some(value) = constant.filter(|value| !value.is_phantom()) {
            self.constant(&name, value.shape().dims(), FLOAT, value.as_slice::<f32>());
        }
        Ok(name)
    }

    /// Adds an initialiser, unless there is one of this name.
    pub fn constant<T: bytemuck::NoUninit>(
        &mut self,
        name: &str,
        dims: &[usize],
        data_type: i32,
        values: &[T],
    ) -> String {
        if !self.proto.initializer.iter().any(|tensor| tensor.name == name) {
            self.proto.initializer.push(TensorProto {
                dims: dims.iter().map(|&d| d as i64).collect(),
                data_type,
                name: name.into(),
                raw_data: bytemuck::cast_slice(values).to_vec(),
            });
        }
        name.into()
    }
}

fn slide(window: &Window, dilated: bool) -> Vec<AttributeProto> {
    let [above, left] = window.padding;
    let mut all = vec![
        AttributeProto::ints("kernel_shape", window.kernel),
        AttributeProto::ints("strides", window.stride),
        AttributeProto::ints("pads", [above, left, above, left]),
    ];
    if dilated {
        all.push(AttributeProto::ints("dilations", window.dilation));
    }
    all
}

fn untranslated(op: &dyn Op) -> Error {
    Error::shape(op.name(), "has no translation to ONNX here".to_owned())
}
