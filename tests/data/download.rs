//! `--download`, against a server in this process that says what each test wants said.

use oche::data::Archive;
use oche::run::download::fetch;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

const FILE: &str = "set.tar.gz";

fn content(seed: u8) -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

fn md5(bytes: &[u8]) -> String {
    use md5::Digest;
    md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A head and what is sent behind it, before the connection is closed.
struct Answer(String, Vec<u8>);

fn whole(body: &[u8], more: &str) -> Answer {
    Answer(format!("200 OK\r\nContent-Length: {}{more}", body.len()), body.to_vec())
}

fn rest(body: &[u8], from: usize) -> Answer {
    let head = format!(
        "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}",
        body.len() - from,
        body.len() - 1,
        body.len()
    );
    Answer(head, body[from..].to_vec())
}

/// Gives each connection one of `answers`; the requests, in lower case, when all are given.
fn serve(answers: Vec<Answer>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/{FILE}", listener.local_addr().unwrap());
    let answer = move |Answer(head, body): Answer| {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut byte) = (vec![], [0]);
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), &body].concat()); // a client may have seen enough
        String::from_utf8(request).unwrap().to_lowercase()
    };
    (url, std::thread::spawn(move || answers.into_iter().map(answer).collect()))
}

/// Fetches `body` into `dir` from a server that answers so; the requests that it got.
fn get(dir: &Path, body: &[u8], answers: Vec<Answer>) -> (oche::Result<Option<PathBuf>>, Vec<String>) {
    let (url, server) = serve(answers);
    let archive = Archive { url, file: FILE.into(), md5: md5(body) };
    let mut seen = vec![];
    let fetched = fetch(&archive, dir, &mut |have, all| {
        seen.push((have, all));
        true
    });
    assert!(
        seen.is_sorted() && seen.iter().all(|(have, all)| all.is_none_or(|all| *have <= all)),
        "{seen:?}"
    );
    (fetched, server.join().unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_whole(dir: &Path, fetched: oche::Result<Option<PathBuf>>, body: &[u8]) {
    assert_eq!(fetched.unwrap(), Some(dir.join(FILE)));
    assert!(fs::read(dir.join(FILE)).unwrap() == body);
    assert_eq!(names(dir), [FILE]);
}

fn sentence(fetched: oche::Result<Option<PathBuf>>, parts: &[&str]) {
    let message = fetched.unwrap_err().to_string();
    assert!(!message.contains('\n') && !message.ends_with('.') && message.len() < 440, "{message}");
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

/// A folder in which the transfer of `body` broke off at `at`.
fn broken(body: &[u8], at: usize, more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let Answer(head, _) = whole(body, more);
    let (fetched, requests) = get(dir.path(), body, vec![Answer(head, body[..at].to_vec())]);
    sentence(
        fetched,
        &[&format!("broke off after {at} of {} bytes", body.len()), ".part", "goes on from there"],
    );
    assert!(!requests[0].contains("range:"), "{}", requests[0]);
    assert!(fs::read(dir.path().join("set.tar.gz.part")).unwrap() == body[..at]);
    assert!(!dir.path().join(FILE).exists());
    dir
}

#[test]
fn a_file_comes_whole_and_into_a_folder_that_was_not_there() {
    let body = content(0);
    for more in ["", "\r\nETag: \"one\"", "\r\nLast-Modified: Tue, 15 Nov 1994 12:45:26 GMT"] {
        let dir = tempfile::tempdir().unwrap();
        let (fetched, _) = get(&dir.path().join("a/b"), &body, vec![whole(&body, more)]);
        is_whole(&dir.path().join("a/b"), fetched, &body);
    }
    // of unknown length, and from another place
    let dir = tempfile::tempdir().unwrap();
    let moved = Answer("302 Found\r\nLocation: elsewhere\r\nContent-Length: 0".into(), vec![]);
    let (fetched, requests) = get(dir.path(), &body, vec![moved, Answer("200 OK".into(), body.clone())]);
    is_whole(dir.path(), fetched, &body);
    assert!(requests[1].starts_with("get /elsewhere "), "{}", requests[1]);
}

#[test]
fn a_broken_transfer_goes_on_where_it_was() {
    let body = content(0);
    for (more, asked) in [
        ("\r\nETag: \"one\"", Some("if-range: \"one\"\r\n")),
        ("\r\nETag: W/\"one\"", None), // does not stand for bytes
        (
            "\r\nLast-Modified: Tue, 15 Nov 1994 12:45:26 GMT",
            Some("if-range: tue, 15 nov 1994 12:45:26 gmt\r\n"),
        ),
        ("", None),
    ] {
        let dir = broken(&body, 100_001, more);
        let (fetched, requests) = get(dir.path(), &body, vec![rest(&body, 100_001)]);
        assert!(requests[0].contains("range: bytes=100001-\r\n"), "{}", requests[0]);
        assert!(
            asked.map_or(!requests[0].contains("if-range"), |asked| requests[0].contains(asked)),
            "{requests:?}"
        );
        is_whole(dir.path(), fetched, &body);
    }
    // and breaks off again
    let dir = broken(&body, 1000, "\r\nETag: \"one\"");
    let Answer(head, more) = rest(&body, 1000);
    let (fetched, _) = get(dir.path(), &body, vec![Answer(head, more[..500].to_vec())]);
    sentence(fetched, &["broke off after 1500 of 300000 bytes"]);
    let (fetched, requests) = get(dir.path(), &body, vec![rest(&body, 1500)]);
    assert!(requests[0].contains("range: bytes=1500-\r\n") && requests[0].contains("if-range: \"one\""));
    is_whole(dir.path(), fetched, &body);
}

#[test]
fn what_was_there_is_dropped_if_the_server_has_no_rest_of_it() {
    let (old, new) = (content(0), content(1));
    // ranges are nothing to this server, or the file has changed
    let dir = broken(&old, 5000, "\r\nETag: \"one\"");
    let (fetched, _) = get(dir.path(), &new, vec![whole(&new, "\r\nETag: \"two\"")]);
    is_whole(dir.path(), fetched, &new);
    // another range than was asked for, or none that can be
    for strange in [
        rest(&new, 4000),
        Answer("416 Range Not Satisfiable\r\nContent-Length: 0\r\nContent-Range: bytes */7".into(), vec![]),
    ] {
        let dir = broken(&old, 5000, "");
        let (fetched, requests) = get(dir.path(), &new, vec![strange, whole(&new, "")]);
        assert!(!requests[1].contains("range:"), "{}", requests[1]);
        is_whole(dir.path(), fetched, &new);
    }
    // the program was killed between the last byte and the check
    let dir = broken(&old, old.len() - 1, "");
    fs::write(dir.path().join("set.tar.gz.part"), &old).unwrap();
    let head =
        format!("416 Range Not Satisfiable\r\nContent-Length: 0\r\nContent-Range: bytes */{}", old.len());
    let (fetched, _) = get(dir.path(), &old, vec![Answer(head, vec![])]);
    is_whole(dir.path(), fetched, &old);
}

#[test]
fn another_file_than_the_published_one_is_refused_and_not_kept() {
    let (published, sent) = (content(0), content(1));
    let dir = tempfile::tempdir().unwrap();
    let parts = [&md5(&published)[..], &md5(&sent), "nothing of it was kept"];
    let (fetched, _) = get(dir.path(), &published, vec![whole(&sent, "\r\nETag: \"one\"")]);
    sentence(fetched, &parts);
    assert_eq!(names(dir.path()), [""; 0]);
    // a rest that does not belong to what was there
    let dir = broken(&published, 5000, "");
    let (fetched, _) = get(dir.path(), &published, vec![rest(&sent, 5000)]);
    sentence(fetched, &[&md5(&published), "nothing of it was kept"]);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_server_that_refuses_or_is_not_there_is_told_with_what_to_do() {
    let body = content(0);
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("data");
    for status in ["404 Not Found", "500 Internal Server Error"] {
        let (fetched, _) =
            get(&there, &body, vec![Answer(format!("{status}\r\nContent-Length: 4"), b"oops".into())]);
        let place = there.join(FILE);
        sentence(fetched, &[status, &md5(&body), place.to_str().unwrap(), "on another machine"]);
        assert!(!there.exists(), "a folder for nothing");
    }
    // a moment that passes does not cost what was there
    let kept = broken(&body, 5000, "");
    let (fetched, _) = get(kept.path(), &body, vec![Answer("503 Busy\r\nContent-Length: 0".into(), vec![])]);
    sentence(fetched, &["503"]);
    assert_eq!(fs::read(kept.path().join("set.tar.gz.part")).unwrap().len(), 5000);

    let url = format!("http://{}/{FILE}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let gone = Archive { url, file: FILE.into(), md5: md5(&body) };
    sentence(fetch(&gone, &there, &mut |_, _| true), &["refused", &gone.url, "on another machine"]);
    assert!(!there.exists());
    let (url, server) = serve(vec![Answer("no HTTP".into(), vec![])]);
    sentence(fetch(&Archive { url, ..gone }, &there, &mut |_, _| true), &["cannot be fetched"]);
    server.join().unwrap();
}

#[test]
fn what_can_be_done_with_the_folder_decides() {
    let body = content(0);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let archive = Archive { url: "http://127.0.0.1:1".into(), file: FILE.into(), md5: md5(&body) };
    let fetch = |folder: &str| fetch(&archive, &dir.path().join(folder), &mut |_, _| true);
    sentence(fetch("file/data"), &["cannot create", "file/data"]);
    // another program is at it
    let part = fs::File::create(dir.path().join("set.tar.gz.part")).unwrap();
    part.try_lock().unwrap();
    sentence(fetch(""), &["by another program"]);
    drop(part);
    #[cfg(target_os = "linux")]
    {
        fs::create_dir(dir.path().join("full")).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("full/set.tar.gz.part")).unwrap();
        let (fetched, _) = get(&dir.path().join("full"), &body, vec![whole(&body, "")]);
        sentence(fetched, &["cannot write", "set.tar.gz.part", "No space left"]);
        assert!(!dir.path().join("full").join(FILE).exists());
    }
}

#[test]
fn a_stopped_transfer_can_be_gone_on_with() {
    let body = content(0);
    let dir = tempfile::tempdir().unwrap();
    let (url, server) = serve(vec![whole(&body, "\r\nETag: \"one\"")]);
    let archive = Archive { url, file: FILE.into(), md5: md5(&body) };
    assert_eq!(fetch(&archive, dir.path(), &mut |have, _| have < 100_000).unwrap(), None);
    server.join().unwrap();
    let have = fs::read(dir.path().join("set.tar.gz.part")).unwrap().len();
    assert!((100_000..300_000).contains(&have));
    let (fetched, requests) = get(dir.path(), &body, vec![rest(&body, have)]);
    assert!(
        requests[0].contains(&format!("range: bytes={have}-\r\n"))
            && requests[0].contains("if-range: \"one\"")
    );
    is_whole(dir.path(), fetched, &body);
}
