//! One file into one `part`, going on after every break and every restart, never beyond a limit.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use super::checksums::Told;
use super::home::{Home, PART, PART_OF, read_small, write_whole};
use super::http::{Answer, Client, Opened, Refusal, Request, Validator};
use super::{RemoteError, TRIES, pause_after};

/// What an attempt must add to the furthest point reached to count as progress: it bounds all attempts together.
const STEP: u64 = 64 << 10;

/// Where a file comes from.
pub(super) trait Source {
    /// As logs may have it.
    fn shown(&self) -> &str;
    /// What tells it from other files that may have left a `part`.
    fn identity(&self) -> &str;
    /// Its address, which may hold for a while only.
    fn url(&self) -> Result<String, RemoteError>;
    fn headers(&self) -> &[(&'static str, &str)] {
        &[]
    }
    /// The ETag without which it is not wanted.
    fn only(&self) -> Option<&str> {
        None
    }
}

/// A download to be made.
pub(super) struct Download<'a> {
    pub client: &'a Client,
    pub home: &'a Home,
    pub limit: u64,
    pub pause: &'a dyn Fn(Duration),
}

/// What became of it.
pub(super) enum Outcome {
    /// The `part` is complete.
    Complete {
        validator: Validator,
        told: Told,
    },
    /// It is what it was.
    Unchanged,
    /// It is not the one that was wanted any more.
    Changed,
    NotFound,
}

enum Stop {
    Final(RemoteError),
    Again(String),
}

/// What the `part` is a part of.
#[derive(Default)]
struct Part {
    validator: Option<Validator>,
    told: Told,
}

impl Download<'_> {
    pub fn run(&self, source: &dyn Source, unless: Option<&Validator>) -> Result<Outcome, RemoteError> {
        let path = self.home.path(PART);
        let opened = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
        let mut file = opened.map_err(RemoteError::disk(&path))?;
        let mut part = self.known(source);
        if part.validator.is_none() {
            file.set_len(0).map_err(RemoteError::disk(&path))?;
        }
        let length = |file: &File| Ok(file.metadata().map_err(RemoteError::disk(&path))?.len());
        let (mut furthest, mut failures) = (length(&file)?, 0);
        loop {
            let from = length(&file)?;
            let why = match self.attempt(source, unless, &mut file, from, &mut part) {
                Ok(outcome) => return Ok(outcome),
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Again(why)) => why,
            };
            let reached = length(&file)?;
            if reached >= furthest.saturating_add(STEP) {
                (furthest, failures) = (reached, 0);
            }
            failures += 1;
            if failures == TRIES {
                return Err(RemoteError::Unreachable { from: source.shown().to_owned(), why });
            }
            let pause = pause_after(failures);
            tracing::warn!(
                from = source.shown(),
                why,
                ?pause,
                bytes = reached,
                "the fetch broke off; it is tried again"
            );
            (self.pause)(pause);
        }
    }

    /// What an earlier run has left of this very file.
    fn known(&self, source: &dyn Source) -> Part {
        let known = || {
            let text = read_small(&self.home.path(PART_OF))?;
            let (identity, rest) = text.split_once('\n')?;
            let (sha256, rest) = rest.split_once('\n')?;
            let (md5, validator) = rest.split_once('\n')?;
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let told = Told { sha256: some(sha256), md5: some(md5) };
            (identity == source.identity())
                .then(|| Some(Part { validator: Some(Validator::from_text(validator)?), told }))?
        };
        known().unwrap_or_default()
    }

    fn attempt(
        &self,
        source: &dyn Source,
        unless: Option<&Validator>,
        file: &mut File,
        from: u64,
        part: &mut Part,
    ) -> Result<Outcome, Stop> {
        let disk = |error| Stop::Final(RemoteError::disk(&self.home.path(PART))(error));
        let url = source.url().map_err(Stop::Final)?;
        let request = Request {
            url: &url,
            headers: source.headers(),
            from,
            validator: part.validator.as_ref(),
            // With a part here there is something to go on with, whatever was served last.
            unless: unless.filter(|_| from == 0),
            only: source.only(),
        };
        let opened = match self.client.open(&request) {
            Ok(Answer::File(opened)) => opened,
            Ok(Answer::Unchanged) => return Ok(Outcome::Unchanged),
            Ok(Answer::NothingMore) => return Ok(part.complete()),
            Ok(Answer::Changed) if source.only().is_some() => return Ok(Outcome::Changed),
            Ok(Answer::Changed) => {
                file.set_len(0).map_err(disk)?;
                return Err(Stop::Again("it is no longer what it was".to_owned()));
            }
            Err(Refusal::NotFound) => return Ok(Outcome::NotFound),
            Err(Refusal::Again(why)) => return Err(Stop::Again(why)),
            Err(Refusal::Final(why)) => return Err(Stop::Final(RemoteError::refused(source.shown(), why))),
        };
        if opened.total.is_some_and(|total| total > self.limit) {
            return Err(Stop::Final(RemoteError::too_many_bytes(source.shown(), self.limit)));
        }
        if opened.start == 0 {
            // The part is emptied before it is said to be of another file.
            file.set_len(0).map_err(disk)?;
            *part = Part { validator: Some(opened.validator.clone()), told: opened.told.clone() };
            let Told { sha256, md5 } = &part.told;
            let [sha256, md5] = [sha256, md5].map(|sum| sum.clone().unwrap_or_default());
            let of = format!("{}\n{sha256}\n{md5}\n{}", source.identity(), opened.validator.to_text());
            let path = self.home.path(PART_OF);
            write_whole(&path, &of).map_err(|error| Stop::Final(RemoteError::disk(&path)(error)))?;
        }
        file.seek(SeekFrom::Start(opened.start)).map_err(disk)?;
        self.receive(source, file, opened)?;
        Ok(part.complete())
    }

    fn receive(&self, source: &dyn Source, file: &mut File, opened: Opened) -> Result<(), Stop> {
        let disk = |error| Stop::Final(RemoteError::disk(&self.home.path(PART))(error));
        let Opened { start, total, mut body, .. } = opened;
        let mut progress = Progress::begin(source.shown(), start, total);
        let mut done = start;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) if total.is_none_or(|total| done == total) => break,
                Ok(0) => return Err(Stop::Again("the connection ended early".to_owned())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Again(error.to_string())),
            };
            done += count as u64;
            if done > self.limit {
                return Err(Stop::Final(RemoteError::too_many_bytes(source.shown(), self.limit)));
            }
            file.write_all(buffer.get(..count).unwrap_or_default()).map_err(disk)?;
            progress.reached(done);
        }
        file.sync_all().map_err(disk)
    }
}

impl Part {
    fn complete(&self) -> Outcome {
        Outcome::Complete { validator: self.validator.clone().unwrap_or_default(), told: self.told.clone() }
    }
}

/// A line in the log for each tenth of a file that is not small, or for each 64 MiB of one whose size nobody tells.
struct Progress<'a> {
    from: &'a str,
    total: Option<u64>,
    told: u64,
}

const UNKNOWN_STEP: u64 = 64 << 20;
const SMALL: u64 = 1 << 20;

impl<'a> Progress<'a> {
    fn begin(from: &'a str, start: u64, total: Option<u64>) -> Self {
        if start > 0 {
            tracing::info!(from, bytes = start, total, "the fetch goes on");
        } else {
            tracing::info!(from, total, "fetching");
        }
        let mut this = Self { from, total, told: 0 };
        this.told = this.tenth(start);
        this
    }

    fn tenth(&self, done: u64) -> u64 {
        match self.total {
            Some(total) if total < SMALL => 0,
            Some(total) => done.saturating_mul(10) / total,
            None => done / UNKNOWN_STEP,
        }
    }

    fn reached(&mut self, done: u64) {
        let tenth = self.tenth(done);
        if tenth > self.told {
            self.told = tenth;
            let percent = self.total.map(|_| tenth * 10);
            tracing::info!(from = self.from, bytes = done, total = self.total, percent, "fetched");
        }
    }
}
