//! A repository of many objects: listed, fetched one by one into a folder that nobody serves, and renamed when all
//! are there. The folder's name is the checksum of the list, so that a list that has changed begins anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::address::Objects;
use super::download::{Outcome, Source};
use super::home::{Current, PART, PART_OF, remove, sync_folder};
use super::http::{Refusal, Validator};
use super::store::{Object, Store};
use super::unpack::MOST_ENTRIES;
use super::{Bringing, RemoteError, TIMES, checksums, names};
use crate::checksum::{sha256, sha256_of};

pub(super) struct Fetch<'a> {
    pub store: &'a Store,
    pub objects: &'a Objects,
    pub shown: &'a str,
}

/// An object and the file that it becomes.
struct File {
    object: Object,
    name: String,
}

/// Why what has come is not all right.
enum Wrong {
    Changed,
    Checksum { from: String, kind: &'static str, expected: String, found: String },
}

impl Fetch<'_> {
    /// The current content's name, after which it is in the home.
    pub fn bring(&self, to: &Bringing<'_>, known: Option<&Current>) -> Result<Current, RemoteError> {
        let mut times = 0;
        loop {
            let files = self.list(to)?;
            let id = id(&files);
            let current = Current { id: id.clone(), validator: Validator::default() };
            if to.home.whole(&id).is_some() {
                return Ok(current);
            }
            let staging = to.home.staging(&id)?;
            let kept = known.map(|known| known.id.as_str()).unwrap_or_default();
            to.home.tidy(&[&format!("{id}.staging"), PART, PART_OF, kept])?;
            let bytes: u64 = files.iter().map(|file| file.object.size).sum();
            tracing::info!(from = self.shown, files = files.len(), bytes, "fetching what the bucket has");
            let Err(wrong) = self.fetch(to, &files, &staging)? else {
                to.home.adopt(&staging, &current)?;
                return Ok(current);
            };
            times += 1;
            match wrong {
                Wrong::Changed if times == TIMES => {
                    let why = "it changed each time while it was fetched".to_owned();
                    return Err(RemoteError::Unreachable { from: self.shown.to_owned(), why });
                }
                Wrong::Changed => {
                    tracing::warn!(from = self.shown, "it has changed meanwhile; it is listed anew")
                }
                Wrong::Checksum { from, kind, expected, found } => {
                    if times == TIMES {
                        return Err(RemoteError::Checksum { from, kind, expected, found, times });
                    }
                    tracing::warn!(from, kind, expected, found, "its checksum is wrong; it is fetched anew");
                }
            }
            to.wait(times);
        }
    }

    fn list(&self, to: &Bringing<'_>) -> Result<Vec<File>, RemoteError> {
        let listed = to.patiently(self.shown, || self.store.list(&self.objects.prefix, MOST_ENTRIES));
        let listed = listed.map_err(|refusal| self.refused(refusal))?;
        if listed.len() > MOST_ENTRIES {
            return Err(RemoteError::too_many_entries(self.shown, MOST_ENTRIES));
        }
        let mut files = Vec::new();
        for object in listed {
            let Some(name) = object.key.strip_prefix(&self.objects.prefix) else { continue };
            let name = name.to_owned();
            if names::below(&name).map_err(|why| RemoteError::unfit(self.shown, why))?.is_some() {
                files.push(File { object, name });
            }
        }
        // Consoles make folders of empty objects, which in a file system would be in the way.
        let parents =
            |file: &File| Path::new(&file.name).ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
        let folders: BTreeSet<_> = files.iter().flat_map(parents).collect();
        files.retain(|file| file.object.size > 0 || !folders.contains(Path::new(&file.name)));
        if files.is_empty() {
            return Err(RemoteError::refused(self.shown, "the bucket has nothing with this prefix"));
        }
        let bytes = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.object.size));
        if bytes.is_none_or(|bytes| bytes > to.limit) {
            return Err(RemoteError::too_many_bytes(self.shown, to.limit));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn fetch(
        &self,
        to: &Bringing<'_>,
        files: &[File],
        staging: &Path,
    ) -> Result<Result<(), Wrong>, RemoteError> {
        for file in files {
            if let Err(wrong) = self.fetch_one(to, file, staging)? {
                return Ok(Err(wrong));
            }
        }
        self.check_list(files, staging)
    }

    fn fetch_one(
        &self,
        to: &Bringing<'_>,
        file: &File,
        staging: &Path,
    ) -> Result<Result<(), Wrong>, RemoteError> {
        let place = staging.join(&file.name);
        if fs::metadata(&place).is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.object.size)
        {
            return Ok(Ok(()));
        }
        let of = One::new(self.store, file, self.shown);
        let told = match to.download().run(&of, None)? {
            Outcome::Complete { told, .. } => told,
            Outcome::Unchanged | Outcome::Changed | Outcome::NotFound => return Ok(Err(Wrong::Changed)),
        };
        let part = to.home.path(PART);
        let size = fs::metadata(&part).map_err(RemoteError::disk(&part))?.len();
        let differs = if size == file.object.size {
            told.differs(&part).map_err(RemoteError::disk(&part))?
        } else {
            Some(("size", file.object.size.to_string(), size.to_string()))
        };
        if let Some((kind, expected, found)) = differs {
            remove(&to.home.path(PART_OF))?;
            remove(&part)?;
            return Ok(Err(Wrong::Checksum { from: of.shown, kind, expected, found }));
        }
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(RemoteError::disk(folder))?;
        }
        remove(&to.home.path(PART_OF))?;
        fs::rename(&part, &place).map_err(RemoteError::disk(&place))?;
        sync_folder(staging).map_err(RemoteError::disk(staging))?;
        Ok(Ok(()))
    }

    /// Where there is a list of checksums, it is of all files.
    fn check_list(&self, files: &[File], staging: &Path) -> Result<Result<(), Wrong>, RemoteError> {
        if !files.iter().any(|file| file.name == checksums::LIST) {
            return Ok(Ok(()));
        }
        let path = staging.join(checksums::LIST);
        let unfit = |why: String| RemoteError::unfit(self.shown, why);
        let text = fs::read_to_string(&path).map_err(RemoteError::disk(&path))?;
        let mut list = checksums::list(&text).map_err(unfit)?;
        for file in files.iter().filter(|file| file.name != checksums::LIST) {
            let Some(expected) = list.remove(&file.name) else {
                return Err(unfit(format!("{} lacks '{}'", checksums::LIST, file.name)));
            };
            let place = staging.join(&file.name);
            let found = sha256_of(&place).map_err(RemoteError::disk(&place))?;
            if found != expected {
                remove(&place)?;
                let from = format!("{}{}", self.shown, file.name);
                return Ok(Err(Wrong::Checksum { from, kind: "SHA-256", expected, found }));
            }
        }
        match list.into_keys().next() {
            Some(missing) => Err(unfit(format!("{} names '{missing}', which is not there", checksums::LIST))),
            None => Ok(Ok(())),
        }
    }

    fn refused(&self, refusal: Refusal) -> RemoteError {
        match refusal {
            Refusal::Again(why) => RemoteError::Unreachable { from: self.shown.to_owned(), why },
            Refusal::Final(why) => RemoteError::refused(self.shown, why),
            Refusal::NotFound => RemoteError::refused(self.shown, "there is no such bucket"),
        }
    }
}

/// What tells this list from every other one.
fn id(files: &[File]) -> String {
    let mut text = String::new();
    for File { object, name } in files {
        let etag = object.etag.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{name:?} {} {etag} {}", object.size, object.modified);
    }
    sha256(text.as_bytes())
}

/// One object as a file to be fetched.
struct One<'a> {
    store: &'a Store,
    object: &'a Object,
    shown: String,
    identity: String,
}

impl<'a> One<'a> {
    fn new(store: &'a Store, File { object, name }: &'a File, shown: &str) -> Self {
        let etag = object.etag.as_deref().unwrap_or_default();
        let identity = format!("{name} {etag} {} {}", object.size, object.modified);
        Self { store, object, shown: format!("{shown}{name}"), identity }
    }
}

impl Source for One<'_> {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn url(&self) -> Result<String, RemoteError> {
        self.store.signed(&self.object.key).map_err(|refusal| match refusal {
            Refusal::Again(why) | Refusal::Final(why) => RemoteError::refused(&self.shown, why),
            Refusal::NotFound => RemoteError::refused(&self.shown, "there is no such bucket"),
        })
    }

    fn headers(&self) -> &[(&'static str, &str)] {
        super::store::SIGNED
    }

    fn only(&self) -> Option<&str> {
        self.object.etag.as_deref()
    }
}
