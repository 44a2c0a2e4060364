//! Draws a cell: as an SVG picture and as lines of text.

use svg::node::element::{Group, Path, Rectangle, Text, Title};

use crate::run::layered::{Layout, Link, Rect, Route, layout};
use crate::space::genotype::Gene;

const FONT: &str = "Helvetica, Arial, 'DejaVu Sans', sans-serif";
/// Average advance of a letter in pixels, on the wide side so that labels fit in every such font.
const LABEL_LETTER: f64 = 8.2;
const BOX_LETTER: f64 = 9.4;
const MARGIN: f64 = 16.0;
const TITLE_HEIGHT: f64 = 34.0;

/// Fill and outline of the cell's inputs, its nodes and its output.
const INPUT: (&str, &str) = ("#b4eeb4", "#5b9a5b");
const NODE: (&str, &str) = ("#add8e6", "#5a8ea1");
const OUTPUT: (&str, &str) = ("#eee8aa", "#a39a4c");

/// What a cell reads and writes, by its number in the drawing: 0 and 1 the inputs, then the nodes, last the output.
struct Cell<'a> {
    names: Vec<String>,
    links: Vec<(usize, usize, Option<&'a str>)>,
}

impl<'a> Cell<'a> {
    /// Genes and concat entries that read a state that is not there are left out.
    fn new(genes: &'a [Gene], concat: &[usize]) -> Self {
        let nodes = genes.len().div_ceil(2);
        let mut names: Vec<String> = (0..nodes + 2).map(state_name).collect();
        names.push("c_{k}".into());
        let mut links = Vec::new();
        for (index, gene) in genes.iter().enumerate() {
            let node = index / 2 + 2;
            if gene.input < node {
                links.push((gene.input, node, Some(gene.op.as_str())));
            }
        }
        let states = concat.iter().filter(|state| **state < nodes + 2);
        links.extend(states.map(|state| (*state, nodes + 2, None)));
        Self { names, links }
    }
}

fn state_name(state: usize) -> String {
    match state {
        0 => "c_{k-2}".into(),
        1 => "c_{k-1}".into(),
        node => (node - 2).to_string(),
    }
}

/// A standalone SVG of a cell, left to right, in the manner of the figures of Liu et al. 2019: its inputs
/// `c_{k-2}` and `c_{k-1}` green, nodes blue, output `c_{k}` yellow, an arrow with the operation's name for each
/// gene (dashed for `none`) and a bare one for each concatenated state (as in [`Gene::input`]).
///
/// The same arguments give the same bytes. Genes that read a state that is not there are left out.
pub fn cell_svg(title: &str, genes: &[Gene], concat: &[usize]) -> String {
    let title = printable(title);
    let cell = Cell::new(genes, concat);
    let names: Vec<String> = cell.links.iter().map(|link| printable(link.2.unwrap_or(""))).collect();
    let widths: Vec<f64> =
        cell.names.iter().map(|name| (text_width(name, BOX_LETTER) + 20.0).max(40.0)).collect();
    let links: Vec<Link> = cell
        .links
        .iter()
        .zip(&names)
        .map(|(&(from, to, _), name)| Link { from, to, label: label_width(name) })
        .collect();
    let layout = layout(&widths, &links);

    let top = if title.is_empty() { MARGIN } else { MARGIN + TITLE_HEIGHT };
    let width = (layout.width.max(text_width(&title, 10.5)) + 2.0 * MARGIN).ceil();
    let height = (layout.height + top + MARGIN).ceil();
    let label = if title.is_empty() { "cell".to_owned() } else { title.clone() };
    let mut document = svg::Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("role", "img")
        // The writer of attributes does not escape quotes.
        .set("aria-label", label.replace('"', "'"))
        .set("font-family", FONT)
        .add(Title::new(label))
        .add(Rectangle::new().set("width", width).set("height", height).set("fill", "#ffffff"));
    if !title.is_empty() {
        let heading = Text::new(title).set("x", MARGIN).set("y", MARGIN + 16.0).set("font-size", 18);
        document = document.add(heading.set("font-weight", "bold").set("fill", "#222222"));
    }
    document.add(drawing(&cell, &names, &layout, top)).to_string() + "\n"
}

fn drawing(cell: &Cell, names: &[String], layout: &Layout, top: f64) -> Group {
    let mut group = Group::new().set("transform", format!("translate({MARGIN} {top})"));
    // Lines first, so that boxes and labels lie on top of them.
    for (route, link) in layout.routes.iter().zip(&cell.links) {
        group = group.add(line(route, link.2)).add(arrow_head(route, link.2));
    }
    for (route, name) in layout.routes.iter().zip(names) {
        if let Some(rect) = &route.label {
            let halo = rectangle(rect).set("fill", "#ffffff");
            group = group.add(halo).add(centred(name, rect, 14).set("fill", "#222222"));
        }
    }
    let output = cell.names.len() - 1;
    for (index, (rect, name)) in layout.boxes.iter().zip(&cell.names).enumerate() {
        let (fill, stroke) = match index {
            0 | 1 => INPUT,
            _ if index == output => OUTPUT,
            _ => NODE,
        };
        let outline =
            rectangle(rect).set("rx", 8).set("fill", fill).set("stroke", stroke).set("stroke-width", 1.5);
        group = group.add(outline).add(centred(name, rect, 16).set("fill", "#111111"));
    }
    group
}

fn rectangle(rect: &Rect) -> Rectangle {
    Rectangle::new()
        .set("x", number(rect.x - rect.width / 2.0))
        .set("y", number(rect.y - rect.height / 2.0))
        .set("width", number(rect.width))
        .set("height", number(rect.height))
}

fn centred(text: &str, rect: &Rect, size: u32) -> Text {
    // A third of the size below the middle: half the height of a capital, in every renderer.
    Text::new(text)
        .set("x", number(rect.x))
        .set("y", number(rect.y + f64::from(size) * 0.34))
        .set("font-size", size)
        .set("text-anchor", "middle")
}

/// Colour and thickness of an edge.
fn stroke(op: Option<&str>) -> (&'static str, f64) {
    match op {
        None => ("#9a9a9a", 1.3),
        Some("none") => ("#b0b0b0", 1.5),
        Some(_) => ("#4a4a4a", 1.5),
    }
}

const HEAD: f64 = 8.0;

fn line(route: &Route, op: Option<&str>) -> Path {
    let mut d = String::new();
    let mut reached = None;
    for (index, &(begin, end, y)) in route.runs.iter().enumerate() {
        // The line stops inside the arrow head, whose tip would otherwise be blunt.
        let end = if index + 1 == route.runs.len() { end - HEAD / 2.0 } else { end };
        d += &match reached {
            None => format!("M{} {}", number(begin), number(y)),
            Some((x, from)) => curve(x, from, begin, y),
        };
        d += &format!(" H{}", number(end));
        reached = Some((end, y));
    }
    let (colour, width) = stroke(op);
    let path = Path::new().set("d", d).set("fill", "none").set("stroke", colour).set("stroke-width", width);
    if op == Some("none") { path.set("stroke-dasharray", "5 4") } else { path }
}

fn curve(x: f64, from: f64, to_x: f64, y: f64) -> String {
    let middle = number((x + to_x) / 2.0);
    format!(" C{middle} {} {middle} {} {} {}", number(from), number(y), number(to_x), number(y))
}

/// A triangle of its own rather than a marker, which would need an identifier unique in the page around it.
fn arrow_head(route: &Route, op: Option<&str>) -> Path {
    let (_, x, y) = route.runs.last().copied().unwrap_or_default();
    let (back, half) = (number(x - HEAD), HEAD * 0.45);
    let d =
        format!("M{} {} L{back} {} L{back} {} Z", number(x), number(y), number(y - half), number(y + half));
    Path::new().set("d", d).set("fill", stroke(op).0)
}

/// At most two decimals, so that the file is short and the same everywhere.
fn number(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    // Without the sign of a negative zero.
    format!("{}", rounded + 0.0)
}

fn text_width(text: &str, letter: f64) -> f64 {
    text.chars().count() as f64 * letter
}

fn label_width(name: &str) -> f64 {
    if name.is_empty() { 0.0 } else { text_width(name, LABEL_LETTER) + 6.0 }
}

/// Without the characters that XML forbids even in escaped form.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A listing of a cell, one line a node and one for the output, without a final line break:
/// `node 0: sep_conv_3x3(c_{k-2}) + skip_connect(c_{k-1})`.
pub fn cell_text(genes: &[Gene], concat: &[usize]) -> String {
    let name = |state: usize| if state < 2 { state_name(state) } else { format!("node {}", state - 2) };
    let mut lines: Vec<String> = genes
        .chunks(2)
        .enumerate()
        .map(|(node, genes)| {
            let terms: Vec<String> =
                genes.iter().map(|gene| format!("{}({})", gene.op, name(gene.input))).collect();
            format!("node {node}: {}", terms.join(" + "))
        })
        .collect();
    let states: Vec<String> = concat.iter().map(|state| name(*state)).collect();
    lines.push(format!("c_{{k}}: concat({})", states.join(", ")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::space::genotype::CellKind;
    use crate::space::zoo;

    fn plan(genes: &[Gene], concat: &[usize]) -> Layout {
        let cell = Cell::new(genes, concat);
        let widths = vec![60.0; cell.names.len()];
        let link = |link: &(usize, usize, Option<&str>)| Link {
            from: link.0,
            to: link.1,
            label: link.2.map_or(0.0, label_width),
        };
        layout(&widths, &cell.links.iter().map(link).collect::<Vec<_>>())
    }

    fn inside(rect: &Rect, x: f64, y: f64) -> bool {
        (x - rect.x).abs() < rect.width / 2.0 - 0.01 && (y - rect.y).abs() < rect.height / 2.0 - 0.01
    }

    /// Points along a route: its runs and the curves between them.
    fn points(route: &Route) -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        for (index, &(begin, end, y)) in route.runs.iter().enumerate() {
            let part = |step: usize| step as f64 / 40.0;
            points.extend((0..=40).map(|step| (begin + (end - begin) * part(step), y)));
            if let Some(&(next, _, next_y)) = route.runs.get(index + 1) {
                points.extend((0..=40).map(part).map(|t| {
                    let middle = 3.0 * t * (1.0 - t) * (end + next) / 2.0;
                    let x = (1.0 - t).powi(3) * end + middle + t.powi(3) * next;
                    (x, y + (next_y - y) * t * t * (3.0 - 2.0 * t))
                }));
            }
        }
        points
    }

    fn nothing_overlaps(layout: &Layout) {
        let labels = layout.routes.iter().filter_map(|route| route.label.as_ref());
        let rects: Vec<&Rect> = layout.boxes.iter().chain(labels).collect();
        for (index, a) in rects.iter().enumerate() {
            let (half_width, half_height) = (a.width / 2.0 - 0.01, a.height / 2.0 - 0.01);
            assert!(a.x >= half_width && a.x + half_width <= layout.width, "{a:?} outside");
            assert!(a.y >= half_height && a.y + half_height <= layout.height, "{a:?} outside");
            for b in &rects[index + 1..] {
                let apart = (a.x - b.x).abs() >= (a.width + b.width) / 2.0 - 0.01
                    || (a.y - b.y).abs() >= (a.height + b.height) / 2.0 - 0.01;
                assert!(apart, "{a:?} overlaps {b:?}");
            }
        }
        for route in &layout.routes {
            for rect in rects.iter().filter(|rect| route.label.as_ref() != Some(**rect)) {
                let hit = points(route).into_iter().find(|(x, y)| inside(rect, *x, *y));
                assert_eq!(hit, None, "{route:?} runs through {rect:?}");
            }
        }
        for (index, route) in layout.routes.iter().enumerate() {
            assert!(
                layout.routes[index + 1..].iter().all(|other| other.runs != route.runs),
                "one hides another"
            );
        }
    }

    #[test]
    fn nothing_overlaps_in_published_cells() {
        for (_, genotype) in zoo::all() {
            for kind in [CellKind::Normal, CellKind::Reduce] {
                nothing_overlaps(&plan(genotype.genes(kind), genotype.concat(kind)));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn nothing_overlaps_in_any_cell(choices in prop::collection::vec((0..100_usize, 0..10_usize), 0..17), used in 0..256_usize) {
            let genes: Vec<Gene> = choices
                .iter()
                .enumerate()
                .map(|(index, (input, op))| {
                    Gene::new(crate::space::genotype::CANDIDATES[*op], input % (index / 2 + 2))
                })
                .collect();
            let concat: Vec<usize> = (2..10).filter(|state| used >> (state - 2) & 1 == 1).collect();
            nothing_overlaps(&plan(&genes, &concat));
        }
    }

    #[test]
    fn the_listing_has_a_line_for_each_node() {
        let genotype = zoo::named("DARTS_V2").unwrap();
        let text = cell_text(&genotype.normal, &genotype.normal_concat);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "node 2: sep_conv_3x3(c_{k-1}) + skip_connect(c_{k-2})");
        assert_eq!(lines[3], "node 3: skip_connect(c_{k-2}) + dil_conv_3x3(node 0)");
        assert_eq!(lines[4], "c_{k}: concat(node 0, node 1, node 2, node 3)");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn states_that_are_not_there_do_not_break_the_picture() {
        let odd = [Gene::new("none", 9), Gene::new("none", 0), Gene::new("a", usize::MAX)];
        assert!(cell_svg("", &odd, &[77, 2, 2]).contains("</svg>"));
        assert!(cell_svg("", &[], &[]).contains("</svg>"));
        assert_eq!(number(-0.001), "0");
    }
}
