//! The page of one run, put together.

use super::alpha::{self, Frame};
use super::chart::legend_item;
use super::curves::{
    self, ACCURACY, ENTROPY, EPOCH_TIME, LEARNING_RATE, LOSS, MEMORY, RATE, SKIPS, STEP_TIME,
};
use super::drawings::{Drawings, drawing};
use super::read::{KINDS, Run, mean};
use super::selection;
use super::settings;
use super::text::{escape, for_script, number};
use crate::run::select::Comparison;
use serde_json::json;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A whole page around `body`, whose script gets `data`.
pub fn frame(title: &str, body: &str, data: &serde_json::Value) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"data:,\"/>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(title)
    );
    out += body;
    out += "</main>\n<script>\n//<![CDATA[\nconst data = ";
    out += &for_script(&data.to_string());
    out += ";\n";
    out += SCRIPT;
    out + "//]]>\n</script>\n</body>\n</html>\n"
}

/// The report of a run, with the comparison of its cell and others trained if it was.
pub fn page(run: &Run, trained: Option<&Comparison>) -> String {
    let chosen = alpha::chosen(run);
    let mut drawings = Drawings::default();
    let candidates = &run.config.space.candidates;
    let frames: Vec<Frame> =
        chosen.iter().map(|epoch| alpha::frame(epoch, candidates, &mut drawings)).collect();

    let mut body = heading(run);
    body += &cells(run, &frames);
    body += &trained.map_or(String::new(), selection::section);
    body += "<section>\n<h2>Learning</h2>\n<div class=\"charts\">\n";
    body += &[LOSS.figure(run), ACCURACY.figure(run)].concat();
    if !run.steps.is_empty() {
        body += &curves::steps(run);
    }
    body += &LEARNING_RATE.figure(run);
    body += "</div>\n</section>\n<section>\n<h2>Architecture</h2>\n<div class=\"charts\">\n";
    body += &[ENTROPY.figure(run), SKIPS.figure(run)].concat();
    body += &format!("</div>\n<p class=\"note\">{}</p>\n", undecided(candidates.len()));
    body += &weights(run, &chosen);
    body += "</section>\n<section>\n<h2>Time and memory</h2>\n<div class=\"charts\">\n";
    if run.epochs.iter().any(|epoch| epoch.seconds_a_step.is_some()) {
        body += &[STEP_TIME.figure(run), RATE.figure(run)].concat();
    }
    body += &[EPOCH_TIME.figure(run), MEMORY.figure(run)].concat();
    body += "</div>\n</section>\n<section>\n<h2>Settings</h2>\n";
    body += &settings::all(run);
    body += "</section>\n";
    let data = json!({"repeated": Drawings::repeated(), "drawings": drawings.list, "frames": frames});
    frame(&format!("{} · Oche", run.name), &body, &data)
}

fn undecided(candidates: usize) -> String {
    let most = (candidates as f64).ln();
    format!("An undecided edge has an entropy of ln {candidates} = {}, a decided one of 0.", number(most))
}

fn heading(run: &Run) -> String {
    let mut out = format!(
        "<header>\n<p class=\"over\">Oche · report of a search</p>\n<h1>{}</h1>\n",
        escape(&run.name)
    );
    out += "<dl class=\"facts\">\n";
    for (word, value) in settings::essential(run) {
        out += &format!("<div><dt>{word}</dt><dd>{}</dd></div>\n", escape(&value));
    }
    out += "</dl>\n<ul class=\"tiles\">\n";
    for (value, word) in figures(run) {
        out += &format!("<li><b>{}</b> {word}</li>\n", escape(&value));
    }
    out + "</ul>\n</header>\n"
}

/// The numbers that a run is judged by, each with its words.
pub fn figures(run: &Run) -> Vec<(String, &'static str)> {
    let Some(last) = run.last() else { return vec![] };
    let best = run.epochs.iter().map(|epoch| epoch.valid.accuracy).fold(0.0, f64::max);
    let mut list = vec![
        (format!("{:.2} %", last.valid.accuracy), "valid accuracy"),
        (format!("{best:.2} %"), "best valid accuracy"),
        (number(last.valid.loss), "valid loss"),
        (number(last.train.loss), "train loss"),
    ];
    let seconds: Vec<f64> = run.epochs.iter().filter_map(|epoch| epoch.seconds_a_step).collect();
    list.extend(mean(&seconds).map(|mean| (format!("{} s", number(mean)), "a step")));
    let peak = run.epochs.iter().filter_map(|epoch| epoch.peak_rss_bytes).max();
    list.extend(peak.map(|bytes| (format!("{:.0} MB", bytes as f64 / 1e6), "at the peak")));
    list
}

fn cells(run: &Run, frames: &[Frame]) -> String {
    let Some(last) = frames.last() else { return String::new() };
    let mut out = String::from("<section id=\"cells\">\n<h2>Cells</h2>\n");
    out += "<form class=\"replay\" hidden=\"hidden\"><label for=\"epoch\">Epoch</label> ";
    out += &format!(
        "<input id=\"epoch\" type=\"range\" min=\"0\" max=\"{0}\" value=\"{0}\" step=\"1\"/> <output for=\"epoch\">{1} of {2}</output> \
         <button type=\"button\">Play</button></form>\n",
        frames.len() - 1,
        last.epoch,
        run.config.search.epochs
    );
    for index in 0..KINDS.len() {
        let drawn = drawing(&run.genotype, index);
        out += &format!("<div class=\"cell\" data-cell=\"{index}\">\n{drawn}</div>\n");
    }
    out +=
        "<h3>Genotype <span class=\"unit\">as other tools read it; a click selects all of it</span></h3>\n";
    out += &format!(
        "<pre class=\"genotype\">{}</pre>\n<div class=\"charts\">\n",
        escape(&run.genotype.to_string())
    );
    for index in 0..KINDS.len() {
        out += &alpha::heat_map(run, last, index, alpha::range(frames, index));
    }
    out + "</div>\n</section>\n"
}

/// The weights of the candidates over the epochs.
fn weights(run: &Run, chosen: &[&super::read::Epoch]) -> String {
    let mut out = String::from(
        "<h3>Weights of the candidates <span class=\"unit\">softmax(alpha) in percent by epoch; of each edge the four that are strongest at the end</span></h3>\n<p class=\"legend\">",
    );
    for name in &run.config.space.candidates {
        out += &legend_item(&alpha::colour(name), name);
    }
    out += "</p>\n";
    for index in 0..KINDS.len() {
        out += &alpha::curves(run, chosen, index);
    }
    out
}
