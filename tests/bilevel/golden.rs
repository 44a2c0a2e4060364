//! Golden files computed by PyTorch: every key of each, in both precisions and on both paths.

use oche::device::Device;
use oche::run::parity;
use oche::tensor::DType;
use std::path::PathBuf;

#[test]
fn golden_files_are_reproduced() {
    let Some(data) = std::env::var_os("OCHE_DATA") else {
        println!("skipped: OCHE_DATA is not set, so there is no folder of golden files beside it");
        return;
    };
    let folder = PathBuf::from(data).join("..").join("golden");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: there is no folder {}", folder.display());
        return;
    };
    let paths = entries.filter_map(|e| e.ok().map(|e| e.path()));
    let files: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
    assert!(!files.is_empty(), "{} has no golden file", folder.display());
    let ways = [(DType::F64, true), (DType::F64, false), (DType::F32, true), (DType::F32, false)];
    for (file, (dtype, fused)) in files.iter().flat_map(|f| ways.map(|way| (f, way))) {
        let rows = parity::compare(file, dtype, fused, &Device::Cpu).unwrap();
        assert!(rows.len() >= 10, "{}: {} groups", file.display(), rows.len());
        for row in rows {
            assert!(row.passes(), "{}, {dtype:?}, fused {fused}: {row:?}", file.display());
        }
    }
}
