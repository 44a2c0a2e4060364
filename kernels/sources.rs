//! The sources of the kernels and their hash: what build.rs compiles and what tests/kernels.rs holds against the
//! checked-in PTX.

use std::fs;
use std::path::Path;

/// PTX is compiled for every GPU since Ampere; the driver translates it for the one it finds.
pub const PTX_TARGET: &str = "compute_80";

/// Flags of nvcc for every kernel, as a file that nvcc reads itself.
pub const FLAGS: &str = "nvcc.flags";

/// The kernel files in `folder` in order, each without its ending: `pointwise` for `pointwise.cu`.
pub fn kernels(folder: &Path) -> Result<Vec<String>, String> {
    let files = files(folder)?;
    Ok(files.iter().filter_map(|name| name.strip_suffix(".cu").map(str::to_owned)).collect())
}

/// FNV-1a over everything the PTX depends on except the compiler: target, flags, names and texts of all sources.
pub fn hash(folder: &Path) -> Result<String, String> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        // 0 ends each text, so that none can run into the next
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(PTX_TARGET);
    for name in files(folder)? {
        add(&name);
        add(&read(&folder.join(name))?);
    }
    Ok(format!("{hash:016x}"))
}

/// A text with the line ends of Unix, whatever the checkout made of them.
pub fn read(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    Ok(text.replace("\r\n", "\n"))
}

fn files(folder: &Path) -> Result<Vec<String>, String> {
    let complaint = |why| format!("cannot read the folder {}: {why}", folder.display());
    let mut names = vec![];
    for entry in fs::read_dir(folder).map_err(complaint)? {
        let name = entry.map_err(complaint)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".cu") || name.ends_with(".cuh") || name == FLAGS {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
