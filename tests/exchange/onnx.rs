//! ONNX files decoded again: a graph in order whose constants are the weights. That a runtime computes it as the program
//! does is the business of scripts/onnx-check.

use super::files::{Stored, golden};
use super::found;
use oche::nn::RunningStats;
use oche::run::loaded::Found;
use oche::run::onnx::proto::{Extent, FLOAT, GraphProto, ModelProto, NodeProto, ValueInfo};
use oche::run::onnx::write;
use oche::space::network::{Macro, Network, NetworkConfig};
use oche::space::zoo;
use oche::tape::ParamSet;
use oche::tensor::DType;
use prost::Message;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

fn read(path: &Path) -> ModelProto {
    ModelProto::decode(&fs::read(path).unwrap()[..]).unwrap()
}

/// How often each operator occurs.
fn operators(graph: &GraphProto) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    graph.node.iter().for_each(|node| *counts.entry(node.op_type.as_str()).or_default() += 1);
    counts
}

fn ints(node: &NodeProto, name: &str) -> Vec<i64> {
    let found = node.attribute.iter().find(|a| a.name == name);
    found.map(|a| if a.ints.is_empty() { vec![a.i.unwrap()] } else { a.ints.clone() }).unwrap_or_default()
}

fn extents(value: &ValueInfo) -> Vec<Extent> {
    let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    assert_eq!(tensor.elem_type, FLOAT);
    tensor.shape.as_ref().unwrap().dim.iter().map(|d| d.value.clone().unwrap()).collect()
}

/// That every name is made once, before it is used, and used.
fn assert_whole(graph: &GraphProto) {
    let mut made: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(made.len(), graph.initializer.len());
    made.insert("input");
    for node in &graph.node {
        for input in &node.input {
            assert!(made.contains(input.as_str()), "{} reads {input} before it is made", node.name);
        }
        assert!(node.output.iter().all(|output| made.insert(output)), "{} is made twice", node.name);
    }
    let used: HashSet<&str> = graph.node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
    let unused: Vec<&&str> = made.iter().filter(|name| !used.contains(**name)).collect();
    assert_eq!(unused, [&"logits"]);
    assert_eq!(graph.node.last().unwrap().op_type, "Gemm");
}

#[test]
fn a_graph_is_whole_and_its_constants_are_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("network.onnx");
    for name in super::NAMES {
        let weights = golden(&format!("{name}.safetensors"));
        let network = found(weights.clone(), name).unwrap();
        write(&path, &network, None).unwrap();
        let model = read(&path);
        assert_eq!((model.ir_version, model.producer_name.as_str()), (8, "oche"));
        assert_eq!(model.producer_version, env!("CARGO_PKG_VERSION"));
        assert_eq!((model.opset_import.len(), model.opset_import[0].version), (1, 17));
        let cells = model.metadata_props.iter().find(|p| p.key == "genotype").unwrap();
        assert_eq!(cells.value, network.genotype.to_string());
        let graph = model.graph.unwrap();
        assert_whole(&graph);
        let named = |name: &str| Extent::Name(name.into());
        let image = [named("batch"), Extent::Value(3), named("height"), named("width")];
        assert_eq!(extents(&graph.input[0]), image);
        assert_eq!(extents(&graph.output[0]), [named("batch"), Extent::Value(4)]);

        // every tensor of the state_dict but the counters, in its place and with its bytes
        let mut stored = Stored::read(&weights).0;
        stored.retain(|name, _| !name.ends_with("num_batches_tracked"));
        for constant in &graph.initializer {
            let Some((_, shape, bytes)) = stored.remove(&constant.name) else {
                assert!(constant.name.starts_with("pixels_") || constant.name.starts_with("factor_"));
                continue;
            };
            let dims: Vec<usize> = constant.dims.iter().map(|&d| d as usize).collect();
            assert_eq!((dims, &constant.raw_data), (shape, &bytes), "{}", constant.name);
        }
        assert!(stored.is_empty(), "{name}: {:?} are not in the graph", stored.keys());
    }
}

#[test]
fn operators_are_those_of_the_cells() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("network.onnx");
    let network = found(golden("cifar.safetensors"), "cifar").unwrap();
    write(&path, &network, None).unwrap();
    let graph = read(&path).graph.unwrap();
    let counts = operators(&graph);
    // one normal cell and two reductions, the second behind the first
    assert_eq!(counts["BatchNormalization"], network.network.norms().len());
    assert_eq!((counts["MaxPool"], counts["AveragePool"]), (1 + 2, 1 + 2));
    assert_eq!(counts["Mul"], 2); // nodes of `none` alone
    assert_eq!((counts["Gemm"], counts["GlobalAveragePool"], counts["Flatten"]), (1, 1, 1));
    let depthwise = graph.node.iter().filter(|n| n.op_type == "Conv" && ints(n, "group") != [1]);
    assert_eq!(depthwise.count(), (2 + 2 + 1) + 2 * (1 + 2));
    let row = graph.node.iter().find(|n| ints(n, "kernel_shape") == [1, 7]).unwrap();
    assert_eq!((ints(row, "pads"), ints(row, "strides")), (vec![0, 3, 0, 3], vec![1, 1]));
    let dilated = graph.node.iter().find(|n| ints(n, "dilations") == [2, 2]).unwrap();
    assert_eq!(ints(dilated, "pads"), [2, 2, 2, 2]);

    let normalisation = [vec![0.5, 0.25, 0.125], vec![0.25; 3]];
    write(&path, &network, Some(&normalisation)).unwrap();
    let folded = read(&path).graph.unwrap();
    assert_whole(&folded);
    let first: Vec<&str> = folded.node[..2].iter().map(|n| n.op_type.as_str()).collect();
    assert_eq!((first, folded.node.len()), (vec!["Sub", "Div"], graph.node.len() + 2));
    assert_eq!(folded.node[0].input, ["input", "mean"]);
}

#[test]
fn every_published_cell_has_a_translation_without_its_auxiliary_head() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.onnx");
    for (name, genotype) in zoo::all() {
        for kind in [Macro::Cifar, Macro::ImageNet] {
            let small = NetworkConfig { channels: 2, cells: 3, auxiliary: true, ..NetworkConfig::default() };
            let config = NetworkConfig { kind, ..small };
            let network = Network::new(&genotype, config).unwrap();
            let weights = ParamSet::init(network.layout(), 0, DType::F32).unwrap();
            let running = RunningStats::new(network.norms(), DType::F32);
            let genotype = genotype.clone();
            let found = Found { network, config, genotype, weights, running, settings: None };
            write(&path, &found, None).unwrap();
            let graph = read(&path).graph.unwrap();
            assert_whole(&graph);
            let auxiliary = |name: &str| name.starts_with("auxiliary_head");
            assert!(graph.initializer.iter().all(|t| !auxiliary(&t.name)), "{name}");
            assert!(found.weights.layout.entries.iter().any(|e| auxiliary(&e.name)));
        }
    }
}
