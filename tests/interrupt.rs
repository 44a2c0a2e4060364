//! Ctrl-C, tried on a child process: the first asks, the second ends.
#![cfg(unix)]

use oche::run::interrupt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "OCHE_TEST_INTERRUPT_CHILD";

#[test]
fn the_first_ctrl_c_asks_and_the_second_ends_with_130() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_first_ctrl_c_asks_and_the_second_ends_with_130", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |word: &str| assert!(lines.any(|line| line.unwrap().contains(word)), "{word}");
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    wait_for("ready");
    signal("-INT");
    wait_for("asked");
    signal("-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(interrupt::EXIT_STATUS));
}

fn child() {
    interrupt::install().unwrap();
    interrupt::install().unwrap();
    assert!(!interrupt::requested());
    println!("ready");
    // Long enough for a slow machine, and not forever if the parent is gone.
    for _ in 0..3000 {
        if interrupt::requested() {
            println!("asked");
            std::thread::sleep(Duration::from_secs(30));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
