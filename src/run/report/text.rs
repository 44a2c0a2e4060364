//! Text and numbers as they stand in a page: escaped, short, the same everywhere.

use crate::run::draw::printable;

/// `text` for a page, as content or in a quoted attribute; what comes from files or settings has to pass here.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// JSON that may stand in a script of a page, also inside of CDATA: nothing in it ends either.
pub fn for_script(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for (at, c) in json.char_indices() {
        let rest = &json.as_bytes()[at + 1..];
        let begins =
            |word: &str| rest.get(..word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word.as_bytes()));
        match c {
            '<' if begins("/") || begins("!") || begins("script") => out += "\\u003c",
            '>' if out.ends_with("]]") => out += "\\u003e",
            c => out.push(c),
        }
    }
    out
}

/// Four digits that count, without an exponent where a person would write none.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { "–".into() };
    }
    if !(1e-4..1e7).contains(&size) {
        return format!("{value:.2e}").replace('-', "−");
    }
    let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
    signed(&format!("{value:.decimals$}"))
}

/// With the minus sign of print.
pub fn signed(text: &str) -> String {
    text.replace('-', "−")
}

/// A coordinate: at most one decimal.
pub fn coordinate(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    format!("{}", rounded + 0.0)
}

/// How an edge is named: what it reads and the node it adds to.
pub fn edge_name(from: usize, node: usize) -> String {
    let from = match from {
        0 => "c_{k-2}".to_owned(),
        1 => "c_{k-1}".to_owned(),
        state => (state - 2).to_string(),
    };
    format!("{from} → {node}")
}

/// All edges of a cell of `nodes` nodes in the order of the rows of alpha: state read and node.
pub fn edges(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(|node| (0..node + 2).map(move |from| (from, node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_the_script_or_its_cdata() {
        let told = for_script(r#"["</ScRipt>","<!--","<SCRIPT>","<svg>]]>"]"#);
        assert_eq!(told, r#"["\u003c/ScRipt>","\u003c!--","\u003cSCRIPT>","<svg>]]\u003e"]"#);
        let back: Vec<String> = serde_json::from_str(&told).unwrap();
        assert_eq!(back, ["</ScRipt>", "<!--", "<SCRIPT>", "<svg>]]>"]);
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.123456, 12.3456, 123_456.7, 1.5e9, -0.5, 3e-7].map(number);
        assert_eq!(shown, ["0", "0.1235", "12.35", "123457", "1.50e9", "−0.5000", "3.00e−7"]);
        assert_eq!(escape("<a href=\"x\">&'\u{1}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}");
    }
}
