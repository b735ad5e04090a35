//! The lock file: which wheels, which files in them, where these go, and the checksums of both.

use std::collections::HashSet;
use std::path::{Component, Path};

use serde::Deserialize;

/// No wheel we would want is larger, and no file in one.
const LARGEST: u64 = 2 << 30;
const MOST_PACKAGES: usize = 64;
const MOST_MEMBERS: usize = 64;

/// A lock file that passed [`Lock::parse`]: its names, paths and checksums are safe to use as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    #[serde(rename = "package")]
    pub packages: Vec<Package>,
}

/// One wheel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// Packages of a group are fetched only where the group is asked for.
    pub group: Option<String>,
    /// `<os>-<arch>` as Rust names them; absent where the wheel serves every platform.
    pub platform: Option<String>,
    /// The wheel's file name, which carries its tags.
    pub file: String,
    pub size: u64,
    pub sha256: String,
    /// For people; nothing reads it.
    pub licence: String,
    #[serde(rename = "member")]
    pub members: Vec<Member>,
}

/// One file in a wheel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub path: String,
    /// Where it goes, relative to the root and never outside it.
    pub to: String,
    pub size: u64,
    pub sha256: String,
}

/// What a wheel's file name says about the interpreter that it was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tags<'a> {
    /// `cp` or `py`.
    pub implementation: &'a str,
    /// `312`, `3`.
    pub python: &'a str,
    pub abi: &'a str,
    pub platform: &'a str,
}

impl Lock {
    /// Reads and checks a lock file; the error is a sentence about its first fault.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lock: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if lock.packages.len() > MOST_PACKAGES {
            return Err(format!("more than {MOST_PACKAGES} packages"));
        }
        let mut places = HashSet::new();
        for package in &lock.packages {
            package.check().map_err(|why| format!("package {:?}: {why}", package.name))?;
            for member in &package.members {
                if !places.insert((&package.platform, &member.to)) {
                    return Err(format!("two files go to {:?}", member.to));
                }
            }
        }
        Ok(lock)
    }

    /// The names of all packages, each once, in the order of the file.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for package in &self.packages {
            if !names.contains(&package.name.as_str()) {
                names.push(&package.name);
            }
        }
        names
    }

    /// The group that packages of this name belong to.
    pub fn group(&self, name: &str) -> Option<&str> {
        self.packages.iter().find(|package| package.name == name)?.group.as_deref()
    }

    /// The package of this name for this platform.
    pub fn find(&self, name: &str, platform: &str) -> Option<&Package> {
        self.packages.iter().find(|package| {
            package.name == name && package.platform.as_deref().is_none_or(|its| its == platform)
        })
    }
}

impl Package {
    /// The tags in the wheel's name; `None` if it has no wheel's name.
    pub fn tags(&self) -> Option<Tags<'_>> {
        let mut parts = self.file.strip_suffix(".whl")?.split('-');
        let (_name, version) = (parts.next()?, parts.next()?);
        // A dot joins alternatives; any of them names this wheel.
        let mut tag = || parts.next()?.split('.').next().filter(|tag| !tag.is_empty());
        let (python, abi, platform) = (tag()?, tag()?, tag()?);
        let (implementation, python) = python.split_at_checked(2)?;
        let whole = parts.next().is_none() && version == self.version;
        whole.then_some(Tags { implementation, python, abi, platform })
    }

    fn check(&self) -> Result<(), String> {
        for text in [&self.name, &self.version, &self.file] {
            // They become arguments of a command and names of files.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
            if !text.bytes().all(plain) || !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
                return Err(format!("{text:?} has a character that names do not have"));
            }
        }
        if self.tags().is_none() {
            return Err(format!("{:?} is not the name of a wheel of version {}", self.file, self.version));
        }
        check_content(&self.file, self.size, &self.sha256)?;
        if self.members.is_empty() || self.members.len() > MOST_MEMBERS {
            return Err(format!("it must have 1 to {MOST_MEMBERS} members"));
        }
        for member in &self.members {
            check_content(&member.path, member.size, &member.sha256)?;
            if !stays_inside(&member.to) {
                return Err(format!("{:?} leaves the folder that files are fetched into", member.to));
            }
        }
        Ok(())
    }
}

fn check_content(what: &str, size: u64, sha256: &str) -> Result<(), String> {
    if size > LARGEST {
        return Err(format!("{what:?} is larger than {LARGEST} bytes"));
    }
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() != 64 || !sha256.bytes().all(hex) {
        return Err(format!("the sha256 of {what:?} must be 64 lower-case hexadecimal digits"));
    }
    Ok(())
}

/// Whether a path names a file below the folder it is joined to. White space is refused too, since the
/// record of verified files is lines of words.
fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.ends_with('/')
        && !path.contains(|c: char| c == '\\' || c == ':' || c.is_whitespace() || c.is_control())
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
