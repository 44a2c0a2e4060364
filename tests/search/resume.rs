//! Stopping and going on: by a limit, Ctrl-C or a kill, the result is that of a run never stopped.

use super::*;
use std::os::unix::process::ExitStatusExt;

/// An uninterrupted run in the folder `whole`, of 40 steps.
fn whole(dir: &Path, order: &str) -> String {
    let flags = format!("{TINY} --epochs 10 --order {order}");
    search_well(dir, &format!("{flags} --out whole"));
    flags
}

#[test]
fn a_limit_of_steps_stops_a_search_that_can_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = whole(dir, "first");
    for limit in [1, 4, 7] {
        let out = format!("run{limit}");
        let ended = search_well(dir, &format!("{flags} --out {out} --max-steps {limit}"));
        assert!(ended.out.contains("Genotype("));
        let epochs = |out: &str| rows(&dir.join(out), "alphas.jsonl").len();
        assert_eq!(
            (rows(&dir.join(&out), "metrics.jsonl").len(), epochs(&out)),
            match limit {
                1 => (2, 1), // a started epoch is reported
                4 => (5, 1),
                _ => (9, 2),
            }
        );
        // with nothing left to do a run stays as it is
        let before = essence(&dir.join(&out));
        search_well(dir, &format!("--resume {out}"));
        assert!(essence(&dir.join(&out)) == before, "{limit}");
        // a new limit is remembered, none is none
        search_well(dir, &format!("--resume {out} --max-steps 9"));
        search_well(dir, &format!("--resume {out}"));
        assert_eq!(epochs(&out), 3);
        search_well(dir, &format!("--resume {out} --max-steps 0"));
        assert_same(&dir.join("whole"), &dir.join(&out));
    }
}

#[test]
fn a_search_goes_on_with_the_images_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (class, i) in (0..2).flat_map(|class| (0..6).map(move |i| (class, i))) {
        let folder = dir.join(format!("set/{class}"));
        fs::create_dir_all(&folder).unwrap();
        image::RgbImage::from_pixel(8, 8, image::Rgb([40 * i, 99 * class, 7]))
            .save(folder.join(format!("{i}.png")))
            .unwrap();
    }
    let flags = TINY.replace("--train-images 112", "--data folder --data-dir set");
    search_well(dir, &format!("{flags} --epochs 2 --max-steps 1 --out run"));
    let first = fs::read(dir.join("set/1/0.png")).unwrap();
    fs::remove_file(dir.join("set/1/0.png")).unwrap();
    mistake(dir, "--resume run --max-steps 0", &["run/checkpoint.safetensors", "had 12 images and 11 now"]);
    fs::copy(dir.join("set/1/1.png"), dir.join("set/1/0.png")).unwrap();
    mistake(dir, "--resume run --max-steps 0", &["had 12 images, and others", "put the data set back"]);
    fs::write(dir.join("set/1/0.png"), first).unwrap();
    search_well(dir, "--resume run --max-steps 0");
}

#[test]
fn a_search_may_go_on_with_another_memory_budget() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = TINY.replace("--image-size 8 --batch-size 16", "--image-size 16 --batch-size 32");
    search_well(dir, &format!("{flags} --epochs 3 --out whole"));
    let planned = |budget: &str, limit| {
        let ended =
            search_well(dir, &format!("{flags} --epochs 3 --out run{limit} --max-steps {limit}{budget}"));
        let line = ended.out.lines().find(|line| line.starts_with("memory ")).map(str::to_owned).unwrap();
        let megabytes: f64 = line.split(' ').rev().nth(2).unwrap().parse().unwrap();
        (line, megabytes)
    };
    let (kept, all) = planned("", 1);
    let (some, less) = planned(&format!(" --memory-budget {}MB", all - 0.4), 2);
    assert!(kept.contains("all cells kept") && some.contains("recomputed") && less < all, "{kept}; {some}");
    search_well(dir, "--resume run2 --max-steps 0 --memory-budget none");
    assert_same(&dir.join("whole"), &dir.join("run2"));
}

#[test]
fn a_finished_search_can_be_resumed_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    search_well(dir.path(), &format!("{TINY} --epochs 1 --out run"));
    let all_but_the_log = || {
        let mut all = listing(dir.path());
        all.retain(|(path, ..)| !path.ends_with("log.txt"));
        all
    };
    let before = all_but_the_log();
    let ended = search_well(dir.path(), "--resume run");
    assert!(ended.out.contains("nothing is left") && ended.out.contains("Genotype("), "{}", ended.out);
    assert_eq!(all_but_the_log(), before);
}

#[test]
fn a_killed_search_goes_on_as_if_never_stopped() {
    for order in ["first", "second"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let flags = whole(dir, order);
        for (lines, every) in [(2, 0), (12, 3), (23, 1)] {
            let out = format!("run{lines}");
            let flags = format!("{flags} --out {out} --checkpoint-steps {every}");
            let (status, _) = stopped(dir, &flags, &out, lines, "-KILL").expect("killed in the middle");
            assert_eq!(status.signal(), Some(9));
            // and once more, on its way
            stopped(dir, &format!("--resume {out}"), &out, lines + 6, "-KILL");
            let ended = search_well(dir, &format!("--resume {out}"));
            assert!(ended.out.contains("resumed in epoch"), "{}", ended.out);
            assert_same(&dir.join("whole"), &dir.join(&out));
            assert!(!listing(dir).iter().any(|(path, ..)| path.to_string_lossy().ends_with(".tmp")));
        }
    }
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // few steps and a long validation, so that some of the signals come during it
    let flags = TINY.replace("--batch-size 16", "--batch-size 4 --train-portion 0.1") + " --epochs 8";
    search_well(dir, &format!("{flags} --out whole"));
    for lines in [1, 3, 6, 9] {
        let out = format!("run{lines}");
        let flags = format!("{flags} --out {out} --checkpoint-steps 0");
        let (status, said) = stopped(dir, &flags, &out, lines, "-INT").expect("stopped in the middle");
        assert_eq!(status.code(), Some(130));
        let (_, command) = said.trim_end().split_once("go on with: ").unwrap();
        assert_eq!((said.lines().count(), command), (1, format!("{SEARCH} --resume {out}").as_str()));
        search_well(dir, &format!("--resume {out}"));
        assert_same(&dir.join("whole"), &dir.join(&out));
    }
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_it_used() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = whole(dir, "first");
    search_well(dir, &format!("{flags} --out run --max-steps 10 --checkpoint-steps 3"));
    let newest = dir.join("run/checkpoint.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    let inside = bytes.len() - 64; // in a tensor, whatever the size of the header
    bytes[inside] ^= 4;
    fs::write(&newest, bytes).unwrap();
    let ended = search(dir, "--resume run --max-steps 0");
    assert_eq!((ended.code, ended.err.lines().count()), (Some(0), 1), "{}", ended.err);
    for part in ["warning: run/checkpoint.safetensors: damaged", "run/checkpoint.previous.safetensors"] {
        assert!(ended.err.contains(part), "{}", ended.err);
    }
    assert_same(&dir.join("whole"), &dir.join("run"));

    fs::write(&newest, "").unwrap();
    fs::write(dir.join("run/checkpoint.previous.safetensors"), "x").unwrap();
    mistake(
        dir,
        "--resume run",
        &["checkpoint.safetensors", "checkpoint.previous.safetensors", "start a new run"],
    );
}

#[test]
fn a_failed_resume_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    search_well(dir, &format!("{TINY} --epochs 4 --out run --max-steps 6"));
    let parts = [
        "another configuration",
        "space.channels is 2 there and 4 here",
        "search.epochs is 4 there and 9 here",
    ];
    mistake(dir, "--resume run --channels 4 --epochs 9", &parts);
    let parts = ["another configuration", "search.order is first there and second here"];
    mistake(dir, "--resume run --method darts2", &parts);
    // a torn and a foreign line: only the foreign one is a mistake, and found before the torn one is taken away
    let append = |file: &str, text: &str| {
        let path = dir.join("run").join(file);
        let rows = fs::read_to_string(&path).unwrap();
        fs::write(&path, rows + text).unwrap();
    };
    append("metrics.jsonl", "{\"kind\":\"st");
    append("alphas.jsonl", "not a row\n");
    mistake(dir, "--resume run", &["run/alphas.jsonl", "line 3 is not a row"]);
}

#[test]
fn a_full_disk_leaves_the_checkpoint_before() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = whole(dir, "first");
    // no file may grow over 20 KiB, which a checkpoint does; without the trap the signal would end the program
    let limited = |flags: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 40; exec '{SEARCH}' {flags}");
        run(assert_cmd::Command::new("sh").args(["-c", &script]).current_dir(dir))
    };
    let before = listing(dir);
    one_line(
        &limited(&format!("{flags} --out run")),
        &["cannot write run/checkpoint.safetensors", "free space or write to another folder"],
    );
    assert_eq!(listing(dir), before, "the folder of a run that never started is left");

    search_well(dir, &format!("{flags} --out run --max-steps 10"));
    let kept = fs::read(dir.join("run/checkpoint.safetensors")).unwrap();
    one_line(&limited("--resume run --max-steps 0"), &["cannot write run/checkpoint.safetensors"]);
    assert!(kept == fs::read(dir.join("run/checkpoint.safetensors")).unwrap());
    search_well(dir, "--resume run");
    assert_same(&dir.join("whole"), &dir.join("run"));
}

#[test]
fn two_searches_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut first = Command::new(SEARCH)
        .args(format!("{TINY} --epochs 100000 --out run").split_whitespace())
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !dir.join("run/checkpoint.safetensors").exists() {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let again = search(dir, &format!("{TINY} --out run"));
    let resumed = search(dir, "--resume run");
    first.kill().unwrap();
    first.wait().unwrap();
    one_line(&again, &["folder run is not empty"]);
    one_line(&resumed, &["folder run is in use by another search or training"]);
}
