//! What can go wrong while fetching, in sentences that say what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the lock file {} cannot be used: {why}", path.display())]
    Lock { path: PathBuf, why: String },

    #[error("the lock file has no package {name:?}; it has {}", known.join(", "))]
    UnknownPackage { name: String, known: Vec<String> },

    #[error("the lock file has no package of the group {group:?}")]
    UnknownGroup { group: String },

    #[error(transparent)]
    Unsupported(#[from] Unsupported),

    #[error(
        "cannot find out where to download {file}: {source}. \
         Or put that file into {} yourself, and run this again", folder.display()
    )]
    Resolve { file: String, folder: PathBuf, source: ResolveError },

    #[error(
        "{host} answers {status} for {file}{}. Or put that file into {} yourself, and run this again",
        status_hint(*status), folder.display()
    )]
    Status { file: String, host: String, status: u16, folder: PathBuf },

    #[error(
        "the download of {file} from {host} broke off again and again, at last because of: {why}. \
         What has arrived is kept: run this again when the network is better, and it goes on from there"
    )]
    Broken { file: String, host: String, why: String },

    #[error("cannot download {file} from {host}: {why}")]
    Connect { file: String, host: String, why: String },

    #[error(
        "{host} sends {found} bytes for {file}, which has {expected}: it is not that file. \
         Is a proxy or a sign-in page in between?"
    )]
    Size { file: String, host: String, expected: u64, found: String },

    #[error(
        "{} was damaged or is not the file that was pinned, and has been removed: \
         expected SHA-256 {expected}, found {found}. Run this again to download it anew", path.display()
    )]
    Checksum { path: PathBuf, expected: String, found: String },

    #[error("{member} in {} is not what the lock file says: {why}. The wheel is the pinned one, so correct the lock file", wheel.display())]
    Member { wheel: PathBuf, member: String, why: String },

    #[error("cannot write or read {}: {source}{}", path.display(), disk_hint(source))]
    Disk { path: PathBuf, source: io::Error },
}

/// A package that the lock file does not have for this platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no {name} to fetch for {platform}: get its shared library for this platform from elsewhere, \
     and give its path with --onnxruntime"
)]
pub struct Unsupported {
    pub name: String,
    pub platform: String,
}

/// Why pip did not say where a wheel is.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("{python} does not start ({source}); install Python 3 with pip")]
    NoPython { python: String, source: io::Error },
    #[error("{python} has no pip; install it ({python} -m ensurepip, or your system's python3-pip)")]
    NoPip { python: String },
    #[error("the pip of {python} is older than 22.2; upgrade it ({python} -m pip install --upgrade pip)")]
    OldPip { python: String },
    #[error(
        "pip cannot reach the package index; look at the network, or at the mirror and proxy of `pip config list`: {detail}"
    )]
    Unreachable { detail: String },
    #[error("the package index that pip uses does not offer it: {detail}")]
    NotOffered { detail: String },
    #[error("pip fails: {detail}")]
    Failed { detail: String },
    #[error("pip's report is not understood ({why}); upgrade pip")]
    Report { why: String },
    #[error("the package index that pip uses offers another file: SHA-256 {found} in place of {expected}")]
    OtherFile { expected: String, found: String },
}

impl FetchError {
    /// For `map_err`: an I/O error with the path it came from.
    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }
}

fn status_hint(status: u16) -> &'static str {
    match status {
        401 | 403 => ": it wants to know who asks, which pip can tell it and this program cannot",
        407 => ": the proxy wants to know who asks; put name and password into HTTPS_PROXY",
        404 | 410 => ": the mirror's index names a file that it does not have",
        _ => "; it may do better later",
    }
}

fn disk_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free some space and run this again, it goes on from where it stopped"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; run this as a user who may write there, or choose another folder"
        }
        _ => "",
    }
}
