//! Settings in a page: those that matter in a line, all of them folded, those in which runs differ.

use super::read::Run;
use super::text::escape;
use crate::run::cli::counted;
use crate::run::config::keys::{KEYS, SECTIONS};
use crate::run::config::{Configuration, show};
use crate::search::Order;

/// What was searched on what, in pairs of a word and its value.
pub fn essential(run: &Run) -> Vec<(&'static str, String)> {
    let c = &run.config;
    let order = match c.search.order {
        Order::First => "first",
        Order::Second => "second (unrolled)",
        Order::Exact => "exact (unrolled)",
    };
    let data = if c.data.dir.as_os_str().is_empty() {
        c.data.name.clone()
    } else {
        format!("{}, {}", c.data.name, c.data.dir.display())
    };
    vec![
        ("data", data),
        (
            "space",
            format!(
                "{}, C = {}, {}, {}",
                c.space.name,
                c.space.channels,
                counted(c.space.cells, "cell"),
                counted(c.space.nodes, "node")
            ),
        ),
        ("order", order.into()),
        ("epochs", format!("{} of {}", run.epochs.len(), c.search.epochs)),
        ("batch", c.search.batch_size.to_string()),
        ("seed", c.search.seed.to_string()),
        ("learning rates", format!("weights {}, alphas {}", c.weights.learning_rate, c.alpha.learning_rate)),
        ("device", format!("{}, {}", c.run.device, c.run.precision)),
    ]
}

/// Every setting with its meaning, under a heading that unfolds it.
pub fn all(run: &Run) -> String {
    let table = run.config.table();
    let mut out = String::from("<details><summary>All settings</summary>\n<table class=\"settings\">\n");
    for (section, title) in SECTIONS {
        out += &format!("<tbody><tr><th colspan=\"3\">{}</th></tr>\n", escape(title));
        for key in KEYS.iter().filter(|key| key.section() == section) {
            let value = key.of(&table);
            let class = if value == key.default() { "" } else { " class=\"changed\"" };
            let shown = escape(&show(value).replace(',', ", "));
            out += &format!(
                "<tr{class}><td>{}</td><td>{shown}</td><td>{}</td></tr>\n",
                key.path,
                escape(key.help)
            );
        }
        out += "</tbody>\n";
    }
    out + "</table>\n<p class=\"note\">Bold: other than the default.</p>\n</details>\n"
}

/// A table of the settings in which `runs` differ, but for where they were written to.
pub fn differing(runs: &[Run]) -> String {
    let tables: Vec<_> = runs.iter().map(|run| run.config.table()).collect();
    let mut rows = String::new();
    for key in KEYS.iter().filter(|key| key.path != "run.out") {
        let values: Vec<_> = tables.iter().map(|table| key.of(table)).collect();
        if values.iter().all(|value| *value == values[0]) {
            continue;
        }
        rows += &format!("<tr><th>{}</th>", key.path);
        for value in values {
            rows += &format!("<td>{}</td>", escape(&show(value).replace(',', ", ")));
        }
        rows += "</tr>\n";
    }
    if rows.is_empty() {
        return "<p class=\"note\">None: the runs have the same settings.</p>\n".into();
    }
    rows
}
