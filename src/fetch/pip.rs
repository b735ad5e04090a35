//! Where a wheel is, as pip knows it: pip alone reads the user's index, mirror, proxy and certificates.
//! It only answers; nothing is installed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::error::ResolveError;
use super::lock::Package;

/// Finds the address of a wheel.
pub trait Resolve {
    fn resolve(&self, package: &Package) -> Result<String, ResolveError>;
}

/// Asks the pip of a Python interpreter.
#[derive(Debug)]
pub struct Pip<'a> {
    pub python: &'a OsStr,
    /// An existing folder. pip wants to know where it would install to before it talks of another platform.
    pub folder: &'a Path,
}

impl Resolve for Pip<'_> {
    fn resolve(&self, package: &Package) -> Result<String, ResolveError> {
        let tags = package.tags().ok_or_else(|| ResolveError::Report { why: "no tags".to_owned() })?;
        // The wheel is an archive to us, so what it asks of a Python does not matter.
        let output = Command::new(self.python)
            .args(["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"])
            .args(["--dry-run", "--report", "-", "--no-deps", "--ignore-installed"])
            .args(["--ignore-requires-python", "--only-binary=:all:"])
            .args(["--implementation", tags.implementation, "--python-version", tags.python])
            .args(["--abi", tags.abi, "--platform", tags.platform])
            .arg("--target")
            .arg(self.folder)
            .arg(format!("{}=={}", package.name, package.version))
            .stdin(Stdio::null())
            .output();
        let python = || self.python.to_string_lossy().into_owned();
        let output = output.map_err(|source| ResolveError::NoPython { python: python(), source })?;
        if !output.status.success() {
            return Err(classify(&python(), &String::from_utf8_lossy(&output.stderr)));
        }
        read_report(&output.stdout, &package.sha256)
    }
}

/// What pip's complaint means.
fn classify(python: &str, stderr: &str) -> ResolveError {
    let python = python.to_owned();
    let has = |text: &str| stderr.contains(text);
    // The first complaint names the cause; those after it follow from it.
    let detail = stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing");
    let detail = detail.chars().take(300).collect();
    if has("No module named pip") {
        ResolveError::NoPip { python }
    } else if has("no such option: --dry-run") || has("no such option: --report") {
        ResolveError::OldPip { python }
    } else if has("connection broken by") || has("Could not fetch URL") || has("from versions: none") {
        ResolveError::Unreachable { detail }
    } else if has("No matching distribution found") {
        ResolveError::NotOffered { detail }
    } else {
        ResolveError::Failed { detail }
    }
}

#[derive(Deserialize)]
struct Report {
    install: Vec<Install>,
}

#[derive(Deserialize)]
struct Install {
    download_info: DownloadInfo,
}

#[derive(Deserialize)]
struct DownloadInfo {
    url: String,
    archive_info: Option<ArchiveInfo>,
}

#[derive(Deserialize)]
struct ArchiveInfo {
    hashes: Option<Hashes>,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

/// The address in pip's report. Where the report has a checksum, a wrong one saves the download.
fn read_report(report: &[u8], expected: &str) -> Result<String, ResolveError> {
    let report: Report =
        serde_json::from_slice(report).map_err(|error| ResolveError::Report { why: error.to_string() })?;
    let Some(Install { download_info }) = report.install.into_iter().next() else {
        return Err(ResolveError::Report { why: "it names no file".to_owned() });
    };
    let sha256 = download_info.archive_info.and_then(|info| info.hashes).and_then(|hashes| hashes.sha256);
    match sha256 {
        Some(found) if found != expected => {
            Err(ResolveError::OtherFile { expected: expected.to_owned(), found })
        }
        _ => Ok(download_info.url),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn complaint(stderr: &str, expect: Expect) {
        expect.assert_eq(&classify("python3", stderr).to_string());
    }

    #[test]
    fn complaints_of_pip_become_advice() {
        complaint(
            "/usr/bin/python3: No module named pip\n",
            expect!["python3 has no pip; install it (python3 -m ensurepip, or your system's python3-pip)"],
        );
        complaint(
            "\nUsage:\n  python3 -m pip install [options]\n\nno such option: --dry-run\n",
            expect![
                "the pip of python3 is older than 22.2; upgrade it (python3 -m pip install --upgrade pip)"
            ],
        );
        complaint(
            "WARNING: Retrying after connection broken by 'ProxyError': /simple/magika/\n\
             ERROR: No matching distribution found for magika==1.0.3\n",
            expect![
                "pip cannot reach the package index; look at the network, or at the mirror and proxy of `pip config list`: WARNING: Retrying after connection broken by 'ProxyError': /simple/magika/"
            ],
        );
        complaint(
            "ERROR: Could not find a version that satisfies magika==9 (from versions: 1.0.3)\n\
             ERROR: No matching distribution found for magika==9\n",
            expect![
                "the package index that pip uses does not offer it: ERROR: Could not find a version that satisfies magika==9 (from versions: 1.0.3)"
            ],
        );
        complaint("", expect!["pip fails: it says nothing"]);
    }

    fn report(text: &str, expect: Expect) {
        let answer = read_report(text.as_bytes(), "aa").unwrap_or_else(|error| format!("error: {error}"));
        expect.assert_eq(&answer);
    }

    #[test]
    fn a_report_yields_an_address() {
        report(
            r#"{"install":[{"download_info":{"url":"https://h/f.whl","archive_info":{"hashes":{"sha256":"aa"}}}}]}"#,
            expect!["https://h/f.whl"],
        );
        report(r#"{"install":[{"download_info":{"url":"file:///f.whl"}}]}"#, expect!["file:///f.whl"]);
        report(
            r#"{"install":[{"download_info":{"url":"https://h/f.whl","archive_info":{"hashes":{"sha256":"bb"}}}}]}"#,
            expect!["error: the package index that pip uses offers another file: SHA-256 bb in place of aa"],
        );
        report(
            r#"{"install":[]}"#,
            expect!["error: pip's report is not understood (it names no file); upgrade pip"],
        );
        report(
            "nonsense",
            expect!["error: pip's report is not understood (expected ident at line 1 column 2); upgrade pip"],
        );
    }

    #[test]
    fn a_python_that_is_not_there_is_said_to_be_missing() {
        let lock = super::super::Lock::parse(super::super::BUILT_IN).unwrap();
        let pip = Pip { python: OsStr::new("/no/such/python3"), folder: Path::new("/") };
        let error = pip.resolve(&lock.packages[0]).unwrap_err();
        assert!(matches!(error, ResolveError::NoPython { .. }), "{error}");
    }
}
