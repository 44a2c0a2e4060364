//! Instruction sets: those that the machine has, and the one in use.

use crate::lean::Lean;
use crate::real::Real;
use std::sync::OnceLock;

/// Instruction sets a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    Plain,
    Avx2,
    Avx512,
}

impl Isa {
    const ALL: [Isa; 3] = [Isa::Plain, Isa::Avx2, Isa::Avx512];

    /// Those this machine can run, weakest first.
    pub fn available() -> Vec<Isa> {
        Self::up_to(best())
    }
    /// As `OCHE_SIMD` names it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Plain => "plain",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
    /// What kernels for `R` run with where this is wanted.
    #[inline(always)]
    pub fn of<R: Real>(self) -> Isa {
        match R::BF16 && !(self == Isa::Avx512 && has_bf16()) {
            true => Isa::Plain,
            false => self,
        }
    }
    fn up_to(best: Isa) -> Vec<Isa> {
        Self::ALL.into_iter().filter(|&isa| isa <= best).collect()
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        _ => Isa::Plain,
    }
}

/// Whether the machine multiplies bf16.
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[cfg(not(target_arch = "x86_64"))]
fn best() -> Isa {
    Isa::Plain
}

/// Whether numbers that are kept as bf16 are computed with the machine's products of them: it has those, and the
/// instruction set in use is not a lesser one.
pub fn multiplies_bf16() -> bool {
    isa().of::<Lean>() == Isa::Avx512
}

/// The instruction set in use: the one asked for by `OCHE_SIMD`, or the best there is if that cannot be had.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| wanted().unwrap_or_else(|_| best()))
}

/// The instruction set asked for by `OCHE_SIMD`, the best there is if it is not set or to nothing; or why it cannot be
/// had.
pub fn wanted() -> Result<Isa, String> {
    let name = std::env::var_os("OCHE_SIMD").filter(|name| !name.is_empty());
    choose(name.map(|name| name.to_string_lossy().into_owned()).as_deref(), best())
}

/// The instruction set called `name`, on a machine that has those up to `best`.
fn choose(name: Option<&str>, best: Isa) -> Result<Isa, String> {
    let Some(name) = name else { return Ok(best) };
    let Some(isa) = Isa::ALL.into_iter().find(|isa| isa.name() == name) else {
        return Err(format!("is \"{name}\", must be {}; or unset it", either(&Isa::ALL)));
    };
    if isa > best {
        let has = either(&Isa::up_to(best));
        return Err(format!("is {name}, which this machine does not have; set {has}, or unset it"));
    }
    Ok(isa)
}

/// `plain, avx2 or avx512`.
fn either(sets: &[Isa]) -> String {
    let names: Vec<_> = sets.iter().map(|isa| isa.name()).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_can_be_chosen_and_nothing_else() {
        assert_eq!(choose(None, Isa::Avx2).ok(), Some(Isa::Avx2));
        assert_eq!(choose(Some("plain"), Isa::Avx512).ok(), Some(Isa::Plain));
        let said = |name, best| choose(Some(name), best).unwrap_err();
        assert_eq!(said("avx3", Isa::Avx512), "is \"avx3\", must be plain, avx2 or avx512; or unset it");
        let missing = "is avx512, which this machine does not have; set";
        assert_eq!(said("avx512", Isa::Avx2), format!("{missing} plain or avx2, or unset it"));
        assert_eq!(said("avx512", Isa::Plain), format!("{missing} plain, or unset it"));
    }
}
