//! Cells drawn at random from a space: what a search has to beat (Li and Talwalkar, arXiv 1902.07638; Yu et al., arXiv
//! 1902.08142).

use super::genotype::{Gene, Genotype};
use crate::device::random::{Purpose, stream};
use crate::error::{Error, Result};
use rand::seq::{IndexedRandom, index};

/// Cell number `index` of those drawn from `seed`: every node reads two different states before it through operations
/// other than `none`, all with the same probability; all nodes are concatenated. What the published rule of
/// discretisation can give, and nothing else.
///
/// # Errors
/// [`Error::Config`] if `candidates` has no operation besides `none`.
pub fn genotype(candidates: &[String], nodes: usize, seed: u64, index: u64) -> Result<Genotype> {
    let ops: Vec<&String> = candidates.iter().filter(|name| *name != "none").collect();
    let mut rng = stream(seed, Purpose::RandomCells, index, 0);
    let mut cell = || -> Result<Vec<Gene>> {
        let mut genes = Vec::with_capacity(2 * nodes);
        for node in 0..nodes {
            let mut inputs = index::sample(&mut rng, node + 2, 2).into_vec();
            inputs.sort_unstable();
            for input in inputs {
                let op = ops.choose(&mut rng).ok_or_else(|| {
                    Error::config(
                        "space.candidates",
                        "lists no operation besides none, so there is nothing to draw",
                    )
                })?;
                genes.push(Gene { op: op.to_string(), input });
            }
        }
        Ok(genes)
    };
    let concat: Vec<usize> = (2..nodes + 2).collect();
    Ok(Genotype { normal: cell()?, normal_concat: concat.clone(), reduce: cell()?, reduce_concat: concat })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_edge_and_operation_is_as_likely() {
        let candidates = ["none", "skip_connect", "sep_conv_3x3", "max_pool_3x3"].map(String::from);
        let (mut ops, mut pairs) = (HashMap::new(), HashMap::new());
        const DRAWN: u64 = 3000;
        for k in 0..DRAWN {
            let cell = genotype(&candidates, 2, 7, k).unwrap();
            cell.validate().unwrap();
            for gene in cell.normal.iter().chain(&cell.reduce) {
                *ops.entry(gene.op.clone()).or_insert(0) += 1;
            }
            *pairs.entry([cell.normal[2].input, cell.normal[3].input]).or_insert(0) += 1;
        }
        assert_eq!(genotype(&candidates, 2, 7, 5).unwrap(), genotype(&candidates, 2, 7, 5).unwrap());
        // five deviations of a binomial
        let near = |count: i32, of: f64, p: f64| {
            (f64::from(count) - of * p).abs() < 5.0 * (of * p * (1.0 - p)).sqrt()
        };
        assert_eq!((ops.len(), pairs.len()), (3, 3));
        assert!(ops.values().all(|&count| near(count, 8.0 * DRAWN as f64, 1.0 / 3.0)), "{ops:?}");
        assert!(pairs.values().all(|&count| near(count, DRAWN as f64, 1.0 / 3.0)), "{pairs:?}");
    }

    #[test]
    fn nothing_but_none_is_refused() {
        assert!(genotype(&["none".to_owned()], 2, 0, 0).is_err());
    }
}
