//! What can go wrong while a repository is brought, in sentences that say what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("model_repository: '{given}' was given; {why}")]
    Address { given: String, why: &'static str },

    #[error(
        "{from} could not be fetched, at last because of: {why}. What has arrived is kept: the next start goes on from there"
    )]
    Unreachable { from: String, why: String },

    #[error("{from} could not be fetched: {why}")]
    Refused { from: String, why: String },

    #[error(
        "{from} is not what it should be and is not served: expected {kind} {expected}, found {found}. \
         It was fetched {times} times"
    )]
    Checksum { from: String, kind: &'static str, expected: String, found: String, times: u32 },

    #[error("{from} cannot be used and is not served: {why}")]
    Unfit { from: String, why: String },

    #[error("{from} is beyond {bound}{}", if *.setting { "; max_repository_size may be set to more" } else { "" })]
    TooLarge { from: String, bound: String, setting: bool },

    #[error("cannot write or read {}: {source}{}", path.display(), disk_hint(source))]
    Disk { path: PathBuf, source: io::Error },
}

impl RemoteError {
    /// For `map_err`: an I/O error with the path it came from.
    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }

    /// More than `max_repository_size`.
    pub(super) fn too_many_bytes(from: &str, limit: u64) -> Self {
        Self::TooLarge { from: from.to_owned(), bound: format!("{limit} bytes"), setting: true }
    }

    /// More than anybody's models need.
    pub(super) fn too_many_entries(from: &str, limit: usize) -> Self {
        Self::TooLarge { from: from.to_owned(), bound: format!("{limit} files and folders"), setting: false }
    }

    pub(super) fn unfit(from: &str, why: impl Into<String>) -> Self {
        Self::Unfit { from: from.to_owned(), why: why.into() }
    }

    pub(super) fn refused(from: &str, why: impl Into<String>) -> Self {
        Self::Refused { from: from.to_owned(), why: why.into() }
    }
}

fn disk_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free some space, or name a folder with more of it as model_cache; the next start goes on from here"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; name a folder that can be written as model_cache"
        }
        _ => "",
    }
}
