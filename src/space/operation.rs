//! Candidate operations as values: a name, and how to build what it stands for. Published ones and a caller's own.

use super::candidate::{self, Candidate, Place};
use super::genotype::{self, CANDIDATES, Genotype};
use crate::error::{Error, Result};
use crate::suggest;
use crate::tape::Builder;
use std::fmt;
use std::sync::Arc;

type Build = dyn Fn(&mut Builder, Place) -> Result<Box<dyn Candidate>> + Send + Sync;

/// A candidate operation that edges may be given.
#[derive(Clone)]
pub struct Operation {
    name: Arc<str>,
    /// `None` for a published one.
    own: Option<Arc<Build>>,
}

impl Operation {
    /// An operation of the caller's own. `build` adds its weights to the builder, under any names; it is called for
    /// every edge of a supernet, and once more for each place of a found network.
    ///
    /// # Errors
    /// [`Error::Config`] if `name` is a published one or would not survive in a genotype: letters, digits, `_`, `-` and
    /// `.` do.
    pub fn new(
        name: &str,
        build: impl Fn(&mut Builder, Place) -> Result<Box<dyn Candidate>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let refuse = |what: &str| Err(Error::config("space.candidates", format!("{name:?} {what}")));
        if CANDIDATES.contains(&name) {
            return refuse("is a published operation; give your own another name");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return refuse("cannot be the name of an operation; use letters, digits, _, - and .");
        }
        Ok(Self { name: name.into(), own: Some(Arc::new(build)) })
    }

    /// The published operation of this name, one of [`CANDIDATES`].
    ///
    /// # Errors
    /// [`Error::Config`] with the nearest name that there is.
    pub fn published(name: &str) -> Result<Self> {
        match CANDIDATES.contains(&name) {
            true => Ok(Self { name: name.into(), own: None }),
            false => Err(candidate::unknown(name)),
        }
    }

    /// As in genotypes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operation at `place`; its weights are named below the builder's prefix.
    pub fn build(&self, b: &mut Builder, place: Place) -> Result<Box<dyn Candidate>> {
        match &self.own {
            Some(build) => build(b, place),
            None => candidate::build(b, &self.name, place),
        }
    }

    /// Whether it is none of the published ones.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Whether the two build the same.
    fn is(&self, other: &Self) -> bool {
        let own = match (&self.own, &other.own) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        own && self.name == other.name
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What the names in genotypes stand for: the published operations, and any of the caller's own.
///
/// ```
/// use oche::space::Operations;
/// let text = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_conect', 1)], normal_concat=[2], \
///     reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])";
/// let error = Operations::published().parse(text).unwrap_err();
/// assert!(error.to_string().ends_with("did you mean skip_connect?"));
/// ```
#[derive(Clone, Debug)]
pub struct Operations(Vec<Operation>);

impl Operations {
    /// [`CANDIDATES`].
    pub fn published() -> Self {
        Self(CANDIDATES.map(|name| Operation { name: name.into(), own: None }).to_vec())
    }

    /// These and `operation`, which may be among them.
    ///
    /// # Errors
    /// [`Error::Config`] if another operation has its name.
    pub fn with(mut self, operation: &Operation) -> Result<Self> {
        match self.0.iter().find(|known| known.name == operation.name) {
            Some(known) if known.is(operation) => {}
            Some(known) => {
                let what = format!("two operations are called {known:?}; give each a name of its own");
                return Err(Error::config("space.candidates", what));
            }
            None => self.0.push(operation.clone()),
        }
        Ok(self)
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(Operation::name).collect()
    }

    /// The operation called `name`.
    ///
    /// # Errors
    /// [`Error::Genotype`] with the nearest name that there is.
    pub fn get(&self, name: &str) -> Result<&Operation> {
        self.0.iter().find(|known| known.name() == name).ok_or_else(|| {
            let hint = suggest::hint(name, self.names());
            Error::genotype(format!("unknown operation {name:?}; {hint}"))
        })
    }

    /// Reads a genotype of these operations, in either form of [`genotype::parse_any`].
    ///
    /// # Errors
    /// [`Error::Genotype`] saying where the text stops being a genotype, or what [`Genotype::validate_for`] refuses.
    pub fn parse(&self, text: &str) -> Result<Genotype> {
        let genotype = genotype::parse_unchecked(text)?;
        genotype.validate_for(&self.names())?;
        Ok(genotype)
    }
}
