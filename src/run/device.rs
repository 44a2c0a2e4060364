//! Which device a run computes on, and how it is called.

use crate::device::Device;
use crate::device::cuda::{self, Cuda, Mode};
use crate::device::{profile, simd};
use crate::error::{Error, Result};
use crate::tensor::DType;

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
    /// The same; fails with [`Error::Config`] if the device has no `precision`.
    pub fn open_for(self, precision: DType) -> Result<(Device, String)> {
        let opened = self.open()?;
        check_lean(precision, &opened.0)?;
        Ok(opened)
    }
}

/// That `device` can be asked for `precision`.
pub fn check_lean(precision: DType, device: &Device) -> Result<()> {
    match lean_on(precision, device) {
        true => check_bf16(simd::isa(), simd::has_bf16()),
        false => Ok(()),
    }
}

/// That a processor can be asked for bf16.
fn check_bf16(isa: simd::Isa, has_bf16: bool) -> Result<()> {
    let wrong = |what: &str| Err(Error::config("run.precision", what));
    match (isa, has_bf16) {
        (simd::Isa::Avx512, true) => Ok(()),
        (_, true) => wrong("bf16 needs the AVX-512 that OCHE_SIMD rules out; unset that, or take f32"),
        _ => {
            wrong("bf16 needs a CUDA device or a processor with AVX-512 BF16, and here is neither; take f32")
        }
    }
}

/// What images are stored as on `device` where `precision` is asked for.
pub fn stored_on(precision: DType, device: &Device) -> DType {
    if device.cuda().is_some() { precision } else { DType::F32 }
}

/// Whether that precision means that the operations of the CPU keep values lean.
pub fn lean_on(precision: DType, device: &Device) -> bool {
    precision == DType::BF16 && device.cuda().is_none()
}

/// That bf16 on a CPU is not asked for in vain: it is of cells computed as one operation.
pub fn check_fused(precision: DType, device: &Device, fused: bool) -> Result<()> {
    let what = "bf16 on the CPU is of fused cells, and some operation here has no fused form; take f32";
    match lean_on(precision, device) && !fused {
        true => Err(Error::config("run.precision", what)),
        false => Ok(()),
    }
}

fn describe(cuda: &Cuda) -> String {
    let info = cuda.info();
    let [major, minor] = info.capability;
    let memory = info.memory as f64 / 1e9;
    let code = if cuda.runs_machine_code() { "" } else { ", kernels compiled from PTX" };
    format!("cuda:{} {}, {memory:.0} GB, compute capability {major}.{minor}{code}", info.ordinal, info.name)
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

/// What this machine and this program have to compute with, a line each; and the first reason why no CUDA device can be
/// used, if none can.
pub fn report() -> (Vec<String>, Result<()>) {
    let mut lines = vec![line("cpu", &describe_cpu()["cpu, ".len()..]), line("kernels", &kernels())];
    let count = match cuda::count() {
        Ok(count) => count,
        Err(error) => {
            lines.push(line("cuda", &reason(&error)));
            return (lines, Err(error));
        }
    };
    let mut usable: Option<Result<()>> = None;
    for number in 0..count {
        let (text, opened) = match cuda::describe(number) {
            Ok(info) => {
                if number == 0 {
                    lines.push(line("driver", &format!("CUDA {}", info.driver)));
                }
                let opened = Cuda::open(number, Mode::Pooled);
                let opened = opened.and_then(|cuda| Ok((cuda.memory()?.0, cuda.runs_machine_code())));
                (facts(&info, &opened), opened.map(drop))
            }
            Err(error) => (reason(&error), Err(error)),
        };
        lines.push(line(&format!("cuda:{number}"), &text));
        usable = match usable {
            Some(before) if opened.is_err() => Some(before),
            _ => Some(opened), // one that works is enough
        };
    }
    (lines, usable.unwrap_or(Ok(())))
}

fn line(what: &str, text: &str) -> String {
    format!("{what:<15} {text}")
}

/// Where the kernels in this program come from.
fn kernels() -> String {
    match cuda::IMAGES.len() {
        0 => "none: this program was built without them".into(),
        files => format!("{}, {files} files, sources {:.12}", cuda::ORIGIN, cuda::HASH),
    }
}

/// A device, with its free memory and whether it runs machine code if it could be opened.
fn facts(info: &cuda::Info, opened: &Result<(usize, bool)>) -> String {
    let [major, minor] = info.capability;
    let (free, use_) = match opened {
        Ok((free, machine_code)) => {
            let code = if *machine_code { "machine code" } else { "PTX, which the driver compiles" };
            (format!(" ({:.1} free)", *free as f64 / 1e9), format!("kernels as {code}"))
        }
        Err(error) => (String::new(), format!("cannot be used: {}", reason(error))),
    };
    format!(
        "{}, compute capability {major}.{minor}, {} multiprocessors, {:.1} GB{free}, {use_}",
        info.name,
        info.multiprocessors,
        info.memory as f64 / 1e9
    )
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
