//! Finds the known name closest to a mistyped one, for error messages of every layer.

/// The known name nearest to `name` (case ignored), or none when all are too far to be a slip of the keyboard.
///
/// Distance counts insertions, deletions, substitutions and swaps of neighbours (optimal string alignment);
/// at most a third of the name, and at least one letter, may differ. Ties go to the earlier known name.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    // No known name is this long, and the table below is quadratic.
    if name.len() > 64 {
        return None;
    }
    let limit = (name.len() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&name, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a sentence about an unknown name: `did you mean X?` or `use one of A, B, C`.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("use one of {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
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
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
        assert!(hint("attention", known).starts_with("use one of none, skip_connect"));
    }

    #[test]
    fn distance_counts_swaps_once() {
        let count =
            |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("abcd", "abdc"), 1);
        assert_eq!(count("kitten", "sitting"), 3);
    }
}
