//! The folder of one repository in the cache. What is whole has its content's checksum for a name and came there by
//! one rename; everything else in it is work that nobody serves.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::RemoteError;
use super::http::Validator;
use crate::checksum::sha256;

const LOCK: &str = "lock";
const CURRENT: &str = "current";
/// A download that is not complete, and what it is a part of.
pub(super) const PART: &str = "part";
pub(super) const PART_OF: &str = "part.of";
const LARGEST_RECORD: u64 = 16 << 10;

#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    /// Keeps other servers out until it is dropped.
    _alone: File,
}

/// What was served last, and how the source told that it was this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    pub id: String,
    pub validator: Validator,
}

impl Home {
    /// `name` is the repository's address; what differs in it has another folder.
    pub fn open(cache: &Path, name: &str) -> Result<Self, RemoteError> {
        let folder = cache.join(sha256(name.as_bytes()).get(..16).unwrap_or_default());
        fs::create_dir_all(&folder).map_err(RemoteError::disk(&folder))?;
        let path = folder.join(LOCK);
        let file = File::create(&path).map_err(RemoteError::disk(&path))?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                tracing::info!(folder = %folder.display(), "waiting for another server that fetches the same");
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match locked {
            // Some network file systems have no locks; then nobody is kept out.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(RemoteError::disk(&path)(error)),
            _ => Ok(Self { folder, _alone: file }),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The content with this checksum, if it is here.
    pub fn whole(&self, id: &str) -> Option<PathBuf> {
        Some(self.path(id)).filter(|path| path.is_dir())
    }

    /// What was served last, if it is still here.
    pub fn current(&self) -> Option<Current> {
        let text = read_small(&self.path(CURRENT))?;
        let (id, validator) = text.split_once('\n')?;
        self.whole(id)?;
        Some(Current { id: id.to_owned(), validator: Validator::from_text(validator)? })
    }

    /// A folder to work in; what an earlier run left in it is still there.
    pub fn staging(&self, id: &str) -> Result<PathBuf, RemoteError> {
        let path = self.path(&format!("{id}.staging"));
        fs::create_dir_all(&path).map_err(RemoteError::disk(&path))?;
        Ok(path)
    }

    /// The same, empty.
    pub fn empty_staging(&self, id: &str) -> Result<PathBuf, RemoteError> {
        let path = self.path(&format!("{id}.staging"));
        remove(&path)?;
        self.staging(id)
    }

    /// Makes what was worked on what is served, and removes what was before.
    pub fn adopt(&self, staging: &Path, current: &Current) -> Result<PathBuf, RemoteError> {
        let place = self.path(&current.id);
        fs::rename(staging, &place).map_err(RemoteError::disk(&place))?;
        // The name must be as safe as the bytes behind it.
        sync_folder(&self.folder).map_err(RemoteError::disk(&self.folder))?;
        self.remember(current)?;
        self.tidy(&[&current.id])?;
        Ok(place)
    }

    /// Takes down what is served from now on.
    pub fn remember(&self, current: &Current) -> Result<(), RemoteError> {
        if self.current().as_ref() == Some(current) {
            return Ok(());
        }
        let path = self.path(CURRENT);
        write_whole(&path, &format!("{}\n{}", current.id, current.validator.to_text()))
            .map_err(RemoteError::disk(&path))
    }

    /// Removes all work and all contents but these.
    pub fn tidy(&self, keep: &[&str]) -> Result<(), RemoteError> {
        let entries = fs::read_dir(&self.folder).map_err(RemoteError::disk(&self.folder))?;
        for entry in entries {
            let path = entry.map_err(RemoteError::disk(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if ![LOCK, CURRENT].contains(&name) && !keep.contains(&name) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// A file that is small if it is ours.
pub(super) fn read_small(path: &Path) -> Option<String> {
    let small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= LARGEST_RECORD);
    fs::read_to_string(path).ok().filter(|_| small)
}

/// Writes a small file in one piece: a crash leaves the old one or the new one.
pub(super) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Removes a file or a folder, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), RemoteError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(RemoteError::disk(path)(error)),
        _ => Ok(()),
    }
}
