//! Who may use the server: keys and what each of them may do, and from which pages browsers may connect.
//!
//! Off unless there is an `access_file`. The file has the checksums of keys, not the keys; it is read again when it
//! changes, and connections that are open follow the change. Keys and query strings are in no log and no metric.

mod bucket;
mod credentials;
mod file;
mod key;
mod metered;
mod standing;

use std::path::Path;
use std::sync::Arc;

use hyper::Request;
use hyper::header::ORIGIN;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::upgrade;
use super::watched::{BadFile, Content, Watched};
use crate::checksum::sha256;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;
use file::{AccessFile, Browser};
use key::Key;

pub use bucket::Bucket;
pub use credentials::subprotocol;
pub use file::is_name;
pub use key::Pass;
pub use metered::Metered;

pub struct Access {
    rules: Watched<Rules, 1>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

struct Rules {
    anonymous: bool,
    keys: Vec<Arc<Key>>,
    browser: Browser,
}

impl Access {
    pub fn new(path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, BadFile> {
        let for_keys = Arc::clone(&metrics);
        let rules = Watched::new("access file", [path.to_owned()], move |[content], before| {
            Rules::read(content, before, &for_keys)
        })?;
        Ok(Self { rules, clock, metrics })
    }

    pub fn look(&self) {
        self.rules.look();
    }

    /// The pass of whoever asks; none for those who come without a key where they may.
    pub fn admit<B>(&self, request: &Request<B>) -> Result<Option<Pass>> {
        let rules = self.rules.get();
        if !rules.browser.allows(request) {
            self.metrics.access_refused("origin");
            let message = "pages of this origin may not connect to this server";
            return Err(Error::new(Code::OriginNotAllowed, message));
        }
        let query = request.uri().query().filter(|_| rules.browser.allow_query);
        let offered = credentials::keys(request.headers(), query);
        if rules.keys.is_empty() || (rules.anonymous && offered.is_empty()) {
            return Ok(None);
        }
        let Some(key) = offered.iter().find_map(|key| rules.find(key)) else {
            let (reason, error) = match offered.is_empty() {
                true => (
                    "no_key",
                    Error::new(Code::Unauthenticated, "a key is needed, as `Authorization: Bearer KEY`"),
                ),
                false => ("unknown_key", not_valid()),
            };
            self.metrics.access_refused(reason);
            return Err(error);
        };
        let pass = Pass::new(Arc::clone(key), self.clock);
        pass.request()?;
        Ok(Some(pass))
    }
}

/// The same whether the key never was one, has been removed, or has expired.
fn not_valid() -> Error {
    Error::new(Code::Unauthenticated, "the key is not valid")
}

impl Rules {
    fn read(content: &Content, before: Option<&Self>, metrics: &Arc<Metrics>) -> Result<Self, BadFile> {
        let text = str::from_utf8(&content.bytes).map_err(|_| content.bad("is not text"))?;
        let AccessFile { anonymous, keys, browser } =
            AccessFile::parse(text).map_err(|why| content.bad(why))?;
        let before = before.map_or(&[][..], |rules| &rules.keys);
        // From here on nothing fails, so that keys which live on learn only of a file that is used.
        let keys: Vec<_> = keys
            .into_iter()
            .map(|entry| {
                let same = |key: &&Arc<Key>| key.name == entry.name && key.sha256 == entry.sha256;
                let known = before.iter().find(same).map(Arc::clone);
                let key = known.unwrap_or_else(|| Key::new(entry.name, entry.sha256, metrics));
                key.set(Some(entry.terms));
                key
            })
            .collect();
        let gone = before.iter().filter(|key| !keys.iter().any(|other| Arc::ptr_eq(key, other)));
        gone.for_each(|key| key.set(None));
        Ok(Self { anonymous, keys, browser })
    }

    /// Compares with each key, in a time that tells nothing of which it is or how much of it was right.
    fn find(&self, key: &[u8]) -> Option<&Arc<Key>> {
        let digest = sha256(key);
        let mut found = u32::MAX;
        for (index, key) in (0..).zip(&self.keys) {
            found.conditional_assign(&index, key.sha256.as_bytes().ct_eq(digest.as_bytes()));
        }
        self.keys.get(usize::try_from(found).ok()?)
    }
}

impl Browser {
    /// Only browsers say where a script comes from, and they cannot be made to lie about it.
    fn allows<B>(&self, request: &Request<B>) -> bool {
        let (Some(allowed), true) = (&self.allowed_origins, upgrade::is_upgrade(request)) else {
            return true;
        };
        let mut origins = request.headers().get_all(ORIGIN).iter();
        origins.all(|origin| allowed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin.as_bytes())))
    }
}
