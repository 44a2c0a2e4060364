//! By what a data set is known again.

use super::ImageSet;
use super::folder::Files;
use serde::{Deserialize, Serialize};

/// How many images there are, and a checksum of them and of their labels in their order; of files that are read as they
/// are needed, of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    pub images: usize,
    pub crc32: u32,
}

impl Fingerprint {
    pub fn of(set: &ImageSet) -> Self {
        let labels = crc32fast::hash(bytemuck::cast_slice(&set.labels));
        let pixels = Self { images: set.len(), crc32: crc32fast::hash(&set.images) };
        pixels.and(Self { images: 0, crc32: labels })
    }
    pub(super) fn of_files(files: &Files) -> Self {
        let mut sum = crc32fast::Hasher::new();
        for (path, &label) in files.paths.iter().zip(&files.labels) {
            sum.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            sum.update(files.classes[label as usize].as_bytes());
        }
        Self { images: files.paths.len(), crc32: sum.finalize() }
    }
    /// Of both together.
    pub fn and(self, other: Self) -> Self {
        let crc32 = crc32fast::hash(bytemuck::cast_slice(&[self.crc32, other.crc32]));
        Self { images: self.images + other.images, crc32 }
    }
}
