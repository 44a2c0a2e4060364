//! A found network as an ONNX file: what its own forward records in evaluation mode, operation by operation, so that
//! there is no second description of it.

mod graph;
pub mod proto;

use super::folder::write_atomic;
use super::loaded::Found;
use super::state_dict::{not_a_checkpoint, plainly};
use crate::error::{Error, Result};
use crate::nn::{Context, NormMode};
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Tensor};
use graph::Graph;
use prost::Message;
use proto::{Extent, FLOAT, GraphProto, ModelProto, OperatorSetId, StringEntry, ValueInfo};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Version of the operators, and that of the format which goes with it.
const OPERATORS: i64 = 17;
const FORMAT: i64 = 8;
const INPUT: &str = "input";
const LOGITS: &str = "logits";

/// Mean and deviation a channel.
pub type Normalisation = [Vec<f32>; 2];

/// Replaces the file at `path` by the network: `input` (batch, channels, height, width) to `logits` (batch, classes), in
/// evaluation mode, without the auxiliary head. `input` is normalised as in training or, with a `normalisation`, which
/// becomes part of the network, from 0 to 1.
///
/// # Errors
/// [`Error::Config`] for a normalisation of other channels than the images', or the name of a run's checkpoint;
/// [`Error::Io`] if the file cannot be written.
pub fn write(path: &Path, found: &Found, normalisation: Option<&Normalisation>) -> Result<()> {
    not_a_checkpoint("--onnx", path)?;
    let model = model(found, normalisation)?;
    write_atomic(path, &model.encode_to_vec()).map_err(plainly)
}

fn model(found: &Found, normalisation: Option<&Normalisation>) -> Result<ModelProto> {
    let config = found.config;
    let input = match normalisation {
        Some(_) => "from 0 to 1",
        None => "normalised as in training: (x / 255 - mean) / deviation of its channel",
    };
    let properties = [
        ("genotype", found.genotype.to_string()),
        ("network", format!("{:?}", config.kind).to_lowercase()),
        ("channels", config.channels.to_string()),
        ("cells", config.cells.to_string()),
        ("input", input.to_owned()),
        ("image_size", format!("height and width are multiples of {}", config.kind.multiple())),
    ];
    let entry = |(key, value): (&str, String)| StringEntry { key: key.into(), value };
    Ok(ModelProto {
        ir_version: FORMAT,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(network(found, normalisation)?),
        opset_import: vec![OperatorSetId { domain: String::new(), version: OPERATORS }],
        metadata_props: properties.into_iter().map(entry).collect(),
    })
}

/// Runs the network without computing anything, and translates what was recorded.
fn network(found: &Found, normalisation: Option<&Normalisation>) -> Result<GraphProto> {
    let (mut tape, mut running) = (Tape::dry_inference(), found.running.clone());
    let weights = found.weights.bind(&mut tape, false);
    let side = found.config.kind.multiple(); // any size gives the same operations
    let channels = found.config.image_channels;
    let images = Tensor::phantom([1, side, side, channels], DType::F32, &Arc::default());
    let images = tape.constant(images);
    let mode = NormMode::Running;
    let mut cx = Context { tape: &mut tape, weights: &weights, mode, fused: false, running: &mut running };
    let logits = found.network.forward(&mut cx, images)?;

    let entries = &found.weights.layout.entries;
    let mut names: HashMap<Var, String> =
        weights.iter().zip(entries).map(|(&weight, entry)| (weight, entry.name.clone())).collect();
    let scaled = if normalisation.is_some() { "normalised" } else { INPUT };
    names.extend([(images, scaled.to_owned()), (logits, LOGITS.to_owned())]);
    let mut graph = Graph::new(&tape, names);
    for (i, name) in found.running.names().enumerate() {
        let [mean, variance] = found.running.get(i);
        graph.name_fixed(&mean, format!("{name}.running_mean"));
        graph.name_fixed(&variance, format!("{name}.running_var"));
    }
    if let Some(numbers) = normalisation {
        normalise(&mut graph, numbers, channels, scaled)?;
    }
    graph.add_operations()?;
    let named = |name: &str| Extent::Name(name.into());
    let sized = |size: usize| Extent::Value(size as i64);
    let image = vec![named("batch"), sized(channels), named("height"), named("width")];
    let mut proto = graph.proto;
    proto.name = "network".into();
    proto.input = vec![ValueInfo::floats(INPUT, image)];
    proto.output = vec![ValueInfo::floats(LOGITS, vec![named("batch"), sized(found.config.classes)])];
    Ok(proto)
}

/// `to` = (input - mean) / deviation
fn normalise(graph: &mut Graph, numbers: &Normalisation, channels: usize, to: &str) -> Result<()> {
    for (flag, numbers) in ["--mean", "--deviation"].iter().zip(numbers) {
        if numbers.len() != channels || numbers.iter().any(|x| !x.is_finite()) {
            let what =
                format!("must be {channels} numbers, one a channel of the images, separated by commas");
            return Err(Error::config(*flag, what));
        }
    }
    let [mean, deviation] = numbers;
    if deviation.iter().any(|&x| x <= 0.0) {
        return Err(Error::config("--deviation", "must be above 0"));
    }
    let dims = [1, channels, 1, 1];
    let mean = graph.constant("mean", &dims, FLOAT, mean);
    let deviation = graph.constant("deviation", &dims, FLOAT, deviation);
    graph.operator("Sub", vec![INPUT.into(), mean], "centred".into(), []);
    graph.operator("Div", vec!["centred".into(), deviation], to.into(), []);
    Ok(())
}
