//! What says that a file is right: what the store tells of an object, and lists such as `sha256sum` makes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use ureq::http::HeaderMap;

use super::address::digest;
use crate::checksum::sha256_of;

/// A list of checksums in a prefix; every file of it is to be in the list.
pub(super) const LIST: &str = "SHA256SUMS";

/// What a server tells of the bytes of a whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub sha256: Option<String>,
    pub md5: Option<String>,
}

impl Told {
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // Of an object in parts it is a checksum of checksums, with their number behind it, and no base64.
        let sha256 = BASE64_STANDARD.decode(text("x-amz-checksum-sha256")).ok();
        let sha256 = sha256.filter(|bytes| bytes.len() == 32);
        let sha256 = sha256.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        // The ETag of an object in one piece is its MD5, unless a key of the store encrypts it.
        let etag = text("etag").trim_matches('"');
        let with_key = ["x-amz-server-side-encryption", "x-obs-server-side-encryption"]
            .iter()
            .any(|name| !["", "AES256"].contains(&text(name)))
            || headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
        let md5 = (etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit()) && !with_key)
            .then(|| etag.to_ascii_lowercase());
        Self { sha256, md5 }
    }

    /// The first checksum that differs: its kind, what was expected and what was found.
    pub fn differs(&self, path: &Path) -> io::Result<Option<(&'static str, String, String)>> {
        let differs = |kind, expected: &Option<String>, found: String| match expected {
            Some(expected) if *expected != found => Some((kind, expected.clone(), found)),
            _ => None,
        };
        if self.sha256.is_some() {
            return Ok(differs("SHA-256", &self.sha256, sha256_of(path)?));
        }
        if self.md5.is_some() {
            return Ok(differs("MD5", &self.md5, md5_of(path)?));
        }
        Ok(None)
    }
}

fn md5_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// The first checksum of a text such as `sha256sum` writes, or of digits alone.
pub(super) fn first(text: &str) -> Option<String> {
    digest(text.split_whitespace().next()?)
}

/// The files of a list and their checksums; a line that is none says which it is.
pub(super) fn list(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let parse = |line: &str| {
        let (digits, name) = line.split_once(' ')?;
        let name = name.trim_start_matches([' ', '*']);
        Some((name.strip_prefix("./").unwrap_or(name).to_owned(), digest(digits)?))
    };
    lines
        .map(|line| parse(line).ok_or_else(|| format!("{LIST} has a line that is none of sha256sum's")))
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn lists_are_read() {
        let digits = "ab".repeat(32);
        let text = format!("{digits}  a/1/model.onnx\n{digits} *./b c\n\n");
        let names: Vec<_> = list(&text).unwrap().into_keys().collect();
        assert_eq!(names, ["a/1/model.onnx", "b c"]);
        assert!(list("a b").is_err());
        assert_eq!(first(&format!("{digits}  models.tar.gz\n")), Some(digits.clone()));
        assert_eq!(first(&digits.to_uppercase()), Some(digits));
        assert_eq!(first("<!doctype html>"), None);
        assert_eq!(first(""), None);
    }

    fn check(headers: &[(&'static str, &str)], expect: Expect) {
        let headers = headers.iter().map(|(name, value)| {
            (ureq::http::HeaderName::from_static(name), value.parse::<ureq::http::HeaderValue>().unwrap())
        });
        let Told { sha256, md5 } = Told::of(&headers.collect());
        expect.assert_eq(&format!(
            "{} {}",
            sha256.unwrap_or_default().get(..4).unwrap_or("-"),
            md5.unwrap_or_default()
        ));
    }

    #[test]
    fn what_stores_tell_is_understood() {
        let etag = "\"D41D8CD98F00B204E9800998ECF8427E\"";
        check(&[("etag", etag)], expect!["- d41d8cd98f00b204e9800998ecf8427e"]);
        check(
            &[("etag", etag), ("x-amz-server-side-encryption", "AES256")],
            expect!["- d41d8cd98f00b204e9800998ecf8427e"],
        );
        check(&[("etag", etag), ("x-amz-server-side-encryption", "aws:kms")], expect!["- "]);
        check(&[("etag", etag), ("x-obs-server-side-encryption", "kms")], expect!["- "]);
        check(&[("etag", "\"d41d8cd98f00b204e9800998ecf8427e-3\"")], expect!["- "]);
        let sum = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        check(&[("x-amz-checksum-sha256", sum)], expect!["e3b0 "]);
        check(&[("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=-3")], expect!["- "]);
    }
}
