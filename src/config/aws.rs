//! What the environment, a mounted secret and AWS' own files say of an object store. Their names are AWS', so that
//! what works with other programs works here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{ConfigError, Settings};

/// `aws_access_key_id` and the like, in small letters.
pub type AwsVariables = BTreeMap<String, String>;

const KEY: &str = "aws_access_key_id";
/// A secret is short, and so is a file of credentials.
const LARGEST: u64 = 64 << 10;

#[allow(clippy::disallowed_methods, reason = "the module that reads the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}

/// Where models are kept that were fetched, unless a setting says so.
pub(super) fn user_cache() -> PathBuf {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| home().map(|home| home.join(".cache")));
    cache.unwrap_or_else(|| PathBuf::from("/var/cache")).join("thalweg")
}

impl Settings {
    /// What is said of object stores. What `s3_credentials` and `s3_region` say goes before the environment, and that
    /// before the files in `~/.aws`.
    pub fn aws(&self) -> Result<AwsVariables, ConfigError> {
        let mut said = match self.s3_credentials.as_os_str().is_empty() {
            true => AwsVariables::new(),
            false => given(&self.s3_credentials)?,
        };
        let named = said.contains_key(KEY);
        complete(&mut said, environment());
        if !named {
            for name in ["credentials", "config"] {
                complete(&mut said, own_file(name)?);
            }
        }
        if !self.s3_region.is_empty() {
            said.insert("aws_region".to_owned(), self.s3_region.clone());
        }
        Ok(said)
    }
}

/// Adds what is not said yet; the parts of a key come from one place.
fn complete(said: &mut AwsVariables, others: AwsVariables) {
    let has_key = said.contains_key(KEY);
    let of_key = [KEY, "aws_secret_access_key", "aws_session_token"];
    for (name, value) in others {
        if !(has_key && of_key.contains(&&*name)) {
            said.entry(name).or_insert(value);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the module that reads the environment")]
fn environment() -> AwsVariables {
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect()
}

/// One of the files that AWS' programs share, if it is there.
fn own_file(name: &str) -> Result<AwsVariables, ConfigError> {
    let named = variable(if name == "config" { "AWS_CONFIG_FILE" } else { "AWS_SHARED_CREDENTIALS_FILE" });
    match named {
        Some(path) => profile_of(Path::new(&path)),
        None => match home().map(|home| home.join(".aws").join(name)) {
            Some(path) if path.is_file() => profile_of(&path),
            _ => Ok(AwsVariables::new()),
        },
    }
}

/// A folder has a file for each variable, as Kubernetes mounts a secret; a file has profiles.
fn given(path: &Path) -> Result<AwsVariables, ConfigError> {
    if !path.is_dir() {
        return profile_of(path);
    }
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut said = AwsVariables::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        // Beside the files there are Kubernetes' own folders.
        if path.is_file() && name.starts_with("aws_") {
            said.insert(name, read(&path)?.trim().to_owned());
        }
    }
    match said.contains_key(KEY) {
        true => Ok(said),
        false => Err(ConfigError::Malformed {
            path: path.to_owned(),
            why: "the folder has no file named AWS_ACCESS_KEY_ID".to_owned(),
        }),
    }
}

fn profile_of(path: &Path) -> Result<AwsVariables, ConfigError> {
    let profile = variable("AWS_PROFILE").and_then(|name| name.into_string().ok());
    Ok(section(&read(path)?, profile.as_deref().unwrap_or("default")))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    if fs::metadata(path).map_err(unreadable)?.len() > LARGEST {
        return Err(ConfigError::Malformed {
            path: path.to_owned(),
            why: format!("it is larger than {LARGEST} bytes"),
        });
    }
    fs::read_to_string(path).map_err(unreadable)
}

/// A profile's keys, by the names of the variables.
fn section(text: &str, profile: &str) -> AwsVariables {
    let mut inside = false;
    let mut said = AwsVariables::new();
    for line in text.lines() {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = name.trim_start_matches("profile ").trim() == profile;
        } else if let Some((name, value)) =
            bare.split_once('=').filter(|_| inside && !bare.starts_with(['#', ';']))
        {
            let name = name.trim().to_ascii_lowercase();
            let name = if name.starts_with("aws_") { name } else { format!("aws_{name}") };
            // What is set in is of a section below.
            if !line.starts_with([' ', '\t']) && !value.trim().is_empty() {
                said.insert(name, value.trim().to_owned());
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(said: &AwsVariables, expect: Expect) {
        let lines: Vec<_> = said.iter().map(|(name, value)| format!("{name}={value}")).collect();
        expect.assert_eq(&lines.join(" "));
    }

    const FILE: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\
        [profile other]\nregion = r\ns3 =\n  region = x\n; no = yes\nendpoint_url = https://h\n";

    #[test]
    fn profiles_are_read() {
        check(&section(FILE, "default"), expect!["aws_access_key_id=A aws_secret_access_key=B="]);
        check(&section(FILE, "other"), expect!["aws_endpoint_url=https://h aws_region=r"]);
        check(&section(FILE, "none"), expect![""]);
    }

    #[test]
    fn a_key_and_its_secret_come_from_one_place() {
        let one = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<AwsVariables>()
        };
        let mut said = one(&[(KEY, "A"), ("aws_secret_access_key", "B")]);
        complete(&mut said, one(&[(KEY, "C"), ("aws_session_token", "D"), ("aws_region", "r")]));
        check(&said, expect!["aws_access_key_id=A aws_region=r aws_secret_access_key=B"]);
    }

    #[test]
    fn a_mounted_secret_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let refused = given(folder.path()).unwrap_err().to_string();
        assert!(refused.ends_with("the folder has no file named AWS_ACCESS_KEY_ID"), "{refused}");
        fs::create_dir(folder.path().join("..data")).unwrap();
        fs::write(folder.path().join("..data/AWS_ACCESS_KEY_ID"), "A\n").unwrap();
        std::os::unix::fs::symlink("..data/AWS_ACCESS_KEY_ID", folder.path().join("AWS_ACCESS_KEY_ID"))
            .unwrap();
        fs::write(folder.path().join("aws_secret_access_key"), "B").unwrap();
        check(&given(folder.path()).unwrap(), expect!["aws_access_key_id=A aws_secret_access_key=B"]);
        let file = folder.path().join("credentials");
        fs::write(&file, FILE).unwrap();
        check(&given(&file).unwrap(), expect!["aws_access_key_id=A aws_secret_access_key=B="]);
    }
}
