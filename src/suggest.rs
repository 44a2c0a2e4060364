//! Finds the known name closest to a mistyped one, for error messages of every layer.

/// The known name most like `name` (case ignored), or none when all are too far to be a slip of the keyboard.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let likeness = |known: &&str| strsim::jaro_winkler(&name, &known.to_lowercase());
    let best = known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.75).then_some(best)
}

/// The end of a sentence about an unknown name: `did you mean X?` or `use one of A, B, C`.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("use one of {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["none", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"];
        assert_eq!(nearest("sep_conv3x3", known), Some("sep_conv_3x3"));
        assert_eq!(nearest("SEP_CONV_5X5", known), Some("sep_conv_5x5"));
        assert_eq!(nearest("skip_conenct", known), Some("skip_connect"));
        assert_eq!(nearest("noen", known), Some("none"));
        assert_eq!(nearest("attention", known), None);
        assert_eq!(nearest("", known), None);
        assert!(hint("attention", known).starts_with("use one of none, skip_connect"));
    }
}
