//! What configurations have in common: files, flags, comparison, and what a checkpoint remembers of them.

use super::file;
use super::key::{Key, show};
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// Settings given explicitly, by a file or by flags.
pub type Given = Vec<(&'static Key, Value)>;

/// A section's name and its title.
pub type Section = (&'static str, &'static str);

/// The settings of a program, a section a field.
pub trait Configuration: Clone + Default + Serialize + DeserializeOwned + 'static {
    /// All settings.
    const KEYS: &'static [Key];
    /// Sections in the order in which the file and `--help` show them, with their titles.
    const SECTIONS: &'static [Section];
    /// The first line of the file.
    const TITLE: &'static str;

    /// The first setting that is out of range or contradicts another, as [`Error::Config`].
    fn validate(&self) -> Result<()>;
    /// The same settings, each that stands for another one replaced by it.
    fn resolved(&self) -> Self;
    /// The settings in the file at `path` over the defaults. Fails with [`Error::ConfigFile`] and the line on an
    /// unknown key or a wrong type; ranges are the business of [`Self::validate`].
    fn from_file(path: &Path) -> Result<Self> {
        Self::default().with_file(path)
    }
    /// The settings in the file at `path` over these.
    fn with_file(&self, path: &Path) -> Result<Self> {
        self.with(file::read(Self::SECTIONS, Self::KEYS, path)?)
    }
    /// `error` with the line of the file at `path` that its key stands on, if it has one there.
    fn locate(path: &Path, error: Error) -> Error {
        file::locate(Self::SECTIONS, Self::KEYS, path, error)
    }
    /// These settings with `given` in their place.
    fn with(&self, given: Given) -> Result<Self> {
        let mut table = self.table();
        for (key, value) in given {
            table[key.section()][key.name()] = value;
        }
        table.try_into().map_err(|e: toml::de::Error| Error::config("configuration", one_line(e.message())))
    }
    /// As the file's tables.
    fn table(&self) -> Table {
        match Table::try_from(self) {
            Ok(table) => table,
            // All numbers came from TOML or a flag that is read as TOML, and text is UTF-8 for the same reason.
            Err(e) => unreachable!("settings that TOML cannot hold: {e}"),
        }
    }
    /// The whole file, a comment with meaning, default and source over each key; reads back equal.
    fn to_toml(&self) -> String {
        file::write(Self::TITLE, (Self::SECTIONS, Self::KEYS), &self.table())
    }
    /// Keys in which the two differ: `(key, value here, value there)`, in the order of the file.
    fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let (here, there) = (self.table(), other.table());
        let differing = Self::KEYS.iter().filter(|key| key.of(&here) != key.of(&there));
        differing.map(|key| (key.path, show(key.of(&here)), show(key.of(&there)))).collect()
    }
    /// The settings that determine the numbers of a run, by dotted key: what a checkpoint remembers.
    fn fixed(&self) -> serde_json::Value {
        let table = self.table();
        let fixed = Self::KEYS.iter().filter(|key| !key.may_change);
        // a TOML value without dates is a JSON value
        fixed.map(|key| (key.path.to_owned(), serde_json::json!(key.of(&table)))).collect()
    }
    /// These settings with those that a checkpoint remembers in their place; `path` is for messages.
    fn with_fixed(&self, fixed: &serde_json::Value, path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::checkpoint(path, format!("its settings cannot be read: {what}"));
        let mut given = Given::new();
        for (name, value) in fixed.as_object().into_iter().flatten() {
            let key = Self::KEYS.iter().find(|key| key.path == name);
            let key = key.ok_or_else(|| wrong(format!("{name} is no setting of this version")))?;
            let value = Value::try_from(value).map_err(|e| wrong(one_line(&e.to_string())))?;
            given.push((key, key.accept(value).map_err(|what| wrong(format!("{name} {what}")))?));
        }
        self.with(given)
    }
    /// Whether a run with these settings goes on bit for bit from the `checkpoint` written with `stored`.
    fn can_resume(&self, stored: &Self, checkpoint: &Path) -> Result<()> {
        let fixed = |path: &str| Self::KEYS.iter().any(|key| key.path == path && !key.may_change);
        let meant = self.resolved().differences(&stored.resolved());
        let differing: Vec<String> = (self.differences(stored).into_iter())
            .filter(|(path, ..)| fixed(path) && meant.iter().any(|(other, ..)| other == path))
            .map(|(path, here, there)| format!("{path} is {there} there and {here} here"))
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        let what = format!(
            "checkpoint from another configuration: {}; resume without changing these or start a new run",
            differing.join(", ")
        );
        Err(Error::checkpoint(checkpoint, what))
    }
}

/// Messages of the TOML parser run over several lines.
pub(super) fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}
