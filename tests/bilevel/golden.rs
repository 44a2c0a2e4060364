//! Golden files computed by PyTorch: every key of each, in both precisions and on both paths.

use oche::device::Device;
use oche::run::parity;
use oche::tensor::DType;
use std::path::PathBuf;

#[test]
fn golden_files_are_reproduced() {
    let mut files = vec![PathBuf::from("tests/golden/cnn_c2_l3_8px.safetensors")];
    // larger ones, beside real data
    let more = std::env::var_os("OCHE_DATA").map(|data| PathBuf::from(data).join("../golden"));
    if let Some(entries) = more.and_then(|folder| std::fs::read_dir(folder).ok()) {
        let paths = entries.filter_map(|e| e.ok().map(|e| e.path()));
        files.extend(paths.filter(|p| p.extension().is_some_and(|e| e == "safetensors")));
    }
    let ways = [(DType::F64, true), (DType::F64, false), (DType::F32, true), (DType::F32, false)];
    for (file, (dtype, fused)) in files.iter().flat_map(|f| ways.map(|way| (f, way))) {
        let rows = parity::compare(file, dtype, fused, &Device::Cpu).unwrap();
        assert!(rows.len() >= 10, "{}: {} groups", file.display(), rows.len());
        for row in rows {
            assert!(row.passes(), "{}, {dtype:?}, fused {fused}: {row:?}", file.display());
        }
    }
}
