//! A seed that another setting may give: in files and checkpoints a number, or the word `none`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// The word for no seed of its own.
pub const NONE: &str = "none";

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Seed(u64),
    Word(String),
}

pub fn serialize<S: Serializer>(seed: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match seed {
        Some(seed) => to.serialize_u64(*seed),
        None => to.serialize_str(NONE),
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    match Written::deserialize(from)? {
        Written::Seed(seed) => Ok(Some(seed)),
        Written::Word(word) if word == NONE => Ok(None),
        Written::Word(word) => {
            Err(D::Error::custom(format!("a seed is a whole number or {NONE}, not \"{word}\"")))
        }
    }
}
