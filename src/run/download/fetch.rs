//! Fetches a file: checked, gone on with where it broke off, and there under its name only when it is whole and right.

use crate::data::Archive;
use crate::error::{Error, Result};
use md5::{Digest, Md5};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Response;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use ureq::{Agent, Body};

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Is told the bytes that are there and, if that is known, how many there will be; says whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> bool;

/// Puts the file into `folder`, which is made if need be; nothing if `watch` stopped it.
///
/// What has come is kept in `<file>.part`, and in `<file>.part.version` what the server calls this version of the
/// file (RFC 9110, section 8.8), so that the next call asks for the rest of the same version.
///
/// # Errors
/// [`Error::Download`] if the server cannot be reached, refuses, breaks off (what has come stays), or sends another
/// file (of which nothing stays); [`Error::Io`] if the folder cannot be written.
pub fn fetch(archive: &Archive, folder: &Path, watch: Watch) -> Result<Option<PathBuf>> {
    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let name = |end: &str| folder.join(format!("{}{end}", archive.file));
    let [whole, part, version] = ["", ".part", ".part.version"].map(name);
    let file = OpenOptions::new().read(true).append(true).create(true).open(&part);
    let file = file.map_err(Error::io("write", &part))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        let what = format!("is being fetched into {} by another program", folder.display());
        return Err(failed(archive, what));
    }
    let mut transfer = Transfer { archive, file, part: &part, version: &version, whole: &whole };
    let fetched =
        transfer.run(watch).and_then(|ended| if ended { transfer.check().map(Some) } else { Ok(None) });
    fetched.inspect_err(|_| {
        // nothing came: nothing stays
        if part.metadata().is_ok_and(|part| part.len() == 0) {
            let _ = fs::remove_file(&part);
        }
        if made {
            let _ = fs::remove_dir(folder);
        }
    })
}

fn failed(archive: &Archive, what: String) -> Error {
    Error::Download { url: archive.url.clone(), what }
}

struct Transfer<'a> {
    archive: &'a Archive,
    file: File,
    part: &'a Path,
    version: &'a Path,
    whole: &'a Path,
}

impl Transfer<'_> {
    /// Fetches what the file lacks; whether it got to the end.
    fn run(&mut self, watch: Watch) -> Result<bool> {
        let have = self.len()?;
        let mut response = self.request(have)?;
        let start = match response.status().as_u16() {
            206 if range(&response).0 == Some(have) => have,
            // all that there is, to be checked; else what is here is of another file
            416 if have > 0 && range(&response).1 == Some(have) => return Ok(true),
            416 | 206 if have > 0 => {
                self.clear()?;
                response = self.request(0)?;
                0
            }
            _ => 0, // all of it, whatever was asked for
        };
        if start == 0 {
            self.accept(&response)?;
        }
        let length = number(header(&response, CONTENT_LENGTH));
        let all = length.map(|length| start + length);
        let copied = self.copy(&mut response.body_mut().as_reader(), (start, all), watch)?;
        self.file.sync_all().map_err(Error::io("write", self.part))?;
        Ok(copied)
    }

    /// Asks for the file from byte `start` on, if it still is the version that is here.
    fn request(&self, start: u64) -> Result<Response<Body>> {
        let url = &self.archive.url;
        let mut request = agent(url).get(url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
            if let Ok(version) = fs::read_to_string(self.version) {
                request = request.header(IF_RANGE, version);
            }
        }
        request.call().map_err(|e| self.unreachable(&e))
    }

    /// Starts the file anew with this response.
    fn accept(&mut self, response: &Response<Body>) -> Result<()> {
        if response.status() != 200 {
            return Err(self.unreachable(&format!("the server answered {}", response.status())));
        }
        self.clear()?;
        let strong = header(response, ETAG).filter(|tag| !tag.starts_with("W/"));
        if let Some(version) = strong.or_else(|| header(response, LAST_MODIFIED)) {
            fs::write(self.version, version).map_err(Error::io("write", self.version))?;
        }
        Ok(())
    }

    /// Copies to the end, or until `watch` has enough: whether it got to the end.
    fn copy(&mut self, from: &mut impl Read, (start, all): (u64, Option<u64>), watch: Watch) -> Result<bool> {
        let (mut have, mut buffer) = (start, vec![0; 1 << 16]);
        loop {
            if !watch(have, all) {
                return Ok(false);
            }
            let count = match from.read(&mut buffer) {
                Ok(0) if all.is_none_or(|all| have == all) => return Ok(true),
                Ok(0) => return Err(self.broken(have, all, &"the connection ended")),
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.broken(have, all, &e)),
            };
            self.file.write_all(&buffer[..count]).map_err(Error::io("write", self.part))?;
            have += count as u64;
        }
    }

    /// Gives the file its name if it is the published one, else removes it.
    fn check(&mut self) -> Result<PathBuf> {
        let (found, published) = (self.md5()?, &self.archive.md5);
        let _ = fs::remove_file(self.version); // nothing depends on it any more
        if found != *published {
            fs::remove_file(self.part).map_err(Error::io("remove", self.part))?;
            let what = format!(
                "the server sent another file: its MD5 is {found}, the published one {published}; nothing of it was kept, so try again, or get the file elsewhere"
            );
            return Err(failed(self.archive, what));
        }
        fs::rename(self.part, self.whole).map_err(Error::io("rename", self.part))?;
        Ok(self.whole.to_owned())
    }

    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|file| file.len()).map_err(Error::io("read", self.part))
    }

    fn clear(&mut self) -> Result<()> {
        if self.len()? > 0 {
            self.file.set_len(0).map_err(Error::io("write", self.part))?;
        }
        match fs::remove_file(self.version) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", self.version)(e)),
            _ => Ok(()),
        }
    }

    fn md5(&mut self) -> Result<String> {
        let mut digest = Md5::new();
        let mut buffer = vec![0; 1 << 16];
        self.file.rewind().map_err(Error::io("read", self.part))?;
        loop {
            match self.file.read(&mut buffer).map_err(Error::io("read", self.part))? {
                0 => return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
                count => digest.update(&buffer[..count]),
            }
        }
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Error {
        let Archive { md5, .. } = self.archive;
        let place = self.whole.display();
        let what = format!(
            "cannot be fetched ({why}); try again, or get it on another machine and put it here as {place} (MD5 {md5})"
        );
        failed(self.archive, what)
    }

    fn broken(&self, have: u64, all: Option<u64>, why: &dyn std::fmt::Display) -> Error {
        let all = all.map_or(String::new(), |all| format!(" of {all}"));
        let part = self.part.display();
        let what = format!(
            "broke off after {have}{all} bytes ({why}); they are kept in {part}, and the same command goes on from there"
        );
        failed(self.archive, what)
    }
}

/// Proxies come from the environment, but none stands between this machine and itself.
fn agent(url: &str) -> Agent {
    let mut config = Agent::config_builder()
        .https_only(url.starts_with("https:"))
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE));
    if ["http://127.0.0.1:", "http://localhost:"].iter().any(|here| url.starts_with(here)) {
        config = config.proxy(None);
    }
    config.build().into()
}

fn header(response: &Response<Body>, name: ureq::http::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.trim().parse().ok()
}

/// First byte and size of the file by `Content-Range`: `bytes 5-9/10`, or `bytes */10` of a range that it does not have.
fn range(response: &Response<Body>) -> (Option<u64>, Option<u64>) {
    let text = header(response, CONTENT_RANGE).and_then(|text| text.strip_prefix("bytes "));
    let Some((range, all)) = text.and_then(|text| text.split_once('/')) else { return (None, None) };
    (number(range.split_once('-').map(|(first, _)| first)), number(Some(all)))
}
