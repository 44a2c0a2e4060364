//! The TensorBoard event file of a run, read with a CRC-32C and a framing of its own.

use oche::run::board::event::{Content, Event, What};
use prost::Message;
use std::fs;
use std::path::{Path, PathBuf};

/// The event file of a run, which has to be the only one.
pub fn file(run: &Path) -> PathBuf {
    let entries = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// CRC-32C bit by bit, masked as TFRecord files have it.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= *byte as u32;
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// All events; every record has to be whole and right.
pub fn read(path: &Path) -> Vec<Event> {
    let (file, mut events) = (fs::read(path).unwrap(), vec![]);
    let mut rest = &file[..];
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(masked(&rest[..8]), number(&rest[8..12]));
        let message = &rest[12..12 + length];
        assert_eq!(masked(message), number(&rest[12 + length..16 + length]));
        events.push(Event::decode(message).unwrap());
        rest = &rest[16 + length..];
    }
    events
}

/// Tag, step and value of everything in the file that does not differ from run to run: no times and no memory.
pub fn essence(run: &Path) -> Vec<(String, i64, Content)> {
    let measured = |tag: &str| tag.ends_with("/seconds") || tag.contains("/peak_");
    let mut all = vec![];
    for event in read(&file(run)) {
        let Some(What::Summary(summary)) = event.what else { continue };
        for value in summary.value {
            if !measured(&value.tag) && value.tag != "settings" {
                all.push((value.tag, event.step, value.content.unwrap()));
            }
        }
    }
    all
}
