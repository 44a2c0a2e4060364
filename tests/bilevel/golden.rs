//! Golden files computed by PyTorch: every key of each, in both precisions.

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
    for (file, dtype) in files.iter().flat_map(|f| [(f, DType::F64), (f, DType::F32)]) {
        let rows = parity::compare(file, dtype).unwrap();
        assert!(rows.len() >= 10, "{}: {} groups", file.display(), rows.len());
        for row in rows {
            assert!(row.passes(), "{}, {dtype:?}: {row:?}", file.display());
        }
    }
}
