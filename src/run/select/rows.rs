//! What `selection.jsonl` says: a row for each search and each cell trained, and what follows from them.

use serde::{Deserialize, Serialize};

/// A row of `selection.jsonl`; accuracies in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Row {
    /// A search that is over. `valid_accuracy` is its supernet's, which is no measure of the cell.
    Search { name: String, seed: u64, valid_accuracy: f64 },
    /// A cell that was trained: a search's, or one drawn at random. `accuracy` is that of the held-back images after
    /// the last epoch.
    Cell { name: String, random: bool, genotype: String, epochs: usize, accuracy: f64, top5: f64 },
}

impl Row {
    pub fn name(&self) -> &str {
        match self {
            Self::Search { name, .. } | Self::Cell { name, .. } => name,
        }
    }
}

/// Mean and sample standard deviation of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f64,
    /// Needs two numbers.
    pub deviation: Option<f64>,
    pub count: usize,
}

impl Spread {
    /// None of no numbers.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = (count > 0).then(|| values.iter().sum::<f64>() / count as f64)?;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Self { mean, deviation, count })
    }
    /// As `81.20 ± 0.35 % (4)`.
    pub fn text(&self) -> String {
        let Self { mean, count, .. } = self;
        let deviation = self.deviation.map_or(String::new(), |d| format!(" ± {d:.2}"));
        format!("{mean:.2}{deviation} % ({count})")
    }
}

/// Cells trained alike, the found ones beside those drawn at random.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Name and accuracy, in the order of the searches.
    pub found: Vec<(String, f64)>,
    pub random: Vec<(String, f64)>,
    pub epochs: usize,
}

impl Comparison {
    /// None before a cell is trained.
    pub fn of(rows: &[Row]) -> Option<Self> {
        let mut all = Self { found: vec![], random: vec![], epochs: 0 };
        for row in rows {
            if let Row::Cell { name, random, accuracy, epochs, .. } = row {
                let side = if *random { &mut all.random } else { &mut all.found };
                side.push((name.clone(), *accuracy));
                all.epochs = *epochs;
            }
        }
        (all.epochs > 0).then_some(all)
    }
    /// Of found and of random cells.
    pub fn spreads(&self) -> [Option<Spread>; 2] {
        [&self.found, &self.random].map(|side| Spread::of(&side.iter().map(|(_, a)| *a).collect::<Vec<_>>()))
    }
    /// The best found cell, of equal ones the first.
    pub fn best(&self) -> Option<&(String, f64)> {
        self.found.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))
    }
    /// By how much the best found cell and the found cells beat random ones, in sentences. Chance alone lifts the best of
    /// several above a mean, so it is set beside the best random one too.
    pub fn verdict(&self) -> Vec<String> {
        let ([found, random], Some((name, accuracy))) = (self.spreads(), self.best()) else { return vec![] };
        let mut out = vec![format!("best    {name}: {accuracy:.2} %, the accuracy that it was chosen by")];
        let (Some(found), Some(random)) = (found, random) else { return out };
        let beaten = self.random.iter().filter(|(_, other)| accuracy > other).count();
        let side = |difference: f64| if difference < 0.0 { "below" } else { "above" };
        let by = |difference: f64| {
            let deviations = match random.deviation {
                Some(d) if d > 0.0 => format!(" ({:.1} of their deviations)", difference.abs() / d),
                _ => String::new(),
            };
            let (points, side) = (difference.abs(), side(difference));
            format!("{points:.2} points{deviations} {side} the mean of random cells")
        };
        let to_best =
            accuracy - self.random.iter().map(|(_, other)| *other).fold(f64::NEG_INFINITY, f64::max);
        out.push(format!(
            "        {}, {:.2} {} their best; better than {beaten} of {}",
            by(accuracy - random.mean),
            to_best.abs(),
            side(to_best),
            random.count
        ));
        out.push(format!("        found cells on average: {}", by(found.mean - random.mean)));
        out
    }
    /// Everything as lines.
    pub fn lines(&self) -> Vec<String> {
        let mut out = vec![format!(
            "cells trained from scratch for {} epochs, accuracy on the images held back",
            self.epochs
        )];
        let widest = self.found.iter().chain(&self.random).map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, accuracy) in self.found.iter().chain(&self.random) {
            out.push(format!("  {name:<widest$}  {accuracy:6.2} %"));
        }
        for (word, spread) in ["found", "random"].iter().zip(self.spreads()) {
            out.extend(spread.map(|spread| format!("{word:<7} {}", spread.text())));
        }
        out.extend(self.verdict());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str, random: bool, accuracy: f64) -> Row {
        Row::Cell { name: name.into(), random, genotype: String::new(), epochs: 3, accuracy, top5: 100.0 }
    }

    #[test]
    fn spreads_are_of_samples() {
        assert_eq!(Spread::of(&[]), None);
        let two = Spread::of(&[80.0, 82.0]).unwrap();
        assert_eq!((two.mean, two.deviation, two.count), (81.0, Some(2f64.sqrt()), 2));
        assert_eq!(Spread::of(&[80.0]).unwrap().text(), "80.00 % (1)");
    }

    #[test]
    fn the_first_of_the_best_is_chosen_and_measured_by_chance() {
        let rows = [
            cell("a", false, 80.0),
            cell("b", false, 83.0),
            cell("c", false, 83.0),
            cell("r1", true, 79.0),
            cell("r2", true, 81.0),
        ];
        let all = Comparison::of(&rows).unwrap();
        assert_eq!(all.best().unwrap().0, "b");
        let said = all.verdict().join("\n");
        assert!(said.contains("best    b: 83.00 %, the accuracy that it was chosen by\n"), "{said}");
        let line = "3.00 points (2.1 of their deviations) above the mean of random cells, 2.00 above their best; better than 2 of 2\n";
        assert!(said.contains(line), "{said}");
        assert!(Comparison::of(&[]).is_none());
    }

    #[test]
    fn what_chance_does_better_is_said() {
        let all = Comparison::of(&[cell("a", false, 70.0), cell("r1", true, 80.0)]).unwrap();
        let said = all.verdict().join("\n");
        let line =
            "10.00 points below the mean of random cells, 10.00 below their best; better than 0 of 1\n";
        assert!(said.contains(line), "{said}");
        // the best of many above the mean of few, and below the best of them
        let rows = [60.0, 79.0].map(|accuracy| cell("a", false, accuracy));
        let random = [70.0, 80.0].map(|accuracy| cell("r", true, accuracy));
        let said = Comparison::of(&[rows, random].concat()).unwrap().verdict().join("\n");
        assert!(
            said.contains("above the mean of random cells, 1.00 below their best; better than 1 of 2"),
            "{said}"
        );
    }
}
