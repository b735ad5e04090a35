//! One HTTP request for a file, from an offset on, if it is still the file that it was.

use std::io::{self, Read};
use std::time::Duration;

use ureq::http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use ureq::http::{HeaderMap, Response};

use super::checksums::Told;

/// What a file is now, in its server's words: a strong ETag, or else the time of its last change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Validator {
    pub etag: Option<String>,
    pub modified: Option<String>,
}

impl Validator {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(ETAG), modified: text(LAST_MODIFIED) }
    }

    /// What `If-Range` takes: a weak ETag says nothing of bytes.
    fn strong(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        // Where there is an ETag, it is the better judge.
        strong.or_else(|| self.modified.as_deref().filter(|_| self.etag.is_none()))
    }

    pub fn to_text(&self) -> String {
        let line = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}\n{}\n", line(&self.etag), line(&self.modified))
    }

    pub fn from_text(text: &str) -> Option<Self> {
        let line = |line: &str| (!line.is_empty()).then(|| line.to_owned());
        let (etag, rest) = text.split_once('\n')?;
        Some(Self { etag: line(etag), modified: line(rest.trim_end_matches('\n')) })
    }
}

/// What to ask for.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub url: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    /// So much is here, of what this validator stands for.
    pub from: u64,
    pub validator: Option<&'a Validator>,
    /// Nothing is wanted if it is still this.
    pub unless: Option<&'a Validator>,
    /// Nothing is wanted unless it is this.
    pub only: Option<&'a str>,
}

/// A file that comes.
pub(super) struct Opened {
    /// Where `body` begins: the offset asked for, or 0 of a file that has changed or cannot be had in parts.
    pub start: u64,
    pub total: Option<u64>,
    pub validator: Validator,
    pub told: Told,
    pub body: Box<dyn Read>,
}

pub(super) enum Answer {
    File(Opened),
    /// It is what it was.
    Unchanged,
    /// All that was asked for is here already.
    NothingMore,
    /// It is no longer what it was.
    Changed,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// It may go better the next time.
    Again(String),
    /// It will not.
    Final(String),
    NotFound,
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: ureq::Agent,
}

impl Client {
    pub fn new(proxy: Option<ureq::Proxy>, silence: Duration) -> Self {
        Self { agent: crate::fetch::agent(proxy, silence) }
    }

    pub fn agent(&self) -> &ureq::Agent {
        &self.agent
    }

    pub fn open(&self, request: &Request<'_>) -> Result<Answer, Refusal> {
        let mut get = self.agent.get(request.url);
        // Where the address is secret from others, so is what it leads to.
        get = get.config().https_only(request.url.starts_with("https://")).build();
        for (name, value) in request.headers {
            get = get.header(*name, *value);
        }
        let known = request.validator.and_then(Validator::strong).filter(|_| request.from > 0);
        if let Some(known) = known {
            get = get.header(RANGE, format!("bytes={}-", request.from)).header(IF_RANGE, known);
        }
        if let Some(only) = request.only {
            get = get.header(IF_MATCH, only);
        }
        if let Some(etag) = request.unless.and_then(|unless| unless.etag.as_deref()) {
            get = get.header(IF_NONE_MATCH, etag);
        } else if let Some(modified) = request.unless.and_then(|unless| unless.modified.as_deref()) {
            get = get.header("if-modified-since", modified);
        }
        let response = get.call().map_err(refusal)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let same = |range: &Response<ureq::Body>| {
            let now = Validator::of(range.headers());
            request.validator.is_some_and(|known| now.etag.is_none() || now.etag == known.etag)
        };
        let (start, total) = match response.status().as_u16() {
            200 => (0, header(CONTENT_LENGTH).and_then(|length| length.parse().ok())),
            206 => match header(CONTENT_RANGE).and_then(content_range) {
                Some((start, total)) if start == request.from && known.is_some() && same(&response) => {
                    (start, total)
                }
                _ => return Ok(Answer::Changed),
            },
            304 => return Ok(Answer::Unchanged),
            412 => return Ok(Answer::Changed),
            416 => {
                let size = header(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes */"));
                let all = size.and_then(|size| size.parse().ok()) == Some(request.from);
                return Ok(if all && same(&response) { Answer::NothingMore } else { Answer::Changed });
            }
            status => return Err(refused(status, response)),
        };
        Ok(Answer::File(Opened {
            start,
            total,
            validator: Validator::of(response.headers()),
            told: if start == 0 { Told::of(response.headers()) } else { Told::default() },
            body: Box::new(response.into_body().into_reader()),
        }))
    }

    /// A file of so many bytes at the most.
    pub fn small(&self, url: &str, most: u64) -> Result<String, Refusal> {
        let Answer::File(opened) = self.open(&Request { url, ..Request::default() })? else {
            return Err(Refusal::Again("its answer fits no question".to_owned()));
        };
        let mut text = Vec::new();
        let read = opened.body.take(most).read_to_end(&mut text);
        read.map_err(|error| Refusal::Again(error.to_string()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// `bytes 5-9/10` is (5, Some(10)).
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// What a status means for the next attempt, with what an object store says of it.
fn refused(status: u16, response: Response<ureq::Body>) -> Refusal {
    let mut told = String::new();
    let _ = response.into_body().into_reader().take(4 << 10).read_to_string(&mut told);
    let code = told.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = code.map_or_else(String::new, |(code, _)| format!(" ({})", printable(code)));
    let said = format!("the server answers {status}{code}");
    match status {
        404 | 410 => Refusal::NotFound,
        408 | 425 | 429 | 500..=599 => Refusal::Again(said),
        401 => Refusal::Final(format!("{said}: it wants to know who asks")),
        403 => Refusal::Final(format!("{said}: who asks may not have it")),
        407 => Refusal::Final(format!("{said}: the proxy wants a name and a password in HTTPS_PROXY")),
        _ => Refusal::Final(said),
    }
}

/// What others say, as a log may have it.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

pub(super) fn refusal(error: ureq::Error) -> Refusal {
    use ureq::Error as E;
    let why = error.to_string();
    let untrusted = match &error {
        E::Tls(_) | E::Pem(_) | E::Rustls(_) => true,
        // The handshake's failures arrive as I/O, and no other kind of I/O has invalid data.
        E::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    };
    match error {
        _ if untrusted => Refusal::Final(format!(
            "{why}. If its certificate is of your own authority, add that to the system's store, \
             or name the file of trusted certificates in SSL_CERT_FILE"
        )),
        E::Io(_) | E::Timeout(_) | E::HostNotFound | E::ConnectionFailed | E::Protocol(_) => {
            Refusal::Again(why)
        }
        E::RequireHttpsOnly(_) => Refusal::Final("it leads to an address without TLS".to_owned()),
        _ => Refusal::Final(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_are_kept_and_the_strong_ones_are_for_ranges() {
        let validator = |etag: Option<&str>, modified: Option<&str>| Validator {
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
        };
        let some = [
            (validator(Some("\"a\""), Some("Mon")), Some("\"a\"")),
            (validator(Some("W/\"a\""), Some("Mon")), None),
            (validator(None, Some("Mon")), Some("Mon")),
            (validator(None, None), None),
        ];
        for (validator, strong) in some {
            assert_eq!(validator.strong(), strong);
            assert_eq!(Validator::from_text(&validator.to_text()), Some(validator));
        }
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
    }
}
