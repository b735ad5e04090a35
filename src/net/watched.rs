//! A value made of small files, and made anew when they change.
//!
//! The files are read every so often and their contents compared: that sees whatever may happen to a file, also
//! the symbolic link that Kubernetes swaps above a mounted secret. A change counts once it has been seen twice, so
//! that nothing is made of half a file, or of a new certificate and an old key. Files that are no good change
//! nothing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::checksum::sha256;

/// The files are read so often.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// No chain of certificates and no list of keys is longer.
const LONGEST: u64 = 1 << 20;

/// A file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct BadFile {
    pub path: PathBuf,
    pub why: String,
}

/// What a file held when it was read.
#[derive(Default)]
pub struct Content {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Content {
    fn read(path: &Path) -> Result<Self, BadFile> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
        let content = Self { path: path.to_owned(), bytes };
        match read {
            Err(error) => Err(content.bad(format!("cannot be read: {error}"))),
            Ok(length) if length as u64 > LONGEST => Err(content.bad("is larger than 1 MiB")),
            Ok(_) => Ok(content),
        }
    }

    pub fn bad(&self, why: impl Into<String>) -> BadFile {
        BadFile { path: self.path.clone(), why: why.into() }
    }
}

type Make<T, const N: usize> = Box<dyn Fn(&[Content; N], Option<&T>) -> Result<T, BadFile> + Send + Sync>;

pub struct Watched<T, const N: usize> {
    /// Its name in the log.
    name: &'static str,
    paths: [PathBuf; N],
    /// Makes the value, also of what it was before.
    make: Make<T, N>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

/// Checksums of what the files held, or why they could not be read.
struct Seen {
    last: Result<String, BadFile>,
    /// Of this the value was made, or could not be.
    tried: Result<String, BadFile>,
}

impl<T, const N: usize> Watched<T, N> {
    pub fn new(
        name: &'static str,
        paths: [PathBuf; N],
        make: impl Fn(&[Content; N], Option<&T>) -> Result<T, BadFile> + Send + Sync + 'static,
    ) -> Result<Self, BadFile> {
        let contents = read(&paths)?;
        let current = RwLock::new(Arc::new(make(&contents, None)?));
        let seen = Ok(checksum(&contents));
        let seen = Mutex::new(Seen { last: seen.clone(), tried: seen });
        Ok(Self { name, paths, make: Box::new(make), current, seen })
    }

    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Looks at the files; what has stood in them since the look before is used from now on.
    pub fn look(&self) {
        let mut seen = self.seen.lock();
        let contents = read(&self.paths);
        let sum = contents.as_ref().map(|contents| checksum(contents)).map_err(BadFile::clone);
        let stands = sum == seen.last;
        seen.last.clone_from(&sum);
        if !stands || sum == seen.tried {
            return;
        }
        seen.tried = sum;
        let name = self.name;
        match contents.and_then(|contents| (self.make)(&contents, Some(&self.get()))) {
            Ok(value) => {
                *self.current.write() = Arc::new(value);
                tracing::info!("the {name} has changed; the new one is used from now on");
            }
            Err(error) => {
                tracing::warn!(%error, "the {name} has changed and is no good; the old one is kept")
            }
        }
    }
}

fn read<const N: usize>(paths: &[PathBuf; N]) -> Result<[Content; N], BadFile> {
    let mut bad = None;
    let contents = paths.each_ref().map(|path| {
        Content::read(path).unwrap_or_else(|error| {
            bad.get_or_insert(error);
            Content::default()
        })
    });
    bad.map_or(Ok(contents), Err)
}

fn checksum(contents: &[Content]) -> String {
    contents.iter().map(|content| sha256(&content.bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn number([content]: &[Content; 1], _: Option<&u32>) -> Result<u32, BadFile> {
        let text = String::from_utf8_lossy(&content.bytes);
        text.trim().parse().map_err(|_| content.bad("is no number"))
    }

    fn looks(watched: &Watched<u32, 1>, count: usize) -> u32 {
        (0..count).for_each(|_| watched.look());
        *watched.get()
    }

    #[test]
    fn what_stands_in_the_file_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let bad = |why: &str| BadFile { path: path.clone(), why: why.to_owned() };
        let watched = || Watched::new("number", [path.clone()], number);
        assert!(watched().is_err_and(|error| error.why.starts_with("cannot be read: ")));
        fs::write(&path, "x").unwrap();
        assert_eq!(watched().err(), Some(bad("is no number")));
        fs::write(&path, vec![b'1'; (1 << 20) + 1]).unwrap();
        assert_eq!(watched().err(), Some(bad("is larger than 1 MiB")));

        fs::write(&path, "1").unwrap();
        let watched = watched().unwrap();
        assert_eq!(looks(&watched, 3), 1);
        fs::write(&path, "2").unwrap();
        assert_eq!(looks(&watched, 1), 1, "it may be half of 20");
        fs::write(&path, "20").unwrap();
        assert_eq!(looks(&watched, 1), 1);
        assert_eq!(looks(&watched, 1), 20);
        fs::write(&path, "x").unwrap();
        assert_eq!(looks(&watched, 3), 20);
        fs::remove_file(&path).unwrap();
        assert_eq!(looks(&watched, 3), 20);
        fs::write(&path, "20").unwrap();
        assert_eq!(looks(&watched, 3), 20);
        fs::write(&path, "21").unwrap();
        assert_eq!(looks(&watched, 2), 21);
    }

    /// As Kubernetes does it: the file is a link through a link to a folder, which is replaced.
    #[test]
    fn a_link_that_is_swapped_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("..one", "1"), ("..two", "2")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("number"), text).unwrap();
        }
        std::os::unix::fs::symlink("..one", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/number", at("number")).unwrap();
        let watched = Watched::new("number", [at("number")], number).unwrap();
        std::os::unix::fs::symlink("..two", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(looks(&watched, 2), 2);
    }
}
