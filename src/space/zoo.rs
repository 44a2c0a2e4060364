//! The published genotypes, by name.

use crate::error::{Error, Result};
use crate::space::genotype::{Gene, Genotype};
use crate::suggest;

/// Operation and input, as in [`Gene`].
type Cell = &'static [(&'static str, usize)];

struct Published {
    name: &'static str,
    source: &'static str,
    normal: Cell,
    normal_concat: &'static [usize],
    reduce: Cell,
    reduce_concat: &'static [usize],
}

impl Published {
    fn genotype(&self) -> Genotype {
        let genes = |cell: Cell| cell.iter().map(|&(op, input)| Gene::new(op, input)).collect();
        Genotype {
            normal: genes(self.normal),
            normal_concat: self.normal_concat.to_vec(),
            reduce: genes(self.reduce),
            reduce_concat: self.reduce_concat.to_vec(),
        }
    }
}

/// A published genotype by its published name, case ignored.
///
/// # Errors
/// [`Error::Genotype`] with the nearest name if there is none of that name.
pub fn named(name: &str) -> Result<Genotype> {
    find(name).map(Published::genotype)
}

/// Where the genotype of that name was published: authors, year and arXiv number.
///
/// # Errors
/// As [`named`].
pub fn source(name: &str) -> Result<&'static str> {
    find(name).map(|published| published.source)
}

/// Every published genotype with its name, oldest first.
pub fn all() -> impl Iterator<Item = (&'static str, Genotype)> {
    ZOO.iter().map(|published| (published.name, published.genotype()))
}

fn find(name: &str) -> Result<&'static Published> {
    ZOO.iter().find(|published| published.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let hint = suggest::hint(name, ZOO.iter().map(|published| published.name));
        Error::genotype(format!("no published genotype is called {name:?}; {hint}"))
    })
}

const NONE: &str = "none";
const MP: &str = "max_pool_3x3";
const AP: &str = "avg_pool_3x3";
const SK: &str = "skip_connect";
const S3: &str = "sep_conv_3x3";
const S5: &str = "sep_conv_5x5";
const S7: &str = "sep_conv_7x7";
const D3: &str = "dil_conv_3x3";
const D5: &str = "dil_conv_5x5";
const C7: &str = "conv_7x1_1x7";

/// The concat of all cells with four nodes.
const FOUR: &[usize] = &[2, 3, 4, 5];

#[rustfmt::skip]
static ZOO: [Published; 13] = [
    Published {
        name: "NASNet",
        source: "Zoph et al. 2018, arXiv:1707.07012",
        normal: &[(S5, 1), (S3, 0), (S5, 0), (S3, 0), (AP, 1), (SK, 0), (AP, 0), (AP, 0), (S3, 1), (SK, 1)],
        normal_concat: &[2, 3, 4, 5, 6],
        reduce: &[(S5, 1), (S7, 0), (MP, 1), (S7, 0), (AP, 1), (S5, 0), (SK, 3), (AP, 2), (S3, 2), (MP, 1)],
        reduce_concat: &[4, 5, 6],
    },
    Published {
        name: "AmoebaNet",
        source: "Real et al. 2019, arXiv:1802.01548",
        normal: &[(AP, 0), (MP, 1), (S3, 0), (S5, 2), (S3, 0), (AP, 3), (S3, 1), (SK, 1), (SK, 0), (AP, 1)],
        normal_concat: &[4, 5, 6],
        reduce: &[(AP, 0), (S3, 1), (MP, 0), (S7, 2), (S7, 0), (AP, 1), (MP, 0), (MP, 1), (C7, 0), (S3, 5)],
        reduce_concat: &[3, 4, 6],
    },
    Published {
        name: "DARTS_V1",
        source: "Liu et al. 2019, arXiv:1806.09055 (first order)",
        normal: &[(S3, 1), (S3, 0), (SK, 0), (S3, 1), (SK, 0), (S3, 1), (S3, 0), (SK, 2)],
        normal_concat: FOUR,
        reduce: &[(MP, 0), (MP, 1), (SK, 2), (MP, 0), (MP, 0), (SK, 2), (SK, 2), (AP, 0)],
        reduce_concat: FOUR,
    },
    Published {
        name: "DARTS_V2",
        source: "Liu et al. 2019, arXiv:1806.09055 (second order)",
        normal: &[(S3, 0), (S3, 1), (S3, 0), (S3, 1), (S3, 1), (SK, 0), (SK, 0), (D3, 2)],
        normal_concat: FOUR,
        reduce: &[(MP, 0), (MP, 1), (SK, 2), (MP, 1), (MP, 0), (SK, 2), (SK, 2), (MP, 1)],
        reduce_concat: FOUR,
    },
    Published {
        name: "SNAS_mild",
        source: "Xie et al. 2019, arXiv:1812.09926 (mild constraint)",
        normal: &[(S3, 0), (S3, 1), (SK, 0), (D3, 1), (SK, 0), (SK, 1), (SK, 0), (S3, 1)],
        normal_concat: FOUR,
        reduce: &[(MP, 0), (MP, 1), (MP, 1), (SK, 2), (MP, 1), (SK, 2), (MP, 0), (D5, 2)],
        reduce_concat: FOUR,
    },
    Published {
        name: "SNAS_moderate",
        source: "Xie et al. 2019, arXiv:1812.09926 (moderate constraint)",
        normal: &[(D5, 0), (SK, 1), (S3, 0), (SK, 1), (SK, 0), (SK, 1), (S3, 0), (D5, 1)],
        normal_concat: FOUR,
        reduce: &[(MP, 0), (MP, 1), (S5, 0), (D5, 1), (S5, 0), (S5, 1), (S5, 0), (S5, 1)],
        reduce_concat: FOUR,
    },
    Published {
        name: "SNAS_aggressive",
        source: "Xie et al. 2019, arXiv:1812.09926 (aggressive constraint)",
        normal: &[(S5, 0), (SK, 1), (SK, 0), (SK, 1), (D5, 1), (SK, 0), (SK, 0), (D5, 1)],
        normal_concat: FOUR,
        reduce: &[(S5, 0), (NONE, 1), (S5, 0), (NONE, 1), (NONE, 1), (NONE, 0), (NONE, 1), (NONE, 0)],
        reduce_concat: FOUR,
    },
    Published {
        name: "PDARTS",
        source: "Chen et al. 2019, arXiv:1904.12760",
        normal: &[(SK, 0), (D3, 1), (SK, 0), (S3, 1), (S3, 1), (S3, 3), (S3, 0), (D5, 4)],
        normal_concat: FOUR,
        reduce: &[(AP, 0), (S5, 1), (S3, 0), (D5, 2), (MP, 0), (D3, 1), (D3, 1), (D5, 3)],
        reduce_concat: FOUR,
    },
    Published {
        name: "PC_DARTS_cifar",
        source: "Xu et al. 2020, arXiv:1907.05737 (searched on CIFAR-10)",
        normal: &[(S3, 1), (SK, 0), (S3, 0), (D3, 1), (S5, 0), (S3, 1), (AP, 0), (D3, 1)],
        normal_concat: FOUR,
        reduce: &[(S5, 1), (MP, 0), (S5, 1), (S5, 2), (S3, 0), (S3, 3), (S3, 1), (S3, 2)],
        reduce_concat: FOUR,
    },
    Published {
        name: "PC_DARTS_image",
        source: "Xu et al. 2020, arXiv:1907.05737 (searched on ImageNet)",
        normal: &[(SK, 1), (S3, 0), (S3, 0), (SK, 1), (S3, 1), (S3, 3), (S3, 1), (D5, 4)],
        normal_concat: FOUR,
        reduce: &[(S3, 0), (SK, 1), (D5, 2), (MP, 1), (S3, 2), (S3, 1), (S5, 0), (S3, 3)],
        reduce_concat: FOUR,
    },
    Published {
        name: "GDAS_V1",
        source: "Dong and Yang 2019, arXiv:1910.04465",
        normal: &[(SK, 0), (SK, 1), (SK, 0), (S5, 2), (S3, 3), (SK, 0), (S5, 4), (S3, 3)],
        normal_concat: FOUR,
        reduce: &[(S5, 0), (S3, 1), (S5, 2), (S5, 1), (D5, 2), (S3, 1), (S5, 0), (S5, 1)],
        reduce_concat: FOUR,
    },
    Published {
        name: "DrNAS_cifar10",
        source: "Chen et al. 2021, arXiv:2006.10355 (searched on CIFAR-10)",
        normal: &[(S3, 0), (S5, 1), (S3, 1), (S3, 2), (SK, 0), (S3, 1), (S3, 2), (D5, 3)],
        normal_concat: FOUR,
        reduce: &[(MP, 0), (S5, 1), (D5, 2), (S5, 1), (S5, 1), (D5, 3), (SK, 4), (S5, 1)],
        reduce_concat: FOUR,
    },
    Published {
        name: "DrNAS_imagenet",
        source: "Chen et al. 2021, arXiv:2006.10355 (searched on ImageNet)",
        normal: &[(S3, 1), (S3, 0), (S3, 0), (S3, 1), (S3, 0), (D3, 3), (SK, 0), (S3, 1)],
        normal_concat: FOUR,
        reduce: &[(MP, 0), (S3, 1), (S3, 0), (SK, 2), (S3, 0), (S3, 2), (S3, 3), (S3, 1)],
        reduce_concat: FOUR,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::genotype::CellKind;

    #[test]
    fn every_published_genotype_is_valid_and_found_by_name() {
        assert_eq!(all().count(), 13);
        for (name, genotype) in all() {
            genotype.validate().unwrap();
            assert_eq!(named(&name.to_lowercase()).unwrap(), genotype);
            assert!(source(name).unwrap().contains("arXiv:"));
            let nodes = if matches!(name, "NASNet" | "AmoebaNet") { 5 } else { 4 };
            assert_eq!((genotype.nodes(CellKind::Normal), genotype.nodes(CellKind::Reduce)), (nodes, nodes));
        }
        assert!(named("DARTSV2").unwrap_err().to_string().contains("did you mean DARTS_V2?"));
        assert!(named("transformer").unwrap_err().to_string().contains("use one of NASNet, AmoebaNet"));
    }

    #[test]
    fn darts_second_order_is_written_as_published() {
        let published = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), \
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), \
            ('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), \
            ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), \
            ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))";
        assert_eq!(named("DARTS_V2").unwrap().to_string(), published);
    }
}
