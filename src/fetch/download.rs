//! One wheel into one `.part` file, going on after every break, never beyond the size in the lock.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use super::error::FetchError;
use super::lock::Package;
use super::progress::{Event, Progress};
use super::source::{Refusal, Sources, host};

/// So many attempts in a row may bring nothing before we give up.
const TRIES: u32 = 5;
/// What an attempt must add to the furthest point reached to count as progress: it bounds all attempts
/// together, also with a server that knows no ranges and always breaks off at the same place.
const STEP: u64 = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A download to be made.
pub(super) struct Download<'a> {
    pub package: &'a Package,
    pub url: &'a str,
    pub part: &'a Path,
    /// Where a user can put the wheel by hand; for messages.
    pub folder: &'a Path,
    pub sources: &'a Sources,
    pub pause: &'a dyn Fn(Duration),
}

enum Stop {
    Final(FetchError),
    Again(Cause),
}

enum Cause {
    Status(u16),
    Broken(String),
}

impl Download<'_> {
    /// Completes the `.part` file and returns how many bytes it had to receive for that.
    /// The size is right then; the checksum is the caller's to verify.
    pub fn run(&self, progress: &mut dyn Progress) -> Result<u64, FetchError> {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(self.part)
            .map_err(FetchError::disk(self.part))?;
        let mut received = 0;
        let mut furthest = self.kept(&file)?;
        let mut failures = 0;
        loop {
            let from = self.kept(&file)?;
            progress.event(Event::Downloading { package: self.package, from });
            let cause = match self.attempt(&mut file, from, &mut received, progress) {
                Ok(()) => return Ok(received),
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Again(cause)) => cause,
            };
            let reached = self.kept(&file)?;
            if reached >= furthest + STEP {
                furthest = reached;
                failures = 0;
            }
            failures += 1;
            if failures == TRIES {
                return Err(self.given_up(cause));
            }
            let pause = FIRST_PAUSE * (1 << (failures - 1));
            progress.event(Event::Retrying { package: self.package, why: &cause.to_string(), pause });
            (self.pause)(pause);
        }
    }

    /// How much of an earlier download can be gone on from.
    fn kept(&self, file: &File) -> Result<u64, FetchError> {
        let length = file.metadata().map_err(FetchError::disk(self.part))?.len();
        if length <= self.package.size {
            return Ok(length);
        }
        file.set_len(0).map_err(FetchError::disk(self.part))?;
        Ok(0)
    }

    fn attempt(
        &self,
        file: &mut File,
        from: u64,
        received: &mut u64,
        progress: &mut dyn Progress,
    ) -> Result<(), Stop> {
        let Package { size, .. } = *self.package;
        let disk = |error| Stop::Final(FetchError::disk(self.part)(error));
        if from == size {
            return Ok(());
        }
        let mut opened = match self.sources.open(self.url, from) {
            Ok(opened) => opened,
            Err(Refusal::Range) => {
                file.set_len(0).and_then(|()| file.rewind()).map_err(disk)?;
                return Err(Stop::Again(Cause::Broken(
                    "it has nothing after what is here already".to_owned(),
                )));
            }
            Err(refusal) => return Err(self.refused(refusal)),
        };
        if let Some(total) = opened.total.filter(|total| *total != size) {
            return Err(Stop::Final(self.wrong_size(total.to_string())));
        }
        file.set_len(opened.start).and_then(|()| file.seek(SeekFrom::Start(opened.start))).map_err(disk)?;
        let mut done = opened.start;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match opened.body.read(&mut buffer) {
                Ok(0) if done == size => return Ok(()),
                Ok(0) => return Err(Stop::Again(Cause::Broken("the connection ended early".to_owned()))),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Again(Cause::Broken(error.to_string()))),
            };
            done += count as u64;
            *received += count as u64;
            if done > size {
                // Whatever this is, its beginning is not worth keeping.
                fs::remove_file(self.part).map_err(disk)?;
                return Err(Stop::Final(self.wrong_size(format!("more than {size}"))));
            }
            file.write_all(buffer.get(..count).unwrap_or_default()).map_err(disk)?;
            progress.event(Event::Advanced { package: self.package, done });
        }
    }

    fn refused(&self, refusal: Refusal) -> Stop {
        match refusal {
            Refusal::Status(status @ (408 | 425 | 429 | 500..=599)) => Stop::Again(Cause::Status(status)),
            Refusal::Status(status) => Stop::Final(self.given_up(Cause::Status(status))),
            Refusal::Broken(why) => Stop::Again(Cause::Broken(why)),
            Refusal::Range => Stop::Again(Cause::Status(416)),
            Refusal::Final(why) => {
                Stop::Final(FetchError::Connect { file: self.file(), host: self.host(), why })
            }
            Refusal::File(path, source) => Stop::Final(FetchError::Disk { path, source }),
        }
    }

    fn given_up(&self, cause: Cause) -> FetchError {
        let (file, host) = (self.file(), self.host());
        match cause {
            Cause::Status(status) => {
                FetchError::Status { file, host, status, folder: self.folder.to_owned() }
            }
            Cause::Broken(why) => FetchError::Broken { file, host, why },
        }
    }

    fn wrong_size(&self, found: String) -> FetchError {
        FetchError::Size { file: self.file(), host: self.host(), expected: self.package.size, found }
    }

    fn file(&self) -> String {
        self.package.file.clone()
    }

    fn host(&self) -> String {
        host(self.url).to_owned()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answers {status}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}
