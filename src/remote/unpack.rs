//! Files out of an archive into an empty folder. It is told by its first bytes what kind it is; of what is in it,
//! only plain files and folders are taken, so many and so large as the limits allow.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use tar::EntryType;
use zip::ZipArchive;

use super::{RemoteError, names};

/// Files and folders of a repository.
pub(super) const MOST_ENTRIES: usize = 10_000;
/// What a tar file may have between the contents of two files: heads, long names and padding.
const BETWEEN: u64 = 1 << 20;

/// Unpacks `archive` into `folder`, which is there and empty.
pub(super) fn unpack(from: &str, archive: &Path, folder: &Path, limit: u64) -> Result<(), RemoteError> {
    let mut file = File::open(archive).map_err(RemoteError::disk(archive))?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(512).read_to_end(&mut head).map_err(RemoteError::disk(archive))?;
    file.rewind().map_err(RemoteError::disk(archive))?;
    let mut unpacking = Unpacking { from, folder, limit, left: limit, entries: 0 };
    let begins = |magic: &[u8]| head.starts_with(magic);
    if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") {
        unpacking.zip(file)
    } else if begins(b"\x1f\x8b") {
        unpacking.tar(MultiGzDecoder::new(BufReader::new(file)))
    } else if begins(b"\x28\xb5\x2f\xfd") {
        let decoder = StreamingDecoder::new(BufReader::new(file));
        unpacking.tar(decoder.map_err(|error| RemoteError::unfit(from, error.to_string()))?)
    } else if head.get(257..262) == Some(b"ustar") {
        unpacking.tar(BufReader::new(file))
    } else {
        Err(RemoteError::unfit(from, "it is no archive: neither tar, tar.gz, tar.zst nor zip"))
    }
}

struct Unpacking<'a> {
    from: &'a str,
    folder: &'a Path,
    limit: u64,
    /// Bytes that may still come.
    left: u64,
    entries: usize,
}

impl Unpacking<'_> {
    fn tar(&mut self, reader: impl Read) -> Result<(), RemoteError> {
        let allowance = Cell::new(BETWEEN);
        let mut archive = tar::Archive::new(Metered { reader, allowance: &allowance });
        let broken = |error: io::Error| RemoteError::unfit(self.from, error.to_string());
        let mut entries = archive.entries().map_err(broken)?;
        loop {
            allowance.set(BETWEEN);
            let Some(entry) = entries.next() else { return Ok(()) };
            let entry = entry.map_err(|error| self.unfit(error.to_string()))?;
            let kind = entry.header().entry_type();
            if kind == EntryType::XGlobalHeader {
                allowance.set(BETWEEN);
                continue;
            }
            let name = entry.path_bytes().into_owned();
            let name = String::from_utf8(name).map_err(|_| self.unfit("it has a name that is not UTF-8"))?;
            match kind {
                EntryType::Directory => self.directory(&name)?,
                EntryType::Regular | EntryType::Continuous => {
                    allowance.set(entry.size().saturating_add(BETWEEN));
                    self.file(&name, entry)?;
                }
                EntryType::Symlink | EntryType::Link => return Err(self.link(&name)),
                _ => {
                    return Err(
                        self.unfit(format!("'{}' is neither a file nor a folder", name.escape_debug()))
                    );
                }
            }
        }
    }

    fn zip(&mut self, file: File) -> Result<(), RemoteError> {
        let mut archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| self.unfit(error.to_string()))?;
        if archive.len() > MOST_ENTRIES {
            return Err(RemoteError::too_many_entries(self.from, MOST_ENTRIES));
        }
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(|error| self.unfit(error.to_string()))?;
            let name = entry.name().map_err(|error| self.unfit(error.to_string()))?.into_owned();
            if entry.is_symlink() {
                return Err(self.link(&name));
            } else if entry.is_dir() {
                self.directory(&name)?;
            } else {
                self.file(&name, entry)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, name: &str) -> Result<(), RemoteError> {
        let Some(place) = self.place(name)? else { return Ok(()) };
        fs::create_dir_all(&place).map_err(|error| self.cannot(&place, error))
    }

    fn file(&mut self, name: &str, mut content: impl Read) -> Result<(), RemoteError> {
        let Some(place) = self.place(name)? else { return Err(self.unfit("it has a file without a name")) };
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(|error| self.cannot(parent, error))?;
        }
        // What is there already was in it before.
        let file = OpenOptions::new().write(true).create_new(true).open(&place);
        let mut file = file.map_err(|error| self.cannot(&place, error))?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unfit(error.to_string())),
            };
            let left = self.left.checked_sub(count as u64);
            self.left = left.ok_or_else(|| RemoteError::too_many_bytes(self.from, self.limit))?;
            file.write_all(buffer.get(..count).unwrap_or_default()).map_err(RemoteError::disk(&place))?;
        }
        // The folder must not take its name before its bytes are safe, or a crash leaves torn files.
        file.sync_all().map_err(RemoteError::disk(&place))
    }

    fn place(&mut self, name: &str) -> Result<Option<PathBuf>, RemoteError> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(RemoteError::too_many_entries(self.from, MOST_ENTRIES));
        }
        let below = names::below(name).map_err(|why| self.unfit(why))?;
        Ok(below.map(|path| self.folder.join(path)))
    }

    /// A name that is taken is the archive's fault, all else the disk's.
    fn cannot(&self, place: &Path, error: io::Error) -> RemoteError {
        use io::ErrorKind::{AlreadyExists, NotADirectory};
        match error.kind() {
            AlreadyExists | NotADirectory => {
                let name = place.strip_prefix(self.folder).unwrap_or(place);
                self.unfit(format!("'{}' is in it twice", name.display()))
            }
            _ => RemoteError::disk(place)(error),
        }
    }

    fn link(&self, name: &str) -> RemoteError {
        self.unfit(format!(
            "'{}' is a link; pack the files themselves (tar --dereference)",
            name.escape_debug()
        ))
    }

    fn unfit(&self, why: impl Into<String>) -> RemoteError {
        RemoteError::unfit(self.from, why)
    }
}

/// Ends where more is read than is expected: what tar reads beside contents, it keeps in memory.
struct Metered<'a, R> {
    reader: R,
    allowance: &'a Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.allowance.get()).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the heads of its files are too large"));
        }
        let count = self.reader.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.allowance.set(self.allowance.get().saturating_sub(count as u64));
        Ok(count)
    }
}
