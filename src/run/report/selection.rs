//! The part of a page that sets found cells beside random ones: a dot a cell, and what follows in words.

use super::chart::Axis;
use super::text::{coordinate, escape};
use crate::run::cli::counted;
use crate::run::select::{Comparison, Spread};

const WIDTH: f64 = 1040.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 24.0;
/// Height of a row of dots.
const ROW: f64 = 46.0;
const TOP: f64 = 8.0;

/// Both sides, with the class that colours each.
const SIDES: [(&str, &str); 2] = [("found", "s0"), ("random", "s7")];

/// The section of a page.
pub fn section(all: &Comparison) -> String {
    let mut out =
        String::from("<section id=\"selection\">\n<h2>Found cells and cells drawn at random</h2>\n");
    out += &format!(
        "<p class=\"note\">Each trained from scratch for {}, in the same way, on the half of the images that trains the weights; \
         accuracy on the other half. The best found cell was chosen by the accuracy that it is given here, which makes it look better \
         than it is.</p>\n",
        counted(all.epochs, "epoch")
    );
    out += "<figure class=\"chart\">\n<figcaption><b>Accuracy</b> <span class=\"unit\">%, a dot a cell; the bar is their mean</span></figcaption>\n";
    out += &plot(all);
    out += "</figure>\n<div class=\"wide\"><table>\n<thead><tr><th>cells</th><th>mean</th><th>deviation</th><th>count</th></tr></thead>\n<tbody>\n";
    for ((word, _), spread) in SIDES.iter().zip(all.spreads()) {
        out += &spread.map_or(String::new(), |spread| row(word, spread));
    }
    out += "</tbody>\n</table></div>\n";
    let said: Vec<String> = all.verdict().iter().map(|line| escape(line.trim())).collect();
    out + &format!("<p>{}</p>\n</section>\n", said.join("<br/>"))
}

fn row(word: &str, Spread { mean, deviation, count }: Spread) -> String {
    let deviation = deviation.map_or("–".into(), |d| format!("{d:.2}"));
    format!("<tr><th>{word}</th><td>{mean:.2} %</td><td>{deviation}</td><td>{count}</td></tr>\n")
}

fn plot(all: &Comparison) -> String {
    let sides = [&all.found, &all.random];
    let values = || sides.iter().flat_map(|side| side.iter()).map(|(_, accuracy)| *accuracy);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let mut x = Axis::new(low, high, false, 6.0, true);
    x.places = [LEFT, WIDTH - RIGHT];
    let floor = TOP + ROW * sides.len() as f64;
    let mut out = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">\n<g class=\"axes\">",
        floor + 24.0,
        escape(&all.verdict().join(" "))
    );
    for &tick in &x.ticks {
        let at = coordinate(x.place(tick));
        out += &format!("<path d=\"M{at} {TOP}V{floor}\"/>");
        out += &format!("<text x=\"{at}\" y=\"{}\" class=\"x\">{}</text>", floor + 17.0, x.label(tick));
    }
    out += &format!("<path class=\"base\" d=\"M{LEFT} {floor}H{}\"/>", WIDTH - RIGHT);
    for (k, ((word, class), side)) in SIDES.iter().zip(sides).enumerate() {
        let middle = TOP + ROW * (k as f64 + 0.5);
        out += &format!("<text x=\"{}\" y=\"{}\" class=\"y\">{word}</text></g>", LEFT - 12.0, middle + 4.0);
        let accuracies: Vec<f64> = side.iter().map(|(_, accuracy)| *accuracy).collect();
        if let Some(spread) = Spread::of(&accuracies) {
            let at = coordinate(x.place(spread.mean));
            out += &format!("<path class=\"line {class}\" d=\"M{at} {}v{}\"/>", middle - 15.0, 30);
        }
        out += &format!("<g class=\"dots {class}\">");
        for (name, accuracy) in side {
            out += &format!(
                "<circle cx=\"{}\" cy=\"{middle}\" r=\"4.5\"><title>{} {accuracy:.2} %</title></circle>",
                coordinate(x.place(*accuracy)),
                escape(name)
            );
        }
        out += "</g>\n<g class=\"axes\">";
    }
    out + "</g></svg>\n"
}
