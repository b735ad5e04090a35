//! Model repositories from elsewhere: archives over HTTPS, and prefixes of S3-compatible object stores.
//!
//! What is fetched lands in a cache, is checked, and takes the name under which it is served by one rename of a whole
//! folder; a start that breaks off leaves work that the next one goes on with, and nothing that is served. What has
//! not changed since the last start is not fetched again.

mod address;
mod archive;
mod checksums;
mod download;
mod error;
mod home;
mod http;
mod names;
mod objects;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

pub use self::address::{Address, Archive, Objects};
pub use self::error::RemoteError;

use self::download::Download;
use self::home::{Current, Home};
use self::http::{Client, Refusal};
use self::store::Store;

/// So often something may come whole and be wrong, or change while it comes.
const TIMES: u32 = 3;
/// So often in a row the small questions may get no answer: a minute of pauses.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What the settings say of all of them.
#[derive(Debug, Clone)]
pub struct Options {
    pub cache: PathBuf,
    /// Bytes of a repository, as it is fetched and as it is unpacked.
    pub limit: u64,
    /// How long a server may be silent.
    pub silence: Duration,
    pub s3: S3,
}

/// How object stores are reached.
#[derive(Clone, Default)]
pub struct S3 {
    /// AWS, if empty.
    pub endpoint: String,
    /// Whether the bucket is a part of the host's name; `None`: as the endpoint's operator has it.
    pub virtual_hosted: Option<bool>,
    /// `aws_access_key_id` and the like, as AWS names them, in small letters.
    pub variables: BTreeMap<String, String>,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A repository that is here; others that fetch the same wait until it is dropped.
#[derive(Debug)]
pub struct Brought {
    pub folder: PathBuf,
    _home: Home,
}

/// Brings what is not a folder. It blocks until everything is here, whole and checked.
pub fn bring(address: &Address, options: &Options) -> Result<Option<Brought>, RemoteError> {
    let proxy = ureq::Proxy::try_from_env();
    bring_with(address, options, &Client::new(proxy, options.silence), &thread::sleep)
}

/// With surroundings that tests replace.
fn bring_with(
    address: &Address,
    options: &Options,
    client: &Client,
    pause: &dyn Fn(Duration),
) -> Result<Option<Brought>, RemoteError> {
    let (name, url) = match address {
        Address::Folder(_) => return Ok(None),
        Address::Archive(archive) => (archive.url.clone(), archive.url.clone()),
        Address::Objects(objects) => {
            let endpoint = options.s3.endpoint_for(&objects.bucket);
            (format!("s3://{}/{} {endpoint}", objects.bucket, objects.prefix), endpoint)
        }
    };
    let shown = match address {
        Address::Objects(objects) => format!("s3://{}/{}", objects.bucket, objects.prefix),
        _ => address::shown(&url),
    };
    if address::is_open_to_others(&url) {
        tracing::warn!(from = shown, "it comes without TLS: whoever is on the way can put in other models");
    }
    let home = Home::open(&options.cache, &name)?;
    let known = home.current();
    let to = Bringing { home: &home, client, limit: options.limit, pause };
    let (fetched, fits) = match address {
        Address::Archive(archive) => {
            let fits = |known: &Current| archive.sha256.as_ref().is_none_or(|pinned| *pinned == known.id);
            (
                archive::Fetch { archive, shown: shown.clone() }.bring(&to, known.as_ref()),
                known.as_ref().is_some_and(fits),
            )
        }
        Address::Objects(objects) => {
            let store = Store::open(objects, &options.s3, client)?;
            let fetch = objects::Fetch { store: &store, objects, shown: &shown };
            (fetch.bring(&to, known.as_ref()), known.is_some())
        }
        Address::Folder(_) => return Ok(None),
    };
    let current = match (fetched, known) {
        (Ok(current), _) => current,
        // It was right when it came, and its source does not say that it has changed.
        (Err(error @ RemoteError::Unreachable { .. }), Some(known)) if fits => {
            tracing::warn!(%error, "what was fetched before is served");
            known
        }
        (Err(error), _) => return Err(error),
    };
    home.remember(&current)?;
    home.tidy(&[&current.id])?;
    let folder = home.path(&current.id);
    tracing::info!(from = shown, folder = %folder.display(), "the repository is here, whole and checked");
    Ok(Some(Brought { folder, _home: home }))
}

/// What is used while a repository is brought.
struct Bringing<'a> {
    home: &'a Home,
    client: &'a Client,
    limit: u64,
    pause: &'a dyn Fn(Duration),
}

impl Bringing<'_> {
    fn download(&self) -> Download<'_> {
        Download { client: self.client, home: self.home, limit: self.limit, pause: self.pause }
    }

    /// After so many failures.
    fn wait(&self, failures: u32) {
        (self.pause)(pause_after(failures));
    }

    /// Asks again while it may go better the next time; the last refusal is what comes back.
    fn patiently<T>(&self, shown: &str, mut ask: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut failures = 0;
        loop {
            let why = match ask() {
                Err(Refusal::Again(why)) => why,
                other => return other,
            };
            failures += 1;
            if failures == TRIES {
                return Err(Refusal::Again(why));
            }
            tracing::warn!(from = shown, why, "there is no answer; it is asked again");
            self.wait(failures);
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}
