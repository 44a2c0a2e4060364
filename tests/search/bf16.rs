//! `--precision bf16` on a processor: one search whatever the threads and the stops, or a refusal.

use super::*;
use oche::device::simd::multiplies_bf16;

const CPU: &str = "--device cpu --precision bf16";

fn with_simd(dir: &Path, simd: &str) -> Ended {
    let command = &mut assert_cmd::Command::new(SEARCH);
    let flags = TINY.split_whitespace().chain(CPU.split_whitespace());
    run(command.args(flags).current_dir(dir).env("OCHE_SIMD", simd))
}

#[test]
fn a_search_is_the_same_whatever_the_threads_and_the_stops() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if !multiplies_bf16() {
        mistake(dir, &format!("{TINY} {CPU}"), &["run.precision", "take f32"]);
        println!("skipped: this machine has no AVX-512 BF16");
        return;
    }
    for channels in [2, 8, 16] {
        let tiny = TINY.replace("--channels 2", &format!("--channels {channels}"));
        let flags = format!("{tiny} --epochs 3 --order second --device cpu");
        let name = |what: &str| format!("{what}{channels}");
        search_well(dir, &format!("{flags} --out {}", name("exact")));
        let flags = format!("{flags} --precision bf16");
        for (out, more) in [("whole", ""), ("one", "--threads 1"), ("limited", "--max-steps 5")] {
            search_well(dir, &format!("{flags} --out {} {more}", name(out)));
        }
        search_well(dir, &format!("--resume {} --max-steps 0", name("limited")));
        for other in ["one", "limited"] {
            assert_same(&dir.join(name("whole")), &dir.join(name(other)));
        }
        assert!(essence(&dir.join(name("whole"))) != essence(&dir.join(name("exact"))), "{channels}");
    }
}

#[test]
fn what_cannot_be_had_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    one_line(&with_simd(dir.path(), "plain"), &["run.precision: bf16 needs", "take f32"]);
    if multiplies_bf16() {
        for (flags, part) in [
            ("--order exact", "--order exact"),
            ("--fusion off", "--fusion off"),
            ("--candidates skip_connect,conv_7x1_1x7", "no fused form"),
        ] {
            mistake(dir.path(), &format!("{TINY} {CPU} {flags}"), &["run.precision", part, "take f32"]);
        }
    }
}
