//! Which files in place are known to be right, without reading them each time.
//!
//! A file's checksum is computed once; a record then keeps it with the size and the time of the last change.
//! While both stay, the file is taken to be unchanged: that guards against accidents and upgrades, not against
//! somebody who changes a file and sets its time back. A file that differs from its record is hashed again.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::lock::{Lock, Member};
use crate::checksum::sha256_of;

/// 64 packages of 64 members each, with 256 bytes for a line.
const LARGEST_RECORD: u64 = 1 << 20;

/// The record: a text file of lines `<sha256> <size> <nanoseconds> <path>`.
#[derive(Debug)]
pub(super) struct Verified {
    file: PathBuf,
    root: PathBuf,
    entries: BTreeMap<String, Entry>,
    changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    sha256: String,
    size: u64,
    modified: u128,
}

impl Verified {
    /// Reads the record. One that is missing or damaged is an empty one: it only saves time.
    pub fn load(file: PathBuf, root: &Path) -> Self {
        let mut text = String::new();
        let read = File::open(&file).and_then(|file| file.take(LARGEST_RECORD).read_to_string(&mut text));
        let entries = read.map(|_| text.lines().filter_map(parse).collect()).unwrap_or_default();
        Self { file, root: root.to_owned(), entries, changed: false }
    }

    /// Whether the member is in its place as the lock file wants it.
    pub fn holds(&mut self, member: &Member) -> bool {
        let place = self.root.join(&member.to);
        let Ok(metadata) = fs::metadata(&place) else { return false };
        if !metadata.is_file() || metadata.len() != member.size {
            return false;
        }
        if modified(&metadata).is_some_and(|now| self.entries.get(&member.to) == Some(&entry(member, now))) {
            return true;
        }
        let same = sha256_of(&place).is_ok_and(|found| found == member.sha256);
        if same {
            self.record(member, &metadata);
        }
        same
    }

    /// Takes down that the member has just been verified and put in its place.
    pub fn placed(&mut self, member: &Member) -> io::Result<()> {
        let metadata = fs::metadata(self.root.join(&member.to))?;
        self.record(member, &metadata);
        Ok(())
    }

    fn record(&mut self, member: &Member, metadata: &Metadata) {
        if let Some(modified) = modified(metadata) {
            self.entries.insert(member.to.clone(), entry(member, modified));
            self.changed = true;
        }
    }

    /// Writes the record if it changed, without what the lock file no longer names.
    pub fn save(&mut self, lock: &Lock) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let members = || lock.packages.iter().flat_map(|package| &package.members);
        self.entries.retain(|to, _| members().any(|member| member.to == *to));
        let line = |(to, entry): (&String, &Entry)| {
            format!("{} {} {} {to}\n", entry.sha256, entry.size, entry.modified)
        };
        let temporary = self.file.with_extension("part");
        fs::write(&temporary, self.entries.iter().map(line).collect::<String>())?;
        fs::rename(&temporary, &self.file)?;
        self.changed = false;
        Ok(())
    }
}

fn entry(member: &Member, modified: u128) -> Entry {
    Entry { sha256: member.sha256.clone(), size: member.size, modified }
}

fn parse(line: &str) -> Option<(String, Entry)> {
    let mut words = line.split(' ');
    let sha256 = words.next()?.to_owned();
    let (size, modified) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((words.next()?.to_owned(), Entry { sha256, size, modified }))
}

fn modified(metadata: &Metadata) -> Option<u128> {
    Some(metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}
