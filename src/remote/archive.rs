//! A repository in one archive: fetched whole, checked, unpacked beside, and then renamed.

use super::address::{self, Archive};
use super::download::{Outcome, Source};
use super::home::{Current, PART, PART_OF, remove};
use super::http::{Refusal, Validator};
use super::unpack::unpack;
use super::{Bringing, RemoteError, TIMES, checksums};
use crate::checksum::sha256_of;

/// Checksums and the name of a file.
const LARGEST_SIDECAR: u64 = 4 << 10;

pub(super) struct Fetch<'a> {
    pub archive: &'a Archive,
    pub shown: String,
}

impl Source for Fetch<'_> {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn identity(&self) -> &str {
        &self.shown
    }

    fn url(&self) -> Result<String, RemoteError> {
        Ok(self.archive.url.clone())
    }
}

impl Fetch<'_> {
    /// The current content's checksum, after which it is in the home.
    pub fn bring(&self, to: &Bringing<'_>, known: Option<&Current>) -> Result<Current, RemoteError> {
        let mut times = 0;
        loop {
            let expected = self.expected(to)?;
            if let Some(id) = expected.as_ref().filter(|id| to.home.whole(id).is_some()) {
                return Ok(Current { id: id.clone(), validator: Validator::default() });
            }
            let unless = known.filter(|_| expected.is_none()).map(|known| &known.validator);
            let validator = match to.download().run(self, unless)? {
                Outcome::Complete { validator, .. } => validator,
                Outcome::Unchanged => {
                    return known.cloned().ok_or_else(|| self.strange());
                }
                Outcome::NotFound => {
                    return Err(RemoteError::refused(&self.shown, "the server does not have it"));
                }
                Outcome::Changed => return Err(self.strange()),
            };
            let part = to.home.path(PART);
            let found = sha256_of(&part).map_err(RemoteError::disk(&part))?;
            times += 1;
            match expected {
                Some(expected) if expected != found => {
                    self.forget(to)?;
                    if times == TIMES {
                        let from = self.shown.clone();
                        return Err(RemoteError::Checksum { from, kind: "SHA-256", expected, found, times });
                    }
                    tracing::warn!(
                        from = self.shown,
                        expected,
                        found,
                        "its checksum is wrong; it is fetched anew"
                    );
                    to.wait(times);
                }
                _ => {
                    let current = Current { id: found, validator };
                    self.unpack(to, &current)?;
                    return Ok(current);
                }
            }
        }
    }

    fn unpack(&self, to: &Bringing<'_>, current: &Current) -> Result<(), RemoteError> {
        if to.home.whole(&current.id).is_some() {
            return Ok(());
        }
        let staging = to.home.empty_staging(&current.id)?;
        let unpacked = unpack(&self.shown, &to.home.path(PART), &staging, to.limit);
        if let Err(error) = unpacked {
            // With a full disk, what was fetched is not to blame, but what was unpacked is in the way.
            remove(&staging)?;
            if !matches!(error, RemoteError::Disk { .. }) {
                self.forget(to)?;
            }
            return Err(error);
        }
        to.home.adopt(&staging, current)?;
        Ok(())
    }

    /// What is there is not to be gone on with.
    fn forget(&self, to: &Bringing<'_>) -> Result<(), RemoteError> {
        remove(&to.home.path(PART_OF))?;
        remove(&to.home.path(PART))
    }

    fn strange(&self) -> RemoteError {
        RemoteError::refused(&self.shown, "the server's answer fits no question")
    }

    /// The pinned checksum, or the one that lies beside the archive.
    fn expected(&self, to: &Bringing<'_>) -> Result<Option<String>, RemoteError> {
        if self.archive.sha256.is_some() {
            return Ok(self.archive.sha256.clone());
        }
        let (path, query) = match self.archive.url.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (&*self.archive.url, String::new()),
        };
        let url = format!("{path}.sha256{query}");
        let shown = address::shown(&url);
        match to.patiently(&self.shown, || to.client.small(&url, LARGEST_SIDECAR)) {
            Ok(text) => checksums::first(&text).map(Some).ok_or_else(|| {
                RemoteError::unfit(&shown, "it does not begin with a SHA-256; pin the archive with #sha256=")
            }),
            // Whoever may have the archive alone is told so by some servers.
            Err(Refusal::NotFound | Refusal::Final(_)) => Ok(None),
            // There may be one that the archive does not fit.
            Err(Refusal::Again(why)) => Err(RemoteError::Unreachable { from: self.shown.clone(), why }),
        }
    }
}
