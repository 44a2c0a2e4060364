//! Checkpoints: named tensors and a JSON state, checked, replaced atomically, the last two kept.
//!
//! One safetensors file whose only metadata key, `oche`, holds `{version, crc32, state}`. The bytes are a function of
//! the content.

use super::folder;
use super::tensor_file::{self, Content, NamedTensors, Reader, bytes, encode, file_dtype};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub const NEWEST: &str = "checkpoint.safetensors";
pub const PREVIOUS: &str = "checkpoint.previous.safetensors";
/// Of a training: the checkpoint after the epoch with the best test so far.
pub const BEST: &str = "best.safetensors";
pub(super) const METADATA_KEY: &str = "oche";
const VERSION: u32 = 1;

/// What a run needs to go on bit for bit.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// By name, at most once each; a loaded one has them by element type, then name.
    pub tensors: NamedTensors,
    /// 64-bit counters, such as `num_batches_tracked` of the published state_dict; names as for tensors.
    pub counters: Vec<(String, i64)>,
    /// Everything else: epoch, step, random streams, configuration.
    pub state: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: u32,
    crc32: u32,
    state: Value,
}

impl Checkpoint {
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor)
    }

    /// Writes `checkpoint.safetensors` in `folder`; what was there becomes `checkpoint.previous.safetensors`.
    ///
    /// Whatever fails or whenever the program dies, [`Self::load`] finds a whole checkpoint afterwards.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let (newest, previous) = (folder.join(NEWEST), folder.join(PREVIOUS));
        let temporary = self.write_temporary(&newest)?;
        let moved = newest.exists();
        let renamed = if moved { folder::rename(&newest, &previous) } else { Ok(()) };
        renamed.and_then(|()| folder::rename(&temporary, &newest)).inspect_err(|_| {
            // Back to how it was, as far as the system lets us; `load` finds the previous one in any case.
            if moved && !newest.exists() {
                let _ = std::fs::rename(&previous, &newest);
            }
            let _ = std::fs::remove_file(&temporary);
        })
    }

    /// Writes the file `name` in `folder`, which is whole or as it was whatever happens.
    pub fn save_as(&self, folder: &Path, name: &str) -> Result<()> {
        let path = folder.join(name);
        let temporary = self.write_temporary(&path)?;
        folder::rename(&temporary, &path).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    }

    fn write_temporary(&self, path: &Path) -> Result<PathBuf> {
        let mut entries = tensor_file::entries(&self.tensors, &self.counters);
        tensor_file::sort(&mut entries); // the sum is one of the content, not of its order
        let mut sum = crc32fast::Hasher::new();
        for entry in &entries {
            add(&mut sum, entry.name, entry.dtype, entry.dims, entry.bytes);
        }
        let meta =
            meta_json(VERSION, sum, &self.state).map_err(|e| Error::checkpoint(path, e.to_string()))?;
        tensor_file::write_temporary(path, entries, HashMap::from([(METADATA_KEY.to_owned(), meta)]))
    }

    /// The newest whole checkpoint in `folder`, with a warning naming both files if that is not
    /// `checkpoint.safetensors`. Fails with [`Error::Checkpoint`] if there is none.
    pub fn load(folder: &Path) -> Result<(Self, Option<String>)> {
        let (newest, previous) = (folder.join(NEWEST), folder.join(PREVIOUS));
        let damage = match Self::read(&newest) {
            Ok(checkpoint) => return Ok((checkpoint, None)),
            Err(e) => e,
        };
        // Between its two renames `save` leaves the new file whole under its temporary name: nothing is lost then.
        let temporary = folder::temporary(&newest);
        if !newest.exists()
            && let Ok(checkpoint) = Self::read(&temporary)
        {
            let _ = folder::rename(&temporary, &newest); // if it fails, the next load finds it where it is
            return Ok((checkpoint, None));
        }
        if let Ok(checkpoint) = Self::read(&previous) {
            let warning = format!("{damage}; going on from the checkpoint before it, {}", previous.display());
            return Ok((checkpoint, Some(warning)));
        }
        if !newest.exists() && !previous.exists() {
            let what = "holds no checkpoint to go on from; name the folder of a run or start a new one";
            return Err(Error::checkpoint(folder, what));
        }
        let what = format!("{damage}, and {} cannot be used either; start a new run", previous.display());
        Err(Error::checkpoint(folder, what))
    }

    /// The checkpoint in the file at `path`, if every bit of it is as it was written.
    pub fn read(path: &Path) -> Result<Self> {
        let damaged = |why: &str| Error::checkpoint(path, format!("damaged ({why})"));
        let mut reader = Reader::open(path).map_err(|e| match e {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                Error::checkpoint(path, "is missing")
            }
            Error::Data { what, .. } => Error::checkpoint(path, what),
            e => e,
        })?;
        let text = reader.metadata.metadata().as_ref().and_then(|all| all.get(METADATA_KEY)).cloned();
        let text = text.ok_or_else(|| Error::checkpoint(path, "was not written by this program"))?;
        let meta: Meta = serde_json::from_str(&text).map_err(|e| damaged(&e.to_string()))?;
        let mut found = Self { state: meta.state, ..Self::default() };
        let mut sum = crc32fast::Hasher::new();
        while let Some((name, content)) = reader.next().map_err(|e| damaged(&e.to_string()))? {
            match content {
                Content::Tensor(tensor) => {
                    let dtype = file_dtype(tensor.dtype());
                    add(&mut sum, &name, dtype, tensor.shape().dims(), bytes(&tensor));
                    found.tensors.push((name, tensor));
                }
                Content::Integers(shape, values) => {
                    add(&mut sum, &name, Dtype::I64, shape.dims(), bytemuck::cast_slice(&values));
                    let [count] = values[..] else { return Err(damaged("a counter that is not one number")) };
                    found.counters.push((name, count));
                }
            }
        }
        // Written anew, header and state must come out as they stand in the file: that also catches a flipped bit
        // that JSON does not mind, such as one that turns a space into a tab.
        let same = meta_json(meta.version, sum, &found.state).is_ok_and(|again| again == text)
            && encode(&reader.metadata).is_ok_and(|again| again == reader.raw_header);
        if !same {
            return Err(damaged("checksum differs"));
        }
        if meta.version != VERSION {
            let what = format!("is of format {}, this program reads format {VERSION}", meta.version);
            return Err(Error::checkpoint(path, what));
        }
        Ok(found)
    }
}

/// The value of the metadata key, `sum` being that of the entries.
fn meta_json(version: u32, mut sum: crc32fast::Hasher, state: &Value) -> serde_json::Result<String> {
    sum.update(serde_json::to_string(state)?.as_bytes());
    serde_json::to_string(&Meta { version, crc32: sum.finalize(), state: state.clone() })
}

fn add(sum: &mut crc32fast::Hasher, name: &str, dtype: Dtype, dims: &[usize], bytes: &[u8]) {
    sum.update(format!("{} {name} {dtype} {dims:?}", name.len()).as_bytes());
    sum.update(bytes);
}
