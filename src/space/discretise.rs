//! From the weights of a search to a cell: the published rule.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::space::genotype::{Gene, MAX_NODES};

/// How many inputs a node keeps.
const KEPT: usize = 2;

/// [`discretise_by_edge`] where all edges have the same `candidates`.
pub fn discretise(weights: &[Vec<f64>], candidates: &[String], nodes: usize) -> Result<Vec<Gene>> {
    discretise_by_edge(weights, &vec![candidates.to_vec(); weights.len()], nodes)
}

/// The genes of one cell, two a node, from its mixing weights (Liu et al. 2019, section 2.4).
///
/// `weights` has a row for each edge (node 0: from states 0, 1; node 1: from states 0, 1, 2; and so on, so `2 + 3 +
/// ...` rows for `nodes` nodes) and in it a column for each of that edge's `candidates`: the softmax of alpha over
/// them. `none` may be among the candidates; it is never chosen and does not count for an edge's strength.
///
/// Each node keeps its two strongest edges, an edge's strength being its largest weight, and on each the candidate
/// of that weight. Ties keep the lower index. The order is by strength, as in the published code.
///
/// # Errors
/// [`Error::Shape`] if `nodes` or a node's other candidates are none, or the rows or columns are not as many as above;
/// [`Error::NotFinite`] if a weight is NaN or infinite.
pub fn discretise_by_edge(
    weights: &[Vec<f64>],
    candidates: &[Vec<String>],
    nodes: usize,
) -> Result<Vec<Gene>> {
    check(weights, candidates, nodes)?;
    let mut genes = Vec::with_capacity(KEPT * nodes);
    let mut first = 0;
    for node in 0..nodes {
        let into = first..first + node + 2;
        let mut edges: Vec<(Gene, f64)> = (weights[into.clone()].iter().zip(&candidates[into]).enumerate())
            .filter_map(|(input, (row, names))| {
                let (column, weight) = strongest(row, names)?;
                Some((Gene::new(&names[column], input), weight))
            })
            .collect();
        first += node + 2;
        if edges.len() < KEPT {
            let what = format!(
                "there is no candidate to choose besides `none` on enough edges of node {node}; give {KEPT} of them an operation"
            );
            return Err(Error::shape("discretise", what));
        }
        // Stable, so equal edges stay in the order of their inputs.
        edges.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        genes.extend(edges.into_iter().take(KEPT).map(|(gene, _)| gene));
    }
    Ok(genes)
}

/// Column and weight of the largest weight that is not of `none`; the first of equals.
fn strongest(row: &[f64], candidates: &[String]) -> Option<(usize, f64)> {
    let mut best: Option<(usize, f64)> = None;
    for (column, (weight, name)) in row.iter().zip(candidates).enumerate() {
        if name != "none" && best.is_none_or(|(_, largest)| *weight > largest) {
            best = Some((column, *weight));
        }
    }
    best
}

fn check(weights: &[Vec<f64>], candidates: &[Vec<String>], nodes: usize) -> Result<()> {
    let refuse = |what: String| Err(Error::shape("discretise", what));
    if !(1..=MAX_NODES).contains(&nodes) {
        return refuse(format!("a cell cannot have {nodes} nodes; give 1 to {MAX_NODES}"));
    }
    let edges: usize = (0..nodes).map(|node| node + 2).sum();
    if weights.len() != edges {
        return refuse(format!(
            "{nodes} nodes have {edges} edges, but the weights have {} rows",
            weights.len()
        ));
    }
    if candidates.len() != edges {
        let lists = candidates.len();
        return refuse(format!(
            "{nodes} nodes have {edges} edges, but there are {lists} lists of candidates"
        ));
    }
    for (edge, (row, names)) in weights.iter().zip(candidates).enumerate() {
        if row.len() != names.len() {
            let (found, wanted) = (row.len(), names.len());
            return refuse(format!(
                "edge {edge} has {found} weights for {wanted} candidates; give one for each"
            ));
        }
        if let Some(weight) = row.iter().find(|weight| !weight.is_finite()) {
            let what = format!(
                "discretise: a weight of edge {edge} is {weight}; resume the search from before that"
            );
            return Err(Error::NotFinite { what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn ties_keep_the_lower_index_and_none_never_counts() {
        let candidates = names(&["none", "max_pool_3x3", "skip_connect"]);
        // Node 0 from state 1 first, since it is stronger; node 1 from the first two of three equal edges.
        let weights = [[0.6, 0.2, 0.2], [0.1, 0.4, 0.5], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.0, 0.1, 0.1]];
        let weights: Vec<Vec<f64>> = weights.iter().map(|row| row.to_vec()).collect();
        let genes = discretise(&weights, &candidates, 2).unwrap();
        let wanted = [("skip_connect", 1), ("max_pool_3x3", 0), ("max_pool_3x3", 0), ("max_pool_3x3", 1)];
        assert_eq!(genes, wanted.map(|(op, input)| Gene::new(op, input)));
    }

    #[test]
    fn every_edge_has_its_own_candidates() {
        let candidates = [&["none", "sep_conv_3x3"][..], &["skip_connect"]];
        let candidates = candidates.map(names);
        let genes = discretise_by_edge(&[vec![0.3, 0.7], vec![1.0]], &candidates, 1).unwrap();
        assert_eq!(genes, [Gene::new("skip_connect", 1), Gene::new("sep_conv_3x3", 0)]);
        let short = discretise_by_edge(&[vec![0.3, 0.7], vec![1.0]], &candidates[..1], 1).unwrap_err();
        assert!(short.to_string().contains("1 lists of candidates"), "{short}");
        let none = [candidates[1].clone(), names(&["none"])];
        let none = discretise_by_edge(&[vec![1.0], vec![1.0]], &none, 1).unwrap_err();
        assert!(none.to_string().contains("besides `none` on enough edges of node 0"), "{none}");
    }

    #[test]
    fn weights_of_another_size_are_refused() {
        let two = vec![vec![0.5, 0.5]; 2];
        let candidates = names(&["none", "skip_connect"]);
        assert!(discretise(&two, &candidates, 1).is_ok());
        let message = |weights: &[Vec<f64>], list: &[&str], nodes| {
            discretise(weights, &names(list), nodes).unwrap_err().to_string()
        };
        assert!(message(&two, &["none", "none"], 1).contains("besides `none`"));
        assert!(message(&two, &[], 1).contains("edge 0 has 2 weights for 0 candidates"));
        assert!(message(&two, &["none", "skip_connect"], 2).contains("2 nodes have 5 edges"));
        assert!(message(&two, &["skip_connect"], 1).contains("edge 0 has 2 weights for 1 candidates"));
        assert!(message(&two, &["none", "skip_connect"], 0).contains("0 nodes"));
        assert!(message(&two, &["none", "skip_connect"], usize::MAX).contains("give 1 to 64"));
        assert!(
            message(&[vec![0.5, f64::NAN], vec![0.5, 0.5]], &["none", "skip_connect"], 1).contains("NaN")
        );
    }
}
