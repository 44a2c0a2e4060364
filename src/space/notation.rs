//! The published Python syntax of a genotype, written and read.
//!
//! `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))`,
//! as in `genotypes.py` of Liu et al. 2019 (DARTS) and of the works built on it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::space::genotype::{CellKind, Gene, Genotype, MAX_NODES};
use crate::suggest;

const FIELDS: [&str; 4] = ["normal", "normal_concat", "reduce", "reduce_concat"];

impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Genotype(")?;
        for (kind, end) in [(CellKind::Normal, ", "), (CellKind::Reduce, ")")] {
            write!(f, "{}=[", kind.name())?;
            for (index, gene) in self.genes(kind).iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}('{}', {})", gene.op, gene.input)?;
            }
            write!(f, "], {}_concat=", kind.name())?;
            write_concat(f, self.concat(kind))?;
            f.write_str(end)?;
        }
        Ok(())
    }
}

fn write_concat(f: &mut fmt::Formatter<'_>, concat: &[usize]) -> fmt::Result {
    match (concat.first(), concat.last()) {
        (Some(first), Some(last))
            if concat.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1])) =>
        {
            write!(f, "range({first}, {})", last.saturating_add(1))
        }
        _ => write!(f, "{concat:?}"),
    }
}

impl FromStr for Genotype {
    type Err = Error;

    /// Reads the Python syntax: any spacing and line breaks, trailing commas, either quote, `# comments`, a `NAME =`
    /// in front, fields in any order; lists as `[..]` or `(..)`, a concat also as `range(a, b)`.
    ///
    /// # Errors
    /// [`Error::Genotype`] with line, column and what was expected, or what [`Genotype::validate`] refuses.
    fn from_str(text: &str) -> Result<Self> {
        let genotype = parse_unchecked(text)?;
        genotype.validate()?;
        Ok(genotype)
    }
}

/// Reads the Python syntax, whatever its operations and states.
pub(super) fn parse_unchecked(text: &str) -> Result<Genotype> {
    Parser { text, at: 0 }.genotype()
}

/// Reads `text` from left to right; `at` is the byte reached.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn genotype(&mut self) -> Result<Genotype> {
        const WHOLE: &str = "Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...)";
        let (mut start, mut name) = self.word(WHOLE)?;
        if name != "Genotype" && self.take('=') {
            (start, name) = self.word(WHOLE)?;
        }
        if name != "Genotype" {
            return Err(self.expected(start, WHOLE));
        }
        self.need('(', "`(` after Genotype")?;
        let (mut genes, mut concats) = ([None, None], [None, None]);
        while !self.take(')') {
            let (start, field) = self.word("a field such as normal=[...] or the closing `)`")?;
            let Some(index) = FIELDS.iter().position(|known| *known == field) else {
                let hint = suggest::hint(field, FIELDS);
                return Err(self.error(start, &format!("unknown field `{field}`; {hint}")));
            };
            self.need('=', &format!("`=` after {field}"))?;
            let (cell, is_concat) = (index / 2, index % 2 == 1);
            let again = if is_concat {
                concats[cell].replace(self.concat()?).is_some()
            } else {
                genes[cell].replace(self.list("a list of ('operation', input) pairs", Self::gene)?).is_some()
            };
            if again {
                return Err(self.error(start, &format!("{field} is given twice; keep one of them")));
            }
            if !self.take(',') {
                self.need(')', "`,` or the closing `)`")?;
                break;
            }
        }
        self.skip();
        if self.at < self.text.len() {
            return Err(self.expected(self.at, "nothing more after the genotype"));
        }
        let missing = |field: &str| {
            Error::genotype(format!("{field} is missing; a genotype has {}", FIELDS.join(", ")))
        };
        let ([normal, reduce], [normal_concat, reduce_concat]) = (genes, concats);
        Ok(Genotype {
            normal: normal.ok_or_else(|| missing(FIELDS[0]))?,
            normal_concat: normal_concat.ok_or_else(|| missing(FIELDS[1]))?,
            reduce: reduce.ok_or_else(|| missing(FIELDS[2]))?,
            reduce_concat: reduce_concat.ok_or_else(|| missing(FIELDS[3]))?,
        })
    }

    /// `('sep_conv_3x3', 0)`
    fn gene(&mut self) -> Result<Gene> {
        let close = self.open("a pair such as ('sep_conv_3x3', 0)")?;
        let op = self.string()?;
        self.need(',', "`,` between operation and input")?;
        let input = self.number("the input's number")?;
        self.take(',');
        self.need(close, &format!("`{close}` after the input"))?;
        Ok(Gene::new(op, input))
    }

    /// `range(2, 6)` or a list of numbers.
    fn concat(&mut self) -> Result<Vec<usize>> {
        const CONCAT: &str = "range(a, b) or a list of numbers";
        self.skip();
        let start = self.at;
        if !self.text[start..].starts_with(|c: char| c.is_alphabetic()) {
            return self.list(CONCAT, |parser| parser.number("a state's number"));
        }
        if self.word(CONCAT)?.1 != "range" {
            return Err(self.expected(start, CONCAT));
        }
        self.need('(', "`(` after range")?;
        let first = self.number("where the range begins")?;
        self.need(',', "`,` after the begin of the range")?;
        let end = self.number("where the range ends")?;
        self.take(',');
        self.need(')', "`)` after the end of the range")?;
        // Checked before it is stored: a slip of a few digits must not fill the memory.
        if end.saturating_sub(first) > MAX_NODES {
            return Err(self
                .error(start, &format!("the range is longer than a cell; end it below {}", MAX_NODES + 3)));
        }
        Ok((first..end).collect())
    }

    /// Items between brackets of either kind, with an optional comma at the end.
    fn list<T>(&mut self, what: &str, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let close = self.open(what)?;
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(item(self)?);
            if !self.take(',') {
                self.need(close, &format!("`,` or `{close}`"))?;
                break;
            }
        }
        Ok(items)
    }

    /// Takes an opening bracket and returns the closing one that belongs to it.
    fn open(&mut self, what: &str) -> Result<char> {
        if self.take('[') {
            Ok(']')
        } else if self.take('(') {
            Ok(')')
        } else {
            Err(self.expected(self.at, what))
        }
    }

    fn word(&mut self, what: &str) -> Result<(usize, &'a str)> {
        self.skip();
        let start = self.at;
        let word = leading(&self.text[start..], |c| c.is_alphanumeric() || c == '_');
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.expected(start, what));
        }
        self.at += word.len();
        Ok((start, word))
    }

    fn number(&mut self, what: &str) -> Result<usize> {
        self.skip();
        let start = self.at;
        let digits = leading(&self.text[start..], |c| c.is_ascii_digit());
        let number = digits.parse().map_err(|_| self.expected(start, what))?;
        self.at += digits.len();
        Ok(number)
    }

    fn string(&mut self) -> Result<&'a str> {
        self.skip();
        let (text, start) = (self.text, self.at);
        let Some(quote) = text[start..].chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Err(self.expected(start, "an operation's name in quotes"));
        };
        let content = leading(&text[start + 1..], |c| c != quote && c != '\n');
        self.at = start + 1 + content.len();
        if !text[self.at..].starts_with(quote) {
            return Err(self.expected(self.at, "the closing quote of the operation's name"));
        }
        self.at += 1;
        Ok(content)
    }

    /// Steps over `wanted` if it comes next.
    fn take(&mut self, wanted: char) -> bool {
        self.skip();
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn need(&mut self, wanted: char, what: &str) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.expected(self.at, what)) }
    }

    /// Steps over white space and comments.
    fn skip(&mut self) {
        loop {
            self.at += leading(&self.text[self.at..], char::is_whitespace).len();
            if !self.text[self.at..].starts_with('#') {
                return;
            }
            self.at += leading(&self.text[self.at..], |c| c != '\n').len();
        }
    }

    fn expected(&self, at: usize, what: &str) -> Error {
        let rest = &self.text[at..];
        let word = leading(rest, |c| c.is_alphanumeric() || c == '_');
        let found = match rest.chars().next() {
            None => "the text ends".to_owned(),
            Some('\n') => "the line ends".to_owned(),
            Some(first) if word.is_empty() => format!("found {first:?}"),
            Some(_) => format!("found `{}`", word.chars().take(32).collect::<String>()),
        };
        self.error(at, &format!("expected {what}, but {found}"))
    }

    fn error(&self, at: usize, what: &str) -> Error {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Error::genotype(format!("line {line}, column {column}: {what}"))
    }
}

/// The longest beginning of `text` whose characters all satisfy `test`.
fn leading(text: &str, test: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !test(c)).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('none', 2), ('none', 0)], \
                         normal_concat=range(2, 4), reduce=[('max_pool_3x3', 1), ('max_pool_3x3', 0)], \
                         reduce_concat=range(2, 3))";

    #[test]
    fn loose_forms_mean_the_same() {
        let genotype: Genotype = PLAIN.parse().unwrap();
        assert_eq!(genotype.to_string(), PLAIN);
        let loose = "# found by a search\r\nDARTS_V9 =\n Genotype (\n  reduce_concat = [2,],  # one node\n\
            \treduce=(['max_pool_3x3',1 ], (\"max_pool_3x3\",0,),), normal_concat=( 2 , 3 ),\n\
            normal=[('sep_conv_3x3',0),('skip_connect',1),('none',2),('none',0)],\n)\n# end";
        assert_eq!(loose.parse::<Genotype>().unwrap(), genotype);
    }

    #[test]
    fn a_concat_with_gaps_is_printed_as_a_list() {
        let text = PLAIN.replace("range(2, 4)", "[3, 2]");
        assert_eq!(text.parse::<Genotype>().unwrap().to_string(), text);
    }

    #[test]
    fn errors_say_where_and_what() {
        let cases = [
            ("", "line 1, column 1: expected Genotype("),
            ("x = 3", "line 1, column 5: expected Genotype("),
            ("Genotyp(normal=[])", "line 1, column 1: expected Genotype("),
            ("Genotype[", "line 1, column 9: expected `(` after Genotype, but found '['"),
            (
                "Genotype(normal=[('a' 0)])",
                "column 23: expected `,` between operation and input, but found `0`",
            ),
            ("Genotype(\n normal=[('a\n', 0)])", "line 2, column 13: expected the closing quote"),
            ("Genotype(normal=[(a, 0)])", "expected an operation's name in quotes, but found `a`"),
            ("Genotype(normal=[('é', -1)])", "column 24: expected the input's number, but found '-'"),
            ("Genotype(normal=[('a', 99999999999999999999)])", "expected the input's number"),
            ("Genotype(normal=[('a', 0)", "expected `,` or `]`, but the text ends"),
            ("Genotype(normal=('a', 0))", "expected a pair such as"),
            ("Genotype(normals=[])", "column 10: unknown field `normals`; did you mean normal?"),
            ("Genotype(normal=[], normal=[])", "column 21: normal is given twice"),
            ("Genotype(normal=[])", "normal_concat is missing"),
            ("Genotype(normal_concat=range(2, 4000000000))", "the range is longer than a cell"),
            ("Genotype(normal_concat=rang(2, 4))", "column 24: expected range(a, b) or a list of numbers"),
            ("Genotype(normal_concat=range(4))", "expected `,` after the begin of the range, but found ')'"),
        ];
        for (text, expected) in cases {
            let message = text.parse::<Genotype>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text:?} gave {message:?}");
        }
        let more = format!("{PLAIN} Genotype()").parse::<Genotype>().unwrap_err().to_string();
        assert!(more.contains("expected nothing more after the genotype, but found `Genotype`"), "{more}");
        assert!(PLAIN.replace("'none', 0", "'none', 7").parse::<Genotype>().is_err());
    }
}
