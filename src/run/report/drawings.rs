//! Drawings of cells for a page: each once, and short enough that a page can hold one of every epoch.

use super::read::KINDS;
use crate::run::draw::cell_svg;
use crate::space::genotype::Genotype;
use std::collections::HashMap;

/// What all drawings repeat. A tilde and a letter stand for each; the script puts them back, from the last to the first.
const REPEATED: [&str; 12] = [
    " fill='none' stroke='#4a4a4a' stroke-width='1.5'/>",
    " fill='none' stroke='#9a9a9a' stroke-width='1.3'/>",
    " fill='#4a4a4a'/>",
    " fill='#9a9a9a'/>",
    "<rect fill='#ffffff' height='",
    "<text fill='#222222' font-size='14' text-anchor='middle' x='",
    "<text fill='#111111' font-size='16' text-anchor='middle' x='",
    " rx='8' stroke='#5a8ea1' stroke-width='1.5' width='40'",
    "</text>",
    "<path d='M",
    "' width='",
    "' y='",
];

/// The distinct cells of a page, numbered as they come.
#[derive(Default)]
pub struct Drawings {
    numbers: HashMap<String, usize>,
    pub list: Vec<String>,
}

impl Drawings {
    /// The number of the drawing of a cell.
    pub fn number(&mut self, genotype: &Genotype, index: usize) -> usize {
        let drawing = drawing(genotype, index);
        let next = self.list.len();
        let list = &mut self.list;
        *self.numbers.entry(drawing).or_insert_with_key(|drawing| {
            list.push(shorten(drawing));
            next
        })
    }
    /// What to put in the place of the tildes.
    pub fn repeated() -> &'static [&'static str] {
        &REPEATED
    }
}

/// A cell as markup of a page.
pub fn drawing(genotype: &Genotype, index: usize) -> String {
    let (kind, name) = KINDS[index];
    cell_svg(&format!("{name} cell"), genotype.genes(kind), genotype.concat(kind))
}

fn shorten(svg: &str) -> String {
    let mut short = svg.replace('~', "-").replace('\n', "").replace('"', "'");
    for (letter, part) in ('a'..='z').zip(REPEATED) {
        short = short.replace(part, &format!("~{letter}"));
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::zoo;

    #[test]
    fn a_short_drawing_is_the_drawing() {
        let mut drawings = Drawings::default();
        for (_, genotype) in zoo::all() {
            let whole = drawing(&genotype, 0).replace('\n', "").replace('"', "'");
            let number = drawings.number(&genotype, 0);
            let mut long = drawings.list[number].clone();
            for (letter, part) in ('a'..='z').zip(REPEATED).collect::<Vec<_>>().into_iter().rev() {
                long = long.replace(&format!("~{letter}"), part);
            }
            assert_eq!(long, whole);
        }
        let v2 = zoo::named("DARTS_V2").unwrap();
        let number = drawings.number(&v2, 0);
        assert!(drawings.list[number].len() * 10 < 7 * drawing(&v2, 0).len(), "{}", drawings.list[number]);
        assert_eq!(drawings.number(&v2, 0), number);
    }
}
