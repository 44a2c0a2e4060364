//! The checked-in PTX of the kernels: there for each of them, for no other, and made from the sources as they are.

#[path = "../kernels/sources.rs"]
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

#[test]
fn each_file_of_kernels_has_its_ptx_and_no_other_does() {
    let mut found = vec![];
    for entry in fs::read_dir(folder().join("prebuilt")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.strip_suffix(".ptx") {
            Some(kernel) => found.push(kernel.to_owned()),
            None => assert_eq!(name, "SOURCES.hash", "does not belong into kernels/prebuilt"),
        }
    }
    found.sort();
    assert_eq!(found, sources::kernels(&folder()).unwrap(), "scripts/prebuild makes them alike");
}

#[test]
fn the_ptx_is_of_these_sources() {
    let hash = sources::read(&folder().join("prebuilt/SOURCES.hash")).unwrap();
    assert_eq!(hash.trim(), sources::hash(&folder()).unwrap(), "scripts/prebuild brings the PTX up to date");
}

/// What the loader relies on, and that the PTX is the same wherever it is compiled.
#[test]
fn the_ptx_is_for_all_gpus_since_ampere() {
    for kernel in sources::kernels(&folder()).unwrap() {
        let text = sources::read(&folder().join(format!("prebuilt/{kernel}.ptx"))).unwrap();
        assert!(text.lines().any(|line| line == ".target sm_80"), "{kernel}.ptx is for another target");
        assert!(text.contains(".visible .entry "), "{kernel}.ptx has no kernel in it");
        assert!(!text.contains(".file"), "{kernel}.ptx names the folder it was compiled in");
        assert!(!text.contains('\0'), "{kernel}.ptx has a NUL of its own");
    }
}

#[test]
fn the_hash_sees_names_texts_and_flags_but_not_line_ends() {
    let hash_of = |files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        sources::hash(folder.path()).unwrap()
    };
    let base = hash_of(&[("a.cu", "x\n"), ("b.cuh", "y\n"), ("nvcc.flags", "-O3\n")]);
    let on_windows = [("a.cu", "x\r\n"), ("b.cuh", "y\r\n"), ("nvcc.flags", "-O3\r\n"), ("notes", "")];
    assert_eq!(base, hash_of(&on_windows));
    assert_ne!(base, hash_of(&[("a.cu", "x\n"), ("b.cuh", "y\n"), ("nvcc.flags", "-O2\n")]));
    assert_ne!(base, hash_of(&[("a.cu", "x\n"), ("c.cuh", "y\n"), ("nvcc.flags", "-O3\n")]));
    assert_ne!(base, hash_of(&[("a.cu", "x\ny\n"), ("b.cuh", ""), ("nvcc.flags", "-O3\n")]));
}
