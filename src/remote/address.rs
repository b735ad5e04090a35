//! Where a model repository is: a folder, an archive's address, or a prefix of a bucket.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::RemoteError;

/// A model repository as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Folder(PathBuf),
    Archive(Archive),
    Objects(Objects),
}

/// `https://host/path.tar.gz`, with `#sha256=…` behind it if it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Without the fragment.
    pub url: String,
    pub sha256: Option<String>,
}

/// `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    pub bucket: String,
    /// Empty, or ending in a slash, so that `models` is not also `models-old`.
    pub prefix: String,
}

impl Address {
    pub fn parse(given: &Path) -> Result<Self, RemoteError> {
        let folder = || Ok(Self::Folder(given.to_owned()));
        let Some((scheme, rest)) = given.to_str().and_then(|text| text.split_once("://")) else {
            return folder();
        };
        let text = format!("{scheme}://{rest}");
        match scheme {
            "https" | "http" => Archive::parse(&text).map(Self::Archive),
            "s3" => Objects::parse(&text, rest).map(Self::Objects),
            "obs" => {
                Err(wrong(&text, "OBS is reached as s3://BUCKET/PREFIX, with its endpoint in s3_endpoint"))
            }
            // Whoever has a folder of this name may have it.
            _ if given.exists() => folder(),
            _ => Err(wrong(&text, "a repository is a folder, or begins with https://, http:// or s3://")),
        }
    }

    /// What two addresses share that mean the same.
    pub fn place(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Archive(archive) => archive.url.clone(),
            Self::Objects(Objects { bucket, prefix }) => format!("s3://{bucket}/{prefix}"),
        }
    }

    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Folder(_))
    }
}

impl Archive {
    fn parse(text: &str) -> Result<Self, RemoteError> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let sha256 = match (fragment, fragment.strip_prefix("sha256=")) {
            ("", _) => None,
            (_, Some(digits)) => Some(digest(digits).ok_or_else(|| {
                wrong(text, "behind #sha256= there are to be the 64 hexadecimal digits of a SHA-256")
            })?),
            _ => return Err(wrong(text, "behind # there can only be sha256=… ")),
        };
        if host(url).is_empty() {
            return Err(wrong(text, "it has no host"));
        }
        if authority(url).contains('@') {
            return Err(wrong(text, "a name and a password cannot be in an address"));
        }
        Ok(Self { url: url.to_owned(), sha256 })
    }
}

impl Objects {
    fn parse(text: &str, rest: &str) -> Result<Self, RemoteError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err(wrong(text, "behind s3:// there is to be the name of a bucket"));
        }
        if rest.contains(['?', '#']) {
            return Err(wrong(
                text,
                "a prefix without ? and # is needed; a list of checksums goes into SHA256SUMS",
            ));
        }
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

fn wrong(text: &str, why: &'static str) -> RemoteError {
    RemoteError::Address { given: shown(text), why }
}

/// The 64 digits of a SHA-256, in small letters.
pub(super) fn digest(text: &str) -> Option<String> {
    let right = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    right.then(|| text.to_ascii_lowercase())
}

/// An address as logs may have it: the rest may carry somebody's key.
pub(super) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{authority}/{path}")
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// The host, without brackets and port.
pub(super) fn host(url: &str) -> &str {
    let authority = authority(url).rsplit('@').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// Whether others on the way could read along, and put in what they like.
pub(super) fn is_open_to_others(url: &str) -> bool {
    let host = host(url);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.starts_with("http://") && !here
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(given: &str, expect: Expect) {
        expect.assert_eq(&match Address::parse(Path::new(given)) {
            Ok(Address::Folder(path)) => format!("folder {}", path.display()),
            Ok(Address::Archive(Archive { url, sha256 })) => {
                format!("archive {url} {} as {}", sha256.unwrap_or_default(), shown(given))
            }
            Ok(Address::Objects(Objects { bucket, prefix })) => format!("bucket {bucket}, prefix '{prefix}'"),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn addresses_are_taken_apart() {
        check("models", expect!["folder models"]);
        check("/srv/a b", expect!["folder /srv/a b"]);
        check("https://h/m.tgz?key=1", expect!["archive https://h/m.tgz?key=1  as https://h/m.tgz"]);
        check(
            &format!("https://h:1/m.zip#sha256={}", "Ab".repeat(32)),
            expect![
                "archive https://h:1/m.zip abababababababababababababababababababababababababababababababab as https://h:1/m.zip"
            ],
        );
        check(
            "https://h/m.zip#sha256=ab",
            expect![
                "model_repository: 'https://h/m.zip' was given; behind #sha256= there are to be the 64 hexadecimal digits of a SHA-256"
            ],
        );
        check(
            "https://h/m.zip#md5=ab",
            expect!["model_repository: 'https://h/m.zip' was given; behind # there can only be sha256=… "],
        );
        check("https:///m.zip", expect!["model_repository: 'https:///m.zip' was given; it has no host"]);
        check(
            "https://name:word@h/m.zip",
            expect![
                "model_repository: 'https://h/m.zip' was given; a name and a password cannot be in an address"
            ],
        );
        check("s3://b", expect!["bucket b, prefix ''"]);
        check("s3://b/a/c/", expect!["bucket b, prefix 'a/c/'"]);
        check(
            "s3:///a",
            expect![
                "model_repository: 's3:///a' was given; behind s3:// there is to be the name of a bucket"
            ],
        );
        check(
            "obs://b/a",
            expect![
                "model_repository: 'obs://b/a' was given; OBS is reached as s3://BUCKET/PREFIX, with its endpoint in s3_endpoint"
            ],
        );
        check(
            "ftp://h/a",
            expect![
                "model_repository: 'ftp://h/a' was given; a repository is a folder, or begins with https://, http:// or s3://"
            ],
        );
    }

    #[test]
    fn who_can_read_along() {
        let open = ["http://models.example/m.zip", "http://10.0.0.1/m.zip", "http://localhost.example/"];
        let closed =
            ["https://models.example/", "http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/"];
        assert!(open.iter().all(|url| is_open_to_others(url)));
        assert!(!closed.iter().any(|url| is_open_to_others(url)));
    }
}
