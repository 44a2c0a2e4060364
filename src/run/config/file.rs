//! The configuration file: reading with line numbers, writing with comments.

use super::key::{Key, nearest_key, show};
use super::schema::{Given, Section, one_line};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Table, Value};

/// A setting of a file: its line, its key, its value.
type Line = (usize, &'static Key, Value);
type Sections = &'static [Section];
type Keys = &'static [Key];

/// The settings in the file at `path`, each known and of the right type.
pub fn read(sections: Sections, keys: Keys, path: &Path) -> Result<Given> {
    Ok(lines(sections, keys, path)?.into_iter().map(|(_, key, value)| (key, value)).collect())
}

/// `error` with the line of the file at `path` that its key stands on, if it has one there.
pub fn locate(sections: Sections, keys: Keys, path: &Path, error: Error) -> Error {
    let Error::Config { key, what } = error else { return error };
    let found = lines(sections, keys, path)
        .ok()
        .and_then(|lines| lines.into_iter().find(|(_, known, _)| known.path == key));
    match found {
        Some((line, ..)) => Error::ConfigFile { path: path.to_owned(), line, what: format!("{key}: {what}") },
        None => Error::Config { key, what },
    }
}

fn lines(sections: Sections, keys: Keys, path: &Path) -> Result<Vec<Line>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let at = |line, what| Error::ConfigFile { path: path.to_owned(), line, what };
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        at(line, "is not text in UTF-8; give a TOML file as --print-config writes it".into())
    })?;
    let line = |span: Range<usize>| 1 + text[..span.start.min(text.len())].matches('\n').count();
    let parsed = DeTable::parse(text).map_err(|e| {
        let what = format!("not TOML ({}); --print-config writes an example", one_line(e.message()));
        at(e.span().map_or(1, line), what)
    })?;
    let mut lines = vec![];
    for (section, content) in parsed.into_inner() {
        let start = line(section.span());
        let name = section.into_inner();
        if !sections.iter().any(|(known, _)| *known == name) {
            return Err(at(start, unknown((sections, keys), &name, content.get_ref().is_table())));
        }
        let DeValue::Table(entries) = content.into_inner() else {
            return Err(at(start, format!("{name} must be a section, written [{name}] on its own line")));
        };
        for (key, value) in entries {
            let start = line(key.span());
            let path = format!("{name}.{}", key.into_inner());
            let Some(known) = keys.iter().find(|k| k.path == path) else {
                return Err(at(start, unknown((sections, keys), &path, false)));
            };
            let value = plain(value).and_then(|value| known.accept(value));
            lines.push((start, known, value.map_err(|what| at(start, format!("{path} {what}")))?));
        }
    }
    Ok(lines)
}

fn plain(value: Spanned<DeValue>) -> Result<Value, String> {
    let value = Value::deserialize(ValueDeserializer::from(value));
    value.map_err(|e| format!("cannot be read ({})", one_line(e.message())))
}

fn unknown((sections, keys): (Sections, Keys), name: &str, is_section: bool) -> String {
    let all = "--print-config lists all";
    if is_section {
        let near = crate::suggest::nearest(name, sections.iter().map(|(section, _)| *section));
        let hint = near.map_or(all.to_owned(), |near| format!("did you mean [{near}]?"));
        return format!("unknown section [{name}]; {hint}");
    }
    let hint = nearest_key(keys, name).map_or(all.to_owned(), |near| format!("did you mean {near}?"));
    format!("unknown key {name}; {hint}")
}

/// The file for `table`, which holds every key, under a first line `title`.
pub fn write(title: &str, (sections, keys): (Sections, Keys), table: &Table) -> String {
    let mut out = format!("{title}\n");
    for &(section, title) in sections {
        out += &format!("\n# {title}\n[{section}]\n");
        for key in keys.iter().filter(|key| key.section() == section) {
            let (default, value) = (show(key.default()), key.of(table));
            out += &format!("# {} [default: {default}; {}]\n", key.help, key.source);
            out += &format!("{} = {value}\n", key.name());
        }
    }
    out
}
