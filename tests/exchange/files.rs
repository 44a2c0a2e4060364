//! Safetensors files as their bytes, by another reader than the program's.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of tests/golden.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Types, shapes and bytes by name.
#[derive(Debug, PartialEq)]
pub struct Stored(pub BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Stored {
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let one =
            |(name, t): (String, TensorView)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()));
        Self(file.tensors().into_iter().map(one).collect())
    }
}

/// A tensor to be changed.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Entry {
    /// Makes its first number, if it holds F32, NaN.
    pub fn spoil(&mut self) {
        self.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    /// To another type, if it holds F32.
    pub fn convert(&mut self, to: &str) {
        if self.dtype != Dtype::F32 {
            return;
        }
        let values = self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (self.dtype, self.bytes) = match to {
            "F64" => (Dtype::F64, values.flat_map(|x| f64::from(x).to_le_bytes()).collect()),
            "F16" => (Dtype::F16, values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect()),
            "BF16" => (Dtype::BF16, values.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect()),
            other => panic!("{other}"),
        };
    }
}

/// The auxiliary head has too many weights to store: as `fill` of scripts/torch_networks.py, which computed the golden
/// files, gives every weight and statistic a value by its name.
pub fn fill(all: &mut [Entry]) {
    for t in all.iter_mut().filter(|t| t.dtype == Dtype::F32) {
        let fan = (t.shape[1..].iter().product::<usize>()) as f64;
        let value = |x: f64| match t.shape.len() {
            1 if t.name.ends_with("running_var") || t.name.ends_with("weight") => x + 0.5,
            1 => x - 0.5,
            _ => (2.0 * x - 1.0) * (3.0 / fan).sqrt(),
        };
        let values = spread(&t.name, t.bytes.len() / 4).map(|x| value(x) as f32);
        t.bytes = values.flat_map(f32::to_le_bytes).collect();
    }
}

/// `count` numbers from 0 to 1 that follow from a name alone.
pub fn spread(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let start = crc32fast::hash(name.as_bytes());
    (0..count as u32).map(move |i| {
        let x = start.wrapping_add(i.wrapping_mul(2654435761));
        let x = (x ^ x >> 16).wrapping_mul(73244475);
        f64::from((x ^ x >> 16) >> 8) / f64::from(1 << 24)
    })
}

/// Writes the file `from` to `to`, changed.
pub fn rewrite(from: &Path, to: &Path, change: impl Fn(&mut Vec<Entry>)) {
    let mut all: Vec<Entry> = (Stored::read(from).0.into_iter())
        .map(|(name, (dtype, shape, bytes))| Entry { name, dtype, shape, bytes })
        .collect();
    change(&mut all);
    let views =
        all.iter().map(|t| (t.name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}
