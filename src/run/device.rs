//! Which device a run computes on, and how it is called.

use crate::device::Device;
use crate::device::cuda::{Cuda, Mode};
use crate::device::{profile, simd};
use crate::error::{Error, Result};

/// What `--device` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first CUDA device if there is one that works, else the CPU.
    Auto,
    Cpu,
    Cuda(usize),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix("cuda") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()),
            None => None,
        };
        match (text, number) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            _ => Err(format!("\"{text}\" is no device; use auto, cpu or cuda[:N]")),
        }
    }
}

impl Wanted {
    /// Opens the device; the text says which it is and, if it was chosen here, why.
    pub fn open(self) -> Result<(Device, String)> {
        // pieces by themselves end where a checker sees it
        let mode = if profile::debug_level() >= 4 { Mode::Separate } else { Mode::Pooled };
        let cuda = |number| Cuda::open(number, mode).map(|cuda| (describe(&cuda), Device::Cuda(cuda)));
        match self {
            Self::Cpu => Ok((Device::Cpu, describe_cpu())),
            Self::Cuda(number) => cuda(number).map(|(text, device)| (device, text)),
            Self::Auto => Ok(match cuda(0) {
                Ok((text, device)) => (device, format!("{text} (auto)")),
                Err(error) => (Device::Cpu, format!("{} (auto; {})", describe_cpu(), reason(&error))),
            }),
        }
    }
}

fn describe(cuda: &Cuda) -> String {
    let info = cuda.info();
    let [major, minor] = info.capability;
    let memory = info.memory as f64 / 1e9;
    format!("cuda:{} {}, {memory:.0} GB, compute capability {major}.{minor}", info.ordinal, info.name)
}

fn describe_cpu() -> String {
    format!("cpu, {} threads, {:?} vectors", rayon::current_num_threads(), simd::isa())
}

/// What went wrong, without the advice that follows it.
fn reason(error: &Error) -> String {
    match error {
        Error::Device { what } => what.split("; ").next().unwrap_or(what).to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        for (text, wanted) in [
            ("auto", Wanted::Auto),
            ("cpu", Wanted::Cpu),
            ("cuda", Wanted::Cuda(0)),
            ("cuda:7", Wanted::Cuda(7)),
        ] {
            assert_eq!(text.parse(), Ok(wanted));
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda7", "cuda:-1", "CPU"] {
            assert!(text.parse::<Wanted>().unwrap_err().contains("is no device"), "{text}");
        }
    }
}
