//! The messages of TensorBoard's event files, as far as a run needs them, and the records that hold them.
//!
//! Fields and their numbers are those of TensorFlow's `event.proto`, `summary.proto` and `tensor.proto`; a record is
//! framed as TensorFlow's `record_writer.h` says.

use prost::{Enumeration, Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    #[prost(enumeration = "SessionStatus", tag = "1")]
    pub status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum SessionStatus {
    Unspecified = 0,
    /// What was read of this run before, from this step on, counts no more.
    Start = 1,
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(oneof = "Content", tags = "2, 5, 8")]
    pub content: Option<Content>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Content {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "5")]
    Histogram(Histogram),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(double, tag = "1")]
    pub min: f64,
    #[prost(double, tag = "2")]
    pub max: f64,
    #[prost(double, tag = "3")]
    pub num: f64,
    #[prost(double, tag = "4")]
    pub sum: f64,
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// Upper ends of the buckets.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

/// A scalar text: the only tensor here.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub text: Vec<Vec<u8>>,
}

/// Without extents: of a scalar.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Shape {}

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub plugin: Option<Plugin>,
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Plugin {
    #[prost(string, tag = "1")]
    pub name: String,
}

const DT_STRING: i32 = 7;
const DATA_CLASS_TENSOR: i32 = 2;
/// Buckets of equal width between 0 and 1.
const BUCKETS: usize = 20;

impl Value {
    pub fn scalar(tag: impl Into<String>, value: f64) -> Self {
        Self { tag: tag.into(), content: Some(Content::Scalar(value as f32)), metadata: None }
    }
    /// Shown as Markdown.
    pub fn text(tag: impl Into<String>, text: &str) -> Self {
        let tensor = Tensor { dtype: DT_STRING, shape: Some(Shape {}), text: vec![text.into()] };
        let plugin = Some(Plugin { name: "text".into() });
        let metadata = Some(Metadata { plugin, data_class: DATA_CLASS_TENSOR });
        Self { tag: tag.into(), content: Some(Content::Tensor(tensor)), metadata }
    }
    /// Of numbers between 0 and 1.
    pub fn histogram(tag: impl Into<String>, numbers: &[f64]) -> Self {
        let mut bucket = [0.0; BUCKETS];
        for x in numbers {
            bucket[((x * BUCKETS as f64) as usize).min(BUCKETS - 1)] += 1.0;
        }
        // of the empty buckets at the ends none are kept
        let first = bucket.iter().position(|&count| count > 0.0).unwrap_or(0);
        let end = bucket.iter().rposition(|&count| count > 0.0).map_or(first, |last| last + 1);
        let histogram = Histogram {
            min: numbers.iter().copied().fold(f64::INFINITY, f64::min),
            max: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            num: numbers.len() as f64,
            sum: numbers.iter().sum(),
            sum_squares: numbers.iter().map(|x| x * x).sum(),
            bucket_limit: (first..end).map(|i| (i + 1) as f64 / BUCKETS as f64).collect(),
            bucket: bucket[first..end].to_vec(),
        };
        Self { tag: tag.into(), content: Some(Content::Histogram(histogram)), metadata: None }
    }
}

impl Event {
    /// Appends the record of this event: length, its checksum, message, its checksum; little-endian.
    pub fn record(&self, to: &mut Vec<u8>) {
        let message = self.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        to.extend(length);
        to.extend(masked(&length).to_le_bytes());
        to.extend(&message);
        to.extend(masked(&message).to_le_bytes());
    }
}

/// CRC-32C, changed so that a checksum of bytes that hold checksums is a good one too.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
