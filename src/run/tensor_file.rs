//! safetensors files, tensor by tensor: no second copy of the data is ever in memory.

use super::folder;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The format's own limit, bytes.
const MAX_HEADER: u64 = 100_000_000;
const LENGTH: usize = size_of::<u64>();

/// Tensors under the names that a file gives them.
pub type NamedTensors = Vec<(String, Tensor)>;

/// What one entry of a file holds.
pub(super) enum Content {
    Tensor(Tensor),
    /// `I64` has no tensor type here: labels and counters.
    Integers(Shape, Vec<i64>),
}

/// Name, type, extents and bytes of one entry to write.
pub(super) struct Entry<'a> {
    pub name: &'a str,
    pub dtype: Dtype,
    pub dims: &'a [usize],
    pub bytes: &'a [u8],
}

/// Tensors (in the order of the file) and metadata of the safetensors file at `path`, from whatever program.
///
/// `F32`, `F64`, `BF16`, `U8`, `U32` as they are; `F16` becomes `F32`, exactly; `I64` becomes `U32` and must fit. Fails
/// with [`Error::Data`] on anything else, on more than four dimensions and on a file that is not whole.
pub fn safetensors_read(path: &Path) -> Result<(NamedTensors, HashMap<String, String>)> {
    let mut reader = Reader::open(path)?;
    let mut tensors = Vec::new();
    while let Some((name, content)) = reader.next()? {
        let tensor = match content {
            Content::Tensor(tensor) => tensor,
            Content::Integers(shape, values) => {
                let small: Option<Vec<u32>> = values.iter().map(|&v| u32::try_from(v).ok()).collect();
                let what = || {
                    format!("tensor {name} holds integers outside 0..2^32, which this program does not take")
                };
                Tensor::from_slice(shape, &small.ok_or_else(|| Error::data(path, what()))?)?
            }
        };
        tensors.push((name, tensor));
    }
    let metadata = reader.metadata.metadata().clone().unwrap_or_default();
    Ok((tensors, metadata))
}

/// A file whose header has been read.
pub(super) struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    names: std::vec::IntoIter<String>,
    pub metadata: Metadata,
    /// The header as it stands in the file, with the length before it.
    pub raw_header: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub fn open(path: &'a Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let info = file.metadata().map_err(Error::io("read", path))?;
        let wrong = |why: String| {
            // the library lists all it would have taken: what it found says enough
            let why = why.split(", expected").next().unwrap_or_default();
            Error::data(path, format!("not a safetensors file, or a damaged one ({why})"))
        };
        if !info.is_file() {
            return Err(wrong("not a plain file".into()));
        }
        let mut raw_header = vec![0; LENGTH];
        file.read_exact(&mut raw_header).map_err(|_| wrong("shorter than 8 bytes".into()))?;
        let length = raw_header.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        if length > MAX_HEADER.min(info.len() - LENGTH as u64) {
            return Err(wrong("its header would not fit into it".into()));
        }
        raw_header.resize(LENGTH + length as usize, 0);
        file.read_exact(&mut raw_header[LENGTH..]).map_err(Error::io("read", path))?;
        let metadata: Metadata = serde_json::from_slice(&raw_header[LENGTH..])
            .map_err(|e| wrong(format!("header: {}", e.to_string().replace('\n', " "))))?;
        let expected = LENGTH as u64 + length + metadata.data_len() as u64;
        if expected != info.len() {
            return Err(wrong(format!("{} bytes instead of {expected}", info.len())));
        }
        let metadata = in_order(&metadata).map_err(|e| wrong(e.to_string()))?;
        let names = metadata.offset_keys().into_iter();
        Ok(Self { path, file: BufReader::new(file), names, metadata, raw_header })
    }

    /// The next entry of the file, or `None` behind the last.
    pub fn next(&mut self) -> Result<Option<(String, Content)>> {
        let Some(name) = self.names.next() else { return Ok(None) };
        let wrong = |what: String| Error::data(self.path, format!("tensor {name} {what}"));
        let Some(info) = self.metadata.info(&name) else { return Err(wrong("has no description".into())) };
        if info.shape.len() > 4 {
            return Err(wrong(format!("has {} dimensions; at most 4 are supported", info.shape.len())));
        }
        let shape = Shape::from(&info.shape[..]);
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::BF16 => DType::BF16,
            Dtype::U8 => DType::U8,
            Dtype::U32 => DType::U32,
            Dtype::F16 => {
                let mut values = vec![half::f16::ZERO; shape.count()];
                let bytes = bytemuck::cast_slice_mut(&mut values);
                self.file.read_exact(bytes).map_err(Error::io("read", self.path))?;
                let values: Vec<f32> = values.into_iter().map(half::f16::to_f32).collect();
                return Ok(Some((name, Content::Tensor(Tensor::from_slice(shape, &values)?))));
            }
            Dtype::I64 => {
                let mut values = vec![0i64; shape.count()];
                let bytes = bytemuck::cast_slice_mut(&mut values);
                self.file.read_exact(bytes).map_err(Error::io("read", self.path))?;
                return Ok(Some((name, Content::Integers(shape, values))));
            }
            other => {
                let known = "F32, F64, F16, BF16, U8, U32 and I64";
                return Err(wrong(format!("is of type {other}; {known} are supported")));
            }
        };
        let mut tensor = Tensor::scratch(shape, dtype);
        self.file.read_exact(bytes_mut(&mut tensor)).map_err(Error::io("read", self.path))?;
        Ok(Some((name, Content::Tensor(tensor))))
    }
}

/// `metadata` with its entries in one order: empty tensors share their offsets, and the crate's order of those is
/// that of a hash table.
fn in_order(metadata: &Metadata) -> Result<Metadata, SafeTensorError> {
    let mut infos: Vec<(String, TensorInfo)> =
        metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
    infos.sort_by(|(a_name, a), (b_name, b)| {
        a.data_offsets.cmp(&b.data_offsets).then(b.dtype.cmp(&a.dtype)).then(a_name.cmp(b_name))
    });
    Metadata::new(metadata.metadata().clone(), infos)
}

/// The header for `entries` in this order: length, JSON, padding to 8 bytes. `why` it cannot be made otherwise.
fn header(entries: &[Entry], metadata: HashMap<String, String>) -> Result<Vec<u8>, String> {
    let mut offset = 0;
    let mut infos: Vec<(String, TensorInfo)> = Vec::with_capacity(entries.len());
    for entry in entries {
        let data_offsets = (offset, offset + entry.bytes.len());
        offset = data_offsets.1;
        infos.push((
            entry.name.to_owned(),
            TensorInfo { dtype: entry.dtype, shape: entry.dims.to_vec(), data_offsets },
        ));
    }
    encode(&Metadata::new(Some(metadata), infos).map_err(|e| e.to_string())?)
}

/// The header as bytes: of one `Metadata` there is only this one form.
pub(super) fn encode(metadata: &Metadata) -> Result<Vec<u8>, String> {
    let mut json = serde_json::to_vec(metadata).map_err(|e| e.to_string())?;
    json.resize(json.len().next_multiple_of(LENGTH), b' ');
    if json.len() as u64 > MAX_HEADER {
        return Err(format!("a header of {} bytes is over the format's limit", json.len()));
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

/// Writes `entries` and `metadata` beside `path`, as the only bytes there are of them; the result is the file that is to
/// be renamed.
pub(super) fn write_temporary(
    path: &Path,
    mut entries: Vec<Entry>,
    metadata: HashMap<String, String>,
) -> Result<PathBuf> {
    sort(&mut entries);
    let mut names = HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !names.insert(entry.name)) {
        return Err(Error::checkpoint(path, format!("two tensors are named {}; rename one", twice.name)));
    }
    let header = header(&entries, metadata).map_err(|why| Error::checkpoint(path, why))?;
    folder::write_temporary(path, |file| {
        file.write_all(&header)?;
        entries.iter().try_for_each(|entry| file.write_all(entry.bytes))
    })
}

/// By element type, the largest first, then by name: aligned, as the format advises.
pub(super) fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| b.dtype.cmp(&a.dtype).then(a.name.cmp(b.name)));
}

/// The entries of `tensors` and of 64-bit `counters`.
pub(super) fn entries<'a>(tensors: &'a NamedTensors, counters: &'a [(String, i64)]) -> Vec<Entry<'a>> {
    let tensors = tensors.iter().map(|(name, tensor)| Entry {
        name,
        dtype: file_dtype(tensor.dtype()),
        dims: tensor.shape().dims(),
        bytes: bytes(tensor),
    });
    let counters = counters.iter().map(|(name, count)| Entry {
        name,
        dtype: Dtype::I64,
        dims: &[],
        bytes: bytemuck::bytes_of(count),
    });
    tensors.chain(counters).collect()
}

/// The type's name in the format.
pub(super) fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::BF16 => Dtype::BF16,
        DType::U8 => Dtype::U8,
        DType::U32 => Dtype::U32,
        dual @ (DType::D32 | DType::D64) => unreachable!("{dual:?} is of one pass and never saved"),
    }
}

/// The elements as the bytes of the file (little-endian, as is every machine that this is built for).
pub(super) fn bytes(tensor: &Tensor) -> &[u8] {
    match tensor.dtype() {
        DType::U8 => tensor.as_slice::<u8>(),
        DType::U32 => bytemuck::cast_slice(tensor.as_slice::<u32>()),
        DType::BF16 => bytemuck::cast_slice(tensor.as_slice::<half::bf16>()),
        real => crate::on_plain!(real, R => bytemuck::cast_slice(tensor.as_slice::<R>())),
    }
}

fn bytes_mut(tensor: &mut Tensor) -> &mut [u8] {
    match tensor.dtype() {
        DType::U8 => tensor.make_mut::<u8>(),
        DType::U32 => bytemuck::cast_slice_mut(tensor.make_mut::<u32>()),
        DType::BF16 => bytemuck::cast_slice_mut(tensor.make_mut::<half::bf16>()),
        real => crate::on_plain!(real, R => bytemuck::cast_slice_mut(tensor.make_mut::<R>())),
    }
}
