//! A genotype: the two cells a search ends with, as data.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::suggest;

/// Every candidate operation by its published name: the eight of DARTS in their index order (Liu et al. 2019,
/// section 3.1), then the two that only NASNet and AmoebaNet cells use.
pub const CANDIDATES: [&str; 10] = [
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_7x7",
    "conv_7x1_1x7",
];

/// The most nodes a cell may have; published cells have four or five.
pub const MAX_NODES: usize = 64;

/// A genotype file larger than this is something else.
const MAX_BYTES: u64 = 1 << 20;

/// Which of the two cells of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// Keeps the resolution.
    Normal,
    /// Halves the resolution: operations on the cell's inputs have stride 2.
    Reduce,
}

impl CellKind {
    /// `normal` or `reduce`, as in a genotype's keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Reduce => "reduce",
        }
    }
}

/// One kept edge: an operation and the state it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gene {
    /// Name of the operation: one of [`CANDIDATES`], or of a caller's own.
    pub op: String,
    /// State read: 0 = output of the cell before the previous one, 1 = of the previous cell, `2 + i` = node `i`.
    pub input: usize,
}

impl Gene {
    pub fn new(op: impl Into<String>, input: usize) -> Self {
        Self { op: op.into(), input }
    }
}

/// The two cells of a network. Genes `2 i` and `2 i + 1` of a cell are summed into node `i`; the states listed in
/// the concat are concatenated, in that order, into the cell's output.
///
/// `Display` and `FromStr` use the published Python syntax, see [`crate::space::notation`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genotype {
    pub normal: Vec<Gene>,
    pub normal_concat: Vec<usize>,
    pub reduce: Vec<Gene>,
    pub reduce_concat: Vec<usize>,
}

impl Genotype {
    /// The genes of one cell, two a node.
    pub fn genes(&self, kind: CellKind) -> &[Gene] {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduce => &self.reduce,
        }
    }

    /// The states concatenated into the output of one cell.
    pub fn concat(&self, kind: CellKind) -> &[usize] {
        match kind {
            CellKind::Normal => &self.normal_concat,
            CellKind::Reduce => &self.reduce_concat,
        }
    }

    /// How many intermediate nodes one cell has.
    pub fn nodes(&self, kind: CellKind) -> usize {
        self.genes(kind).len() / 2
    }

    /// Checks that both cells can be built of published operations.
    ///
    /// # Errors
    /// As [`Self::validate_for`] of [`CANDIDATES`].
    pub fn validate(&self) -> Result<()> {
        self.validate_for(&CANDIDATES)
    }

    /// Checks that both cells can be built of the operations `known`.
    ///
    /// # Errors
    /// [`Error::Genotype`] if a cell has no node, an odd number of genes or more than [`MAX_NODES`] nodes, a gene
    /// reads a state that is not earlier or names an unknown operation, or a concat is empty, repeats a node or
    /// names one that is not there.
    pub fn validate_for(&self, known: &[&str]) -> Result<()> {
        for kind in [CellKind::Normal, CellKind::Reduce] {
            validate_genes(kind.name(), self.genes(kind), known)?;
            validate_concat(kind.name(), self.concat(kind), self.nodes(kind))?;
        }
        Ok(())
    }

    /// Pretty JSON with the keys in the order of the fields and one gene a line.
    pub fn to_json(&self) -> String {
        let cell = |kind: CellKind| {
            let genes: Vec<String> = self
                .genes(kind)
                .iter()
                .map(|gene| format!("\n    {{\"op\": {}, \"input\": {}}}", quoted(&gene.op), gene.input))
                .collect();
            let end = if genes.is_empty() { "" } else { "\n  " };
            let name = kind.name();
            format!("  \"{name}\": [{}{end}],\n  \"{name}_concat\": {:?}", genes.join(","), self.concat(kind))
        };
        format!("{{\n{},\n{}\n}}\n", cell(CellKind::Normal), cell(CellKind::Reduce))
    }

    /// Reads JSON; a gene is `{"op": "sep_conv_3x3", "input": 0}` or `["sep_conv_3x3", 0]`.
    ///
    /// # Errors
    /// [`Error::Genotype`] if the text is not such JSON (with line and column) or [`Self::validate`] refuses it.
    pub fn from_json(text: &str) -> Result<Self> {
        let genotype = from_json_unchecked(text)?;
        genotype.validate()?;
        Ok(genotype)
    }
}

fn from_json_unchecked(text: &str) -> Result<Genotype> {
    serde_json::from_str(text).map_err(|e| Error::genotype(format!("not a genotype in JSON: {e}")))
}

/// Reads a genotype from text in either form: JSON (begins with a brace) or the published Python syntax.
///
/// # Errors
/// [`Error::Genotype`] saying where the text stops being a genotype, or what [`Genotype::validate`] refuses.
pub fn parse_any(text: &str) -> Result<Genotype> {
    let genotype = parse_unchecked(text)?;
    genotype.validate()?;
    Ok(genotype)
}

/// The same of whatever operations and states.
pub(super) fn parse_unchecked(text: &str) -> Result<Genotype> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_start().starts_with('{') {
        true => from_json_unchecked(text),
        false => super::notation::parse_unchecked(text),
    }
}

/// Reads a genotype file in either form of [`parse_any`].
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Genotype`], naming the file, if it holds something else.
pub fn read(path: &Path) -> Result<Genotype> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(Error::io("read", path))?;
    let refuse = |what: String| Error::genotype(format!("{}: {what}", path.display()));
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse("is larger than any genotype; give a file of a few lines".into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        refuse("is not text; give a genotype as JSON or as Genotype(normal=[...], ...)".into())
    })?;
    parse_any(&text).map_err(|error| match error {
        Error::Genotype { what } => refuse(what),
        other => other,
    })
}

/// Checks one cell's genes; `cell` names it in the message.
fn validate_genes(cell: &str, genes: &[Gene], known: &[&str]) -> Result<()> {
    let refuse = |what: String| Err(Error::genotype(format!("{cell} cell: {what}")));
    if genes.is_empty() {
        return refuse("has no genes; give two for each node".into());
    }
    if !genes.len().is_multiple_of(2) {
        return refuse(format!("has {} genes; give an even number, two for each node", genes.len()));
    }
    if genes.len() > 2 * MAX_NODES {
        return refuse(format!("has {} nodes; give at most {MAX_NODES}", genes.len() / 2));
    }
    for (index, gene) in genes.iter().enumerate() {
        let (node, place) = (index / 2, ["first", "second"][index % 2]);
        if !known.contains(&gene.op.as_str()) {
            let hint = suggest::hint(&gene.op, known.iter().copied());
            return refuse(format!(
                "unknown operation {:?} in the {place} gene of node {node}; {hint}",
                gene.op
            ));
        }
        if gene.input >= node + 2 {
            return refuse(format!(
                "the {place} gene of node {node} reads state {}, which comes later; use 0 to {}",
                gene.input,
                node + 1
            ));
        }
    }
    Ok(())
}

fn validate_concat(cell: &str, concat: &[usize], nodes: usize) -> Result<()> {
    let refuse = |what: String| Err(Error::genotype(format!("{cell}_concat: {what}")));
    if concat.is_empty() {
        return refuse("is empty; name at least one node's state".into());
    }
    for (index, state) in concat.iter().enumerate() {
        if !(2..nodes + 2).contains(state) {
            return refuse(format!("state {state} is no node of this cell; use 2 to {}", nodes + 1));
        }
        if concat[..index].contains(state) {
            return refuse(format!("names state {state} twice; name each once"));
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Genotype {
        let genes = vec![Gene::new("sep_conv_3x3", 0), Gene::new("skip_connect", 1)];
        Genotype { normal: genes.clone(), normal_concat: vec![2], reduce: genes, reduce_concat: vec![2] }
    }

    fn refusal(change: impl Fn(&mut Genotype)) -> String {
        let mut genotype = small();
        change(&mut genotype);
        genotype.validate().unwrap_err().to_string()
    }

    #[test]
    fn cells_that_cannot_be_built_are_refused() {
        small().validate().unwrap();
        assert_eq!(small().nodes(CellKind::Normal), 1);
        assert!(refusal(|g| g.normal.clear()).contains("normal cell: has no genes"));
        assert!(refusal(|g| g.reduce.truncate(1)).contains("reduce cell: has 1 genes"));
        assert!(refusal(|g| g.normal[1].input = 2).contains("second gene of node 0 reads state 2"));
        assert!(refusal(|g| g.normal[0].op = "sep_conv3x3".into()).contains("did you mean sep_conv_3x3?"));
        assert!(refusal(|g| g.normal_concat.clear()).contains("normal_concat: is empty"));
        assert!(refusal(|g| g.reduce_concat.push(3)).contains("state 3 is no node"));
        assert!(refusal(|g| g.reduce_concat[0] = 1).contains("state 1 is no node"));
        assert!(refusal(|g| g.reduce_concat.push(2)).contains("names state 2 twice"));
        assert!(refusal(|g| g.normal = vec![Gene::new("none", 0); 2 * MAX_NODES + 2]).contains("at most 64"));
    }

    #[test]
    fn json_has_a_fixed_form_and_reads_the_published_pairs() {
        let text = small().to_json();
        assert!(text.starts_with("{\n  \"normal\": [\n    {\"op\": \"sep_conv_3x3\", \"input\": 0},\n"));
        assert_eq!(parse_any(&text).unwrap(), small());
        assert_eq!(parse_any(&serde_json::to_string(&small()).unwrap()).unwrap(), small());
        let pairs = r#" {"normal": [["sep_conv_3x3", 0], ["skip_connect", 1]], "normal_concat": [2],
            "reduce": [["sep_conv_3x3", 0], ["skip_connect", 1]], "reduce_concat": [2]}"#;
        assert_eq!(parse_any(pairs).unwrap(), small());
        let wrong = parse_any("{\"normal\": [[3, 0]]}").unwrap_err().to_string();
        assert!(wrong.contains("JSON") && wrong.contains("line 1 column 14"), "{wrong}");
    }

    #[test]
    fn files_that_are_something_else_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cell.txt");
        assert!(matches!(read(&path), Err(Error::Io { .. })));
        assert!(matches!(read(folder.path()), Err(Error::Io { .. })));
        for (bytes, expected) in [
            (b"\xff\xfe".to_vec(), "is not text"),
            (vec![b' '; MAX_BYTES as usize + 1], "is larger"),
            (Vec::new(), "the text ends"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains("cell.txt") && message.contains(expected), "{message}");
        }
        std::fs::write(&path, format!("\u{feff}{}", small().to_json())).unwrap();
        assert_eq!(read(&path).unwrap(), small());
        std::fs::write(&path, small().to_string()).unwrap();
        assert_eq!(read(&path).unwrap(), small());
    }
}
