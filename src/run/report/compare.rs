//! The page of several runs: their curves in the same charts, their settings where they differ, their cells.

use super::chart::legend_item;
use super::curves::{ACCURACY, ENTROPY, LOSS, MEMORY, SKIPS, STEP_TIME, class};
use super::drawings::drawing;
use super::page::{figures, frame};
use super::read::{KINDS, Run};
use super::selection;
use super::settings;
use super::text::escape;
use crate::run::select::Comparison;
use std::path::PathBuf;

/// Runs in folders of the same name are called by their whole paths instead, and by a number if even those agree.
pub fn distinguish(runs: &mut [Run], folders: &[PathBuf]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, folder) in runs.iter_mut().zip(folders) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = folder.display().to_string();
        }
    }
    for index in 1..runs.len() {
        let same = runs[..index].iter().filter(|run| run.name == runs[index].name).count();
        if same > 0 {
            runs[index].name = format!("{} ({})", runs[index].name, same + 1);
        }
    }
}

/// The comparison of runs, with that of their cells trained if they were.
pub fn page(runs: &[Run], trained: Option<&Comparison>) -> String {
    let mut body = String::from("<header>\n<p class=\"over\">Oche · comparison of searches</p>\n");
    body += &format!("<h1>{} runs</h1>\n<p class=\"legend runs\">", runs.len());
    for (index, run) in runs.iter().enumerate() {
        body += &legend_item(&class(index), &run.name);
    }
    body += "</p>\n</header>\n";
    body += &trained.map_or(String::new(), selection::section);
    body += "<section>\n<h2>Results</h2>\n";
    body += &table(runs, &results(runs));
    body += "<h2>Settings that differ</h2>\n";
    let differing = settings::differing(runs);
    body += &if differing.starts_with("<tr>") { table(runs, &differing) } else { differing };
    body += "</section>\n<section>\n<h2>Learning</h2>\n<div class=\"charts\">\n";
    for (title, kind, line) in [
        ("Train loss", LOSS, 0),
        ("Valid loss", LOSS, 1),
        ("Train accuracy", ACCURACY, 0),
        ("Valid accuracy", ACCURACY, 1),
    ] {
        body += &kind.compared(title, line, runs);
    }
    body += "</div>\n</section>\n<section>\n<h2>Architecture</h2>\n<div class=\"charts\">\n";
    for (title, kind, line) in [
        ("Entropy, normal cell", ENTROPY, 0),
        ("Entropy, reduction cell", ENTROPY, 1),
        ("Skip connections, normal cell", SKIPS, 0),
        ("Skip connections, reduction cell", SKIPS, 1),
    ] {
        body += &kind.compared(title, line, runs);
    }
    body += "</div>\n</section>\n<section>\n<h2>Time and memory</h2>\n<div class=\"charts\">\n";
    body += &STEP_TIME.compared("Time of a step", 0, runs);
    body += &MEMORY.compared("Memory of tensors at the peak", 0, runs);
    body += "</div>\n</section>\n<section>\n<h2>Cells</h2>\n<div class=\"beside\">\n";
    for (index, run) in runs.iter().enumerate() {
        body += &format!("<article>\n<h3 class=\"legend\">{}</h3>\n", legend_item(&class(index), &run.name));
        for kind in 0..KINDS.len() {
            body += &format!("<div class=\"cell\">\n{}</div>\n", drawing(&run.genotype, kind));
        }
        body += &format!("<pre class=\"genotype\">{}</pre>\n</article>\n", escape(&run.genotype.to_string()));
    }
    body += "</div>\n</section>\n";
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    frame(&format!("{} · Oche", names.join(", ")), &body, &serde_json::json!({"frames": []}))
}

/// A table with a column a run.
fn table(runs: &[Run], rows: &str) -> String {
    let mut out = String::from("<div class=\"wide\"><table>\n<thead><tr><td></td>");
    for (index, run) in runs.iter().enumerate() {
        out += &format!("<th class=\"legend\">{}</th>", legend_item(&class(index), &run.name));
    }
    out + "</tr></thead>\n<tbody>\n" + rows + "</tbody>\n</table></div>\n"
}

fn results(runs: &[Run]) -> String {
    let all: Vec<Vec<(String, &str)>> = runs.iter().map(figures).collect();
    let mut words = vec!["epochs"];
    for (_, word) in all.iter().flatten() {
        if !words.contains(word) {
            words.push(word);
        }
    }
    let mut rows = String::new();
    for word in words {
        rows += &format!("<tr><th>{word}</th>");
        for (run, figures) in runs.iter().zip(&all) {
            let value = figures.iter().find(|(_, known)| *known == word).map(|(value, _)| value.clone());
            let value = if word == "epochs" { Some(run.epochs.len().to_string()) } else { value };
            rows += &format!("<td>{}</td>", escape(&value.unwrap_or_else(|| "–".into())));
        }
        rows += "</tr>\n";
    }
    rows
}
