//! Opening a wheel's address at an offset: HTTP with a range, or a file of a local mirror.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use ureq::tls::{RootCerts, TlsConfig};

/// How long a connection may take to come about, or stay silent, before it counts as broken.
const CONNECT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);

/// Opens addresses.
#[derive(Debug)]
pub(super) struct Sources {
    agent: ureq::Agent,
}

/// An opened address.
pub(super) struct Opened {
    /// Where `body` begins: the offset asked for, or 0 from a server that knows no ranges.
    pub start: u64,
    /// The size of the whole file, where the server says it.
    pub total: Option<u64>,
    pub body: Box<dyn Read>,
}

/// Why an address could not be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    Status(u16),
    /// There is nothing at this offset.
    Range,
    /// It may go better the next time.
    Broken(String),
    /// It will not.
    Final(String),
    File(PathBuf, io::Error),
}

/// A client that trusts the system's certificates, and gives up a server that is silent for so long.
pub fn agent(proxy: Option<ureq::Proxy>, silence: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .user_agent(concat!("thalweg/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT.min(silence)))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence));
    config.build().into()
}

impl Sources {
    /// Trusts the system's certificates (or those of `SSL_CERT_FILE`), and uses the system's proxy.
    pub fn new() -> Self {
        Self::with(ureq::Proxy::try_from_env())
    }

    /// Knows no proxy: for a server on this machine.
    #[cfg(test)]
    pub fn direct() -> Self {
        Self::with(None)
    }

    fn with(proxy: Option<ureq::Proxy>) -> Self {
        Self { agent: agent(proxy, SILENCE) }
    }

    pub fn open(&self, url: &str, from: u64) -> Result<Opened, Refusal> {
        match url.split_once("://") {
            Some(("file", path)) => open_file(path, from),
            Some(("http" | "https", _)) => self.open_http(url, from),
            _ => Err(Refusal::Final("its address is neither http, https nor file".to_owned())),
        }
    }

    fn open_http(&self, url: &str, from: u64) -> Result<Opened, Refusal> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(refusal)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (start, total) = match response.status().as_u16() {
            200 => (0, header(CONTENT_LENGTH).and_then(|length| length.parse().ok())),
            206 => header(CONTENT_RANGE)
                .and_then(content_range)
                .filter(|(start, _)| *start <= from)
                .ok_or_else(|| Refusal::Broken("it answers with another range".to_owned()))?,
            416 => return Err(Refusal::Range),
            status => return Err(Refusal::Status(status)),
        };
        Ok(Opened { start, total, body: Box::new(response.into_body().into_reader()) })
    }
}

/// `bytes 5-9/10` is (5, Some(10)).
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn refusal(error: ureq::Error) -> Refusal {
    use ureq::Error as E;
    let untrusted = match &error {
        E::Tls(_) | E::Pem(_) | E::Rustls(_) => true,
        // The handshake's failures arrive as I/O, and no other kind of I/O has invalid data.
        E::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    };
    let why = error.to_string();
    match error {
        _ if untrusted => Refusal::Final(format!(
            "{why}. If a proxy opens encrypted connections here, add its certificate to the system's store, \
             or name the file of trusted certificates in SSL_CERT_FILE"
        )),
        E::Io(_) | E::Timeout(_) | E::HostNotFound | E::ConnectionFailed | E::Protocol(_) => {
            Refusal::Broken(why)
        }
        _ => Refusal::Final(why),
    }
}

fn open_file(path: &str, from: u64) -> Result<Opened, Refusal> {
    // Between the slashes a host may stand; only this machine's files are meant.
    let path = path.strip_prefix("localhost").unwrap_or(path);
    let path = percent_decoded(path).ok_or_else(|| Refusal::Final("its address is not a path".to_owned()))?;
    let open = || -> io::Result<Opened> {
        let mut file = File::open(&path)?;
        let total = Some(file.metadata()?.len());
        file.seek(SeekFrom::Start(from))?;
        Ok(Opened { start: from, total, body: Box::new(file) })
    };
    open().map_err(|error| Refusal::File(path.clone(), error))
}

/// `None` where a percent sign is followed by something else than two digits, or the bytes are not UTF-8.
fn percent_decoded(text: &str) -> Option<PathBuf> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok().map(PathBuf::from)
}

/// The host of an address, for messages: the rest may carry somebody's key.
pub(super) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    if host.is_empty() { "this machine" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(host("https://name:word@mirror.example:8443/a/b?key=1"), "mirror.example:8443");
        assert_eq!(host("file:///srv/wheels/f.whl"), "this machine");
        assert_eq!(percent_decoded("/a%20b/%C3%A9"), Some(PathBuf::from("/a b/é")));
        assert_eq!(percent_decoded("/a%2"), None);
        assert_eq!(percent_decoded("/a%zz"), None);
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
        assert!(matches!(Sources::direct().open("ftp://h/f", 0), Err(Refusal::Final(_))));
    }
}
