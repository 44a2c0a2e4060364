//! Memory of the process: budgets as text, what a search will take, and how it is made to fit.

use super::config::SearchConfig;
use super::device::stored_on;
use crate::data::{ImageSet, split};
use crate::device::Device;
use crate::device::memory::{resident, trim_heap};
use crate::error::{Error, Result};
use crate::search::{Searcher, Workload};
use crate::space::cnn::CnnSupernet;

/// Bytes of the program besides tensors and images: code, threads and small things. Measured.
const PROGRAM: usize = 18 << 20;

/// A device's pool: ranges lie scattered (one part in this many), and whole allocations are taken.
const DEVICE_SLACK: usize = 16;
const DEVICE_CHUNK: usize = 64 << 20;

const UNITS: [(&str, f64); 9] = [
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("kib", 1024.0),
    ("mib", 1048576.0),
    ("gib", 1073741824.0),
    ("tib", 1099511627776.0),
    ("", 1.0),
];

/// Bytes that `text` asks for, or nothing for `none`; else what is wrong with it (a phrase after "key: ").
pub fn parse(text: &str) -> Result<Option<usize>, String> {
    let lower = text.trim().to_ascii_lowercase();
    if lower == "none" {
        return Ok(None);
    }
    let wrong = || format!("\"{text}\" is no size; give one as 900MB, 1.5GB, 1500MiB, as bytes, or none");
    let (number, unit) = lower.split_at(lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len()));
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let bytes = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    if (1.0..1e18).contains(&bytes) { Ok(Some(bytes as usize)) } else { Err(wrong()) }
}

/// `bytes` as a person reads them.
pub fn show(bytes: usize) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e8 => format!("{:.1} MB", bytes / 1e6),
        ..1e9 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

/// `cells` in words.
pub fn recomputed(cells: &[usize]) -> String {
    let list = cells.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match cells.len() {
        0 => "all cells kept".into(),
        1 => format!("cell {list} recomputed"),
        _ => format!("cells {list} recomputed"),
    }
}

/// Bytes that the process takes when tensors take up to `tensors` and the data set `images`.
pub fn process(tensors: usize, images: usize) -> usize {
    resident(tensors) + images + PROGRAM
}

/// Bytes that a search takes where it runs, when tensors take up to `tensors` and the data set `images`: of the process,
/// or of the device's memory.
pub fn needed(device: &Device, tensors: usize, images: usize) -> usize {
    match device {
        Device::Cpu => process(tensors, images),
        Device::Cuda(_) => tensors + tensors / DEVICE_SLACK + DEVICE_CHUNK + images,
    }
}

/// What goes wrong where device memory ends, with the batch that would fit.
pub fn exhausted(error: Error, config: &SearchConfig, searcher: &Searcher, set: &ImageSet) -> Error {
    let (device, Error::OutOfMemory { asked, free, total, live }) = (searcher.device(), &error) else {
        return error;
    };
    let load = workload(config, set, &device);
    let fits = |tensors| needed(&device, tensors, of_images(set)) <= free + live;
    let way_out = match load.largest_batch(searcher.net(), fits) {
        Ok(Some(batch)) => format!("--batch-size {batch} would fit"),
        _ => "search a smaller supernet".into(),
    };
    let [asked, free, total, live] = [*asked, *free, *total, *live].map(show);
    Error::device(format!(
        "out of memory: {asked} asked for, {free} of {total} free and {live} in use by this search; {way_out}, or --memory-budget {free} recomputes cells"
    ))
}

/// Bytes of a data set.
pub fn of_images(set: &ImageSet) -> usize {
    set.images.len() + size_of_val(&set.labels[..])
}

/// The steps of the search that `config` asks for.
pub fn workload(config: &SearchConfig, set: &ImageSet, device: &Device) -> Workload {
    let image = [set.height, set.width, set.channels];
    let precision = stored_on(config.precision(), device);
    let train = split::count(set.len(), config.data.train_portion);
    // a batch larger than its half is all of that
    let batch = config.search.batch_size.min(train.max(set.len() - train));
    Workload { order: config.search.order, batch, image, precision }
}

/// What the process will take, in words.
pub fn planned(config: &SearchConfig, searcher: &Searcher, set: &ImageSet) -> Result<String> {
    let (device, net) = (searcher.device(), searcher.net());
    let bytes = needed(&device, workload(config, set, &device).peak(net)?, of_images(set));
    let budget = config.memory_budget()?.map_or(String::new(), |budget| format!("{} budget: ", show(budget)));
    Ok(format!("{budget}{}, {} planned", recomputed(net.recomputed()), show(bytes)))
}

/// Fails if `tensors` and `images` bytes are more than this machine has, where they go to its memory; `fitting` finds a
/// batch with which a peak fits.
pub fn check_machine(
    device: &Device,
    [tensors, images]: [usize; 2],
    fitting: impl FnOnce(&dyn Fn(usize) -> bool) -> Result<Option<usize>>,
) -> Result<()> {
    let (needed, Some(there)) = (process(tensors, images), machine()) else { return Ok(()) };
    if device.cuda().is_some() || needed <= there {
        return Ok(());
    }
    let way_out = match fitting(&|tensors| process(tensors, images) <= there)? {
        Some(batch) => format!("--batch-size {batch} would fit"),
        None => "not even batches of 2 would fit; take fewer channels or cells".into(),
    };
    let what = format!("would take {}, and this machine has {}; {way_out}", show(needed), show(there));
    Err(Error::config("memory", what))
}

/// Bytes of memory that this machine has, or what a control group leaves of them, where the system tells.
fn machine() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = total.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    Some(group.map_or(total, |group: usize| group.min(total)))
}

/// Recomputes as many cells of `net` as it takes to stay within `budget` bytes on `device`, with `images` bytes of data
/// set.
pub fn fit(
    net: &mut CnnSupernet,
    load: &Workload,
    budget: usize,
    images: usize,
    device: &Device,
) -> Result<()> {
    let needed = |tensors| needed(device, tensors, images);
    let fits = |tensors| needed(tensors) <= budget;
    let least = load.fit(net, fits)?;
    trim_heap(); // of a small search the plans would be a good part
    if fits(least) {
        return Ok(());
    }
    let way_out = match load.largest_batch(net, fits)? {
        Some(batch) => format!("--batch-size {batch} would fit"),
        None => "not even batches of 2 would fit; search a smaller supernet".into(),
    };
    let needed = needed(least);
    let digit = if needed < 1_000_000_000 { 1_000_000 } else { 10_000_000 }; // rounded up, so that it is enough
    let (asked, needed) = (show(budget), show(needed.next_multiple_of(digit)));
    let what = format!(
        "is {asked}, but batches of {} need at least {needed}, with cells recomputed; {way_out}",
        load.batch
    );
    Err(Error::config("run.memory_budget", what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("900MB", 900_000_000),
            ("1.5GB", 1_500_000_000),
            ("1500MiB", 1500 << 20),
            ("0.5 gib", 1 << 29),
            ("123456789", 123_456_789),
            ("2tb", 2_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Some(bytes)), "{text}");
        }
        assert_eq!(parse("none"), Ok(None));
        for text in ["", "MB", "-1MB", "0", "1e400", "nan", "1 MB MB", "ten", "5XB"] {
            let what = parse(text).unwrap_err();
            assert!(what.contains("is no size; give one as 900MB"), "{text}: {what}");
        }
    }
}
