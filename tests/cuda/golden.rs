//! PyTorch's numbers on the device: the smallest golden file, every key.

use super::device;
use oche::run::parity;
use oche::tensor::DType;
use std::path::Path;

#[test]
fn emulated_devices_reproduce_a_golden_file() {
    let file = Path::new("tests/golden/cnn_c2_l3_8px.safetensors");
    let (device, _turn) = device();
    for fused in [true, false] {
        let rows = parity::compare(file, DType::F32, fused, &device).unwrap();
        let wrong: Vec<_> = rows.iter().filter(|row| !row.passes()).collect();
        assert!(rows.len() > 5 && wrong.is_empty(), "fused {fused}: {wrong:?}");
    }
}
