//! Comparison with golden files: small problems with PyTorch's answers, computed here and compared key by key.
//!
//! A file holds `weight/*`, `momentum/*`, `alpha/*`, `train/*`, `valid/*` and what must come out, `expect/*`, in
//! PyTorch's layouts and under the published state_dict names; its metadata holds the sizes and settings.

use super::image_order::channels_last;
use super::tensor_file::safetensors_read;
use crate::data::loader::Batch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Adam, RunningStats, Sgd};
use crate::search::{Hyper, Order, Pass, Searcher, Want};
use crate::space::Space;
use crate::space::Supernet;
use crate::space::cnn::{CnnConfig, CnnSupernet};
use crate::tape::ParamSet;
use crate::tensor::{DType, Shape, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The comparison of one group of keys, such as all of `grad_weight/*`.
#[derive(Clone, Debug)]
pub struct Row {
    pub group: String,
    /// Tensors compared.
    pub tensors: usize,
    /// Largest difference, relative to the largest element of the tensor.
    pub error: f64,
    pub tolerance: f64,
    /// The tensor with the largest error.
    pub worst: String,
}

impl Row {
    pub fn passes(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Largest allowed relative error of a group.
///
/// The finite difference divides a small difference by e, so it is looser. In `f32` values agree to some units of 1e-6;
/// gradients are given more, since a relu or a maximum within rounding of its kink may tip, and the Hessian terms more
/// again, since they divide such a jump by e.
fn tolerance(group: &str, dtype: DType) -> f64 {
    match (dtype, group) {
        (DType::F64, "arch_grad_second") => 1e-6,
        (DType::F64, _) => 1e-9,
        (_, "arch_grad_second" | "arch_grad_exact") => 1e-2,
        (_, group) if group.contains("grad") => 1e-3,
        _ => 1e-4,
    }
}

/// |a - b| in the maximum norm over that of b, or over a share of the group's if b is smaller than that: what is
/// exactly zero in one program is a rounding error in the other (1e-6 of the group in `f64`, 1e-3 in `f32`).
fn error(a: &[f64], b: &[f64], group: f64, dtype: DType) -> f64 {
    let worse = |m: f64, (a, b): (&f64, &f64)| if a.is_nan() { f64::INFINITY } else { m.max((a - b).abs()) };
    let difference = a.iter().zip(b).fold(0.0, worse);
    let share = if dtype == DType::F64 { 1e-6 } else { 1e-3 };
    let scale = max_norm(b).max(share * group);
    if difference == 0.0 { 0.0 } else { difference / scale }
}

fn max_norm(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m: f64, x| m.max(x.abs()))
}

struct Golden<'a> {
    path: &'a Path,
    tensors: BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
    dtype: DType,
    fused: bool,
    device: Device,
}

impl Golden<'_> {
    fn setting<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        let text = self.metadata.get(key).ok_or_else(|| self.wrong(format!("its metadata has no {key}")))?;
        text.parse()
            .map_err(|_| self.wrong(format!("its metadata says {key} = {text}, which is no such number")))
    }
    fn wrong(&self, what: String) -> Error {
        Error::data(self.path, format!("not a golden file of this kind: {what}"))
    }
    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| self.wrong(format!("it has no tensor {name}")))
    }
    /// As the element type of the comparison.
    fn real(&self, name: &str, shape: Shape) -> Result<Tensor> {
        let tensor = self.tensor(name)?;
        if *tensor.shape() != shape {
            return Err(self.wrong(format!("tensor {name} has shape {} instead of {shape}", tensor.shape())));
        }
        tensor.to_dtype(self.dtype)
    }
    fn batch(&self, half: &str) -> Result<Batch> {
        let images = self.tensor(&format!("{half}/images"))?;
        let labels = self.tensor(&format!("{half}/labels"))?;
        match (images.shape().nhwc(), labels.dtype()) {
            (Some(_), DType::U32) => {
                Batch { images: channels_last(images, DType::F64)?, labels: labels.clone() }
                    .on(&self.device, self.dtype)
            }
            _ => Err(self.wrong(format!("{half} images must be (N, C, H, W) and labels integers"))),
        }
    }
    fn config(&self) -> Result<CnnConfig> {
        let images = self.tensor("train/images")?.shape().dims().get(1).copied().unwrap_or(0);
        let candidates: String = self.setting("candidates")?;
        Ok(CnnConfig {
            channels: self.setting("channels")?,
            cells: self.setting("layers")?,
            space: Space::published(self.setting("nodes")?, &candidates.split(',').collect::<Vec<_>>())?,
            classes: self.setting("classes")?,
            image_channels: images,
            stem_multiplier: self.setting("stem_multiplier")?,
            fused: self.fused,
            ..CnnConfig::default()
        })
    }
    fn hyper(&self) -> Result<Hyper> {
        Ok(Hyper {
            sgd: Sgd { momentum: self.setting("momentum")?, weight_decay: self.setting("weight_decay")? },
            clip: self.setting("grad_clip")?,
            adam: Adam {
                learning_rate: self.setting("arch_lr")?,
                beta1: self.setting("arch_beta1")?,
                beta2: self.setting("arch_beta2")?,
                weight_decay: self.setting("arch_weight_decay")?,
                ..Hyper::default().adam
            },
            radius: self.setting("epsilon")?,
            ..Hyper::default()
        })
    }
    /// A search at the file's point.
    fn searcher(&self) -> Result<Searcher> {
        let net = CnnSupernet::new(&self.config()?)?;
        let layout = net.layout().clone();
        let mut searcher = Searcher::new(Box::new(net), self.hyper()?, 0, self.dtype)?;
        let flat = |prefix: &str| -> Result<Tensor> {
            let parts: Result<Vec<Tensor>> =
                layout.entries.iter().map(|e| self.real(&format!("{prefix}/{}", e.name), e.shape)).collect();
            ParamSet::gather(&layout, &parts?)
        };
        searcher.weights.flat = flat("weight")?;
        if self.tensors.keys().any(|k| k.starts_with("momentum/")) {
            searcher.momentum = flat("momentum")?;
        }
        let kinds = searcher.net().kinds().to_vec();
        for (alpha, kind) in searcher.alphas.iter_mut().zip(kinds) {
            *alpha = self.real(&format!("alpha/{}", kind.name), *alpha.shape())?;
        }
        Ok(searcher)
    }
}

/// Computes every `expect/*` key of the file at `path` in `dtype` (`F32` or `F64`, which devices do not have), on the
/// fused path or on the reference path; one row a group.
pub fn compare(path: &Path, dtype: DType, fused: bool, device: &Device) -> Result<Vec<Row>> {
    let (tensors, metadata) = safetensors_read(path)?;
    let golden = Golden {
        path,
        tensors: tensors.into_iter().collect(),
        metadata,
        dtype,
        fused,
        device: device.clone(),
    };
    let wants: Vec<&str> = golden.tensors.keys().filter_map(|k| k.strip_prefix("expect/")).collect();
    if wants.is_empty() {
        return Err(golden.wrong("it has no expect/* tensors".into()));
    }
    let exact = wants.iter().any(|w| w.starts_with("arch_grad_exact/"));
    let computed = compute(&golden, exact)?;
    let mut rows: Vec<Row> = Vec::new();
    for group in GROUPS {
        let keys: Vec<&&str> = wants.iter().filter(|w| w.split('/').next() == Some(group)).collect();
        let values = keys
            .iter()
            .map(|key| Ok((golden.tensor(&format!("expect/{key}"))?.to_f64(), computed.get(**key))));
        let values: Vec<(Vec<f64>, Option<&Vec<f64>>)> = values.collect::<Result<_>>()?;
        let scale = values.iter().map(|(b, _)| max_norm(b)).fold(0.0, f64::max);
        let mut row = Row {
            group: group.into(),
            tensors: keys.len(),
            error: 0.0,
            tolerance: tolerance(group, dtype),
            worst: String::new(),
        };
        for (key, (b, a)) in keys.iter().zip(&values) {
            let e = match a {
                Some(a) if a.len() == b.len() => error(a, b, scale, dtype),
                _ => f64::INFINITY, // we compute no such tensor
            };
            if e >= row.error {
                (row.error, row.worst) = (e, key.to_string());
            }
        }
        if row.tensors > 0 {
            rows.push(row);
        }
    }
    let unknown = wants.iter().filter(|w| !GROUPS.contains(&w.split('/').next().unwrap_or_default()));
    for key in unknown {
        let (group, worst) = (key.to_string(), key.to_string());
        rows.push(Row { group, tensors: 1, error: f64::INFINITY, tolerance: 0.0, worst });
    }
    Ok(rows)
}

/// Groups of keys, in the order in which they are computed.
const GROUPS: [&str; 12] = [
    "train_logits",
    "running_mean",
    "running_var",
    "eval_logits",
    "train_loss",
    "grad_weight",
    "grad_alpha",
    "arch_grad_first",
    "arch_grad_second",
    "arch_grad_exact",
    "step_alpha",
    "step_weight",
];

/// Every key without its `expect/`, and what this program gives for it, in PyTorch's layout.
fn compute(golden: &Golden, exact: bool) -> Result<HashMap<String, Vec<f64>>> {
    let mut searcher = golden.searcher()?.on(&golden.device)?;
    let (train, valid) = (golden.batch("train")?, golden.batch("valid")?);
    let learning_rate: f64 = golden.setting("lr")?;
    let kinds: Vec<String> = searcher.net().kinds().iter().map(|k| k.name.clone()).collect();
    let layout = searcher.weights.layout.clone();
    let mut out = HashMap::new();
    let weights = |out: &mut HashMap<_, _>, group: &str, flat: &Tensor| -> Result<()> {
        let flat = flat.to_host()?;
        for e in &layout.entries {
            out.insert(format!("{group}/{}", e.name), flat.view(e.offset, e.shape).to_f64());
        }
        Ok(())
    };
    let alphas = |out: &mut HashMap<_, _>, group: &str, values: &[Tensor]| -> Result<()> {
        for (kind, value) in kinds.iter().zip(values) {
            out.insert(format!("{group}/{kind}"), value.to_host()?.to_f64());
        }
        Ok(())
    };

    let mut running = RunningStats::new(searcher.net().norms(), golden.dtype).to_device(&golden.device)?;
    let at = (&searcher.weights.flat, &searcher.alphas[..]);
    let both = Want { weights: true, alphas: true };
    let pass = Pass::run(searcher.net(), at, &train, &mut running, true, both)?;
    out.insert("train_logits".into(), pass.logits.to_host()?.to_f64());
    out.insert("train_loss".into(), vec![pass.loss()?]);
    weights(&mut out, "grad_weight", &pass.weights.unwrap_or_else(|| searcher.momentum.clone()))?;
    alphas(&mut out, "grad_alpha", &pass.alphas.unwrap_or_default())?;
    let moved = running.to_device(&Device::Cpu)?;
    for (i, name) in moved.names().enumerate() {
        let [mean, variance] = moved.get(i);
        out.insert(format!("running_mean/{name}"), mean.to_f64());
        out.insert(format!("running_var/{name}"), variance.to_f64());
    }
    let evaluated = Pass::evaluate(searcher.net(), at, &valid, &mut running)?;
    out.insert("eval_logits".into(), evaluated.logits.to_host()?.to_f64());

    for (group, order) in [("first", Order::First), ("second", Order::Second), ("exact", Order::Exact)] {
        if order != Order::Exact || exact {
            let (gradient, _) = searcher.arch_gradient(order, &train, &valid, learning_rate)?;
            alphas(&mut out, &format!("arch_grad_{group}"), &gradient)?;
        }
    }
    searcher.step(Order::Second, &train, &valid, learning_rate)?;
    alphas(&mut out, "step_alpha", &searcher.alphas)?;
    weights(&mut out, "step_weight", &searcher.weights.flat)?;
    Ok(out)
}
