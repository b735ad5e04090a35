//! Which packages of a lock file a run is about.

use super::error::{FetchError, Unsupported};
use super::lock::{Lock, Package};

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// The packages without a group.
    #[default]
    Plain,
    /// Those, and the ones of a group.
    With(String),
    /// The packages of these names.
    Only(Vec<String>),
}

impl Choice {
    /// The packages that exist for this platform, and of those that nobody named the ones that do not.
    pub(super) fn of<'l>(
        &self,
        lock: &'l Lock,
        platform: &str,
    ) -> Result<(Vec<&'l Package>, Vec<Unsupported>), FetchError> {
        self.check(lock)?;
        let (mut packages, mut unsupported) = (Vec::new(), Vec::new());
        for name in lock.names() {
            let group = lock.group(name);
            let (wanted, named) = match self {
                Self::Plain => (group.is_none(), false),
                Self::With(asked) => (group.is_none_or(|group| group == asked), group.is_some()),
                Self::Only(names) => (names.iter().any(|wanted| wanted == name), true),
            };
            if !wanted {
                continue;
            }
            let missing = || Unsupported { name: name.to_owned(), platform: platform.to_owned() };
            match lock.find(name, platform) {
                Some(package) => packages.push(package),
                None if named => return Err(missing().into()),
                None => unsupported.push(missing()),
            }
        }
        Ok((packages, unsupported))
    }

    /// Whether the lock file knows what was asked for.
    fn check(&self, lock: &Lock) -> Result<(), FetchError> {
        let names = lock.names();
        match self {
            Self::Plain => Ok(()),
            Self::With(group) => match names.iter().any(|name| lock.group(name) == Some(group)) {
                true => Ok(()),
                false => Err(FetchError::UnknownGroup { group: group.clone() }),
            },
            Self::Only(only) => match only.iter().find(|name| !names.contains(&name.as_str())) {
                None => Ok(()),
                Some(name) => {
                    let known = names.into_iter().map(str::to_owned).collect();
                    Err(FetchError::UnknownPackage { name: name.clone(), known })
                }
            },
        }
    }
}
