//! A setting: its key, its flag, its help, and the values that it takes.

use super::seed;
use crate::suggest;
use std::num::{IntErrorKind, ParseIntError};
use toml::{Table, Value};

/// One setting. Type and default are those of its field in the configuration.
#[derive(Debug)]
pub struct Key {
    /// Section and name in the file, `space.channels`.
    pub path: &'static str,
    /// Flag without the dashes, `channels`.
    pub flag: &'static str,
    /// Placeholder in `--help`.
    pub value: &'static str,
    pub help: &'static str,
    /// Where the default comes from.
    pub source: &'static str,
    /// May change between a checkpoint and the run that resumes it.
    pub may_change: bool,
    /// Another setting and the value that it must have, as [`show`] gives it, for this one to matter.
    pub needs: Option<(&'static str, &'static str)>,
    /// The defaults of all settings, as the file's tables.
    pub defaults: fn() -> &'static Table,
}

/// The values of `search.order`: an enumeration of the configuration, checked where the line is known.
const ORDERS: [&str; 3] = ["first", "second", "exact"];

impl Key {
    /// The same, without effect unless the setting `path` is `value`.
    pub const fn only(self, path: &'static str, value: &'static str) -> Self {
        Self { needs: Some((path, value)), ..self }
    }
    /// That a flag for this setting does something among all `settings`, `keys` being the others; or what is wrong.
    pub fn matters(&self, settings: &Table, keys: &[Key]) -> Result<(), String> {
        let needs =
            self.needs.and_then(|(path, value)| Some((keys.iter().find(|key| key.path == path)?, value)));
        let Some((other, value)) = needs else { return Ok(()) };
        let (flag, is) = (other.flag, show(other.of(settings)));
        match (is == value, value) {
            (true, _) => Ok(()),
            (false, "true") => Err(format!("has no effect without --{flag}; give that too, or leave it out")),
            (false, _) => {
                Err(format!("has no effect with --{flag} {is}; leave it out, or give --{flag} {value}"))
            }
        }
    }
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }
    /// The value in `table`; every table made from the configuration has one.
    pub fn of<'a>(&self, table: &'a Table) -> &'a Value {
        &table[self.section()][self.name()]
    }
    pub fn default(&self) -> &'static Value {
        self.of((self.defaults)())
    }
    /// `value` in the type of this setting, or what is wrong with it (a phrase after "key: ").
    pub fn accept(&self, value: Value) -> Result<Value, String> {
        match (self.default(), value) {
            (Value::Integer(_), Value::Integer(n)) if n < 0 => Err(format!("is {n}, must not be negative")),
            (_, value) if self.path == "data.seed" => seed_or_none(value),
            (Value::Float(_), Value::Integer(n)) => Ok(Value::Float(n as f64)),
            (Value::Array(_), Value::Array(list)) if list.iter().any(|v| !v.is_str()) => {
                Err("must be a list of names in quotes".into())
            }
            (_, Value::String(name)) if self.path == "search.order" && !ORDERS.contains(&name.as_str()) => {
                Err(not_known(&name, &ORDERS))
            }
            (_, Value::Integer(bytes)) if self.path == "run.memory_budget" => {
                Ok(Value::String(bytes.to_string()))
            }
            (default, value) if default.same_type(&value) => Ok(value),
            (default, value) => Err(format!("must be {}, not {}", kind(default), kind(&value))),
        }
    }
    /// Reads the text of a flag.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let wrong = |default| format!("must be {}, not \"{text}\"", kind(default));
        let value = match self.default() {
            d @ Value::Integer(_) => {
                Value::Integer(integer(text).map_err(|large| large.unwrap_or_else(|| wrong(d)))?)
            }
            d @ Value::Float(_) => text.parse().map(Value::Float).map_err(|_| wrong(d))?,
            d @ Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| wrong(d))?,
            Value::Array(_) => {
                Value::Array(text.split(',').map(|name| Value::String(name.trim().into())).collect())
            }
            _ => Value::String(text.into()),
        };
        self.accept(value)
    }
}

/// A value as an error message and `--help` show it: bare words, comma-separated lists.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(s) if s.is_empty() => "empty".into(),
        Value::String(s) => s.clone(),
        Value::Array(list) => list.iter().map(show).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A whole number; else what is wrong if it is one, but larger than TOML can hold.
fn integer(text: &str) -> Result<i64, Option<String>> {
    text.parse().map_err(|e: ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow => Some(format!("is {text}, must be at most {}", i64::MAX)),
        _ => None,
    })
}

/// A seed, as text too, or the word for none.
fn seed_or_none(value: Value) -> Result<Value, String> {
    let wrong = |what: &str| format!("must be a whole number or {}, not {what}", seed::NONE);
    let number = match value {
        Value::String(word) if word == seed::NONE => return Ok(Value::String(word)),
        Value::String(text) => {
            integer(&text).map_err(|large| large.unwrap_or_else(|| wrong(&format!("\"{text}\""))))?
        }
        Value::Integer(number) => number,
        other => return Err(wrong(kind(&other))),
    };
    if number < 0 { Err(format!("is {number}, must not be negative")) } else { Ok(Value::Integer(number)) }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list of names in quotes",
        Value::Table(_) => "a section",
    }
}

/// That `name` is none of `known` (a phrase after "key: ").
pub fn not_known(name: &str, known: &[&str]) -> String {
    format!("\"{name}\" is not known; {}", suggest::hint(name, known.iter().copied()))
}

/// The one of `keys` most like `path`: as a whole and, for a key put into the wrong section, by its last part.
pub fn nearest_key(keys: &'static [Key], path: &str) -> Option<&'static str> {
    let last = |p: &str| p.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |k: &Key| {
        let (whole, part) = (strsim::jaro_winkler(path, k.path), strsim::jaro_winkler(&last(path), k.name()));
        (part > 0.8).then_some(whole + part)
    };
    let scored = keys.iter().filter_map(|k| Some((score(k)?, k.path)));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, path)| path)
}
