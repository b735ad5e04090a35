//! Answers of HTTP/1.1 as a client receives them, without I/O: a status, a few headers, and a body of known length.

use std::ops::Range;

use super::Broken;

/// Bytes of an answer's head.
const LONGEST_HEAD: usize = 64 << 10;
/// Bytes of a body.
const LONGEST: usize = 1 << 30;

/// An answer that has arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: Range<usize>,
    /// How much of the body is JSON; absent where all of it is.
    pub json: Option<usize>,
    /// Whether the connection ends with it.
    pub last: bool,
}

impl Reply {
    /// The first answer of what was received, or `None` if there is more of it to come.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Broken> {
        let Some(head) = head_length(bytes) else {
            let endless = bytes.len() > LONGEST_HEAD;
            return if endless { Err(Broken::new("an answer's head without an end")) } else { Ok(None) };
        };
        let text = String::from_utf8_lossy(bytes.get(..head).unwrap_or_default());
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(status).ok_or(Broken::new("no answer of HTTP/1.1"))?;
        let (mut length, mut json, mut last) = (None, None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok(),
                "inference-header-content-length" => json = value.parse().ok(),
                "connection" => last |= value.eq_ignore_ascii_case("close"),
                "transfer-encoding" => {
                    return Err(Broken::new("an answer in chunks, which are not understood"));
                }
                _ => {}
            }
        }
        // Those without a body have no length.
        let length: usize = length.unwrap_or_default();
        if length > LONGEST {
            return Err(Broken::new("an answer of more than 1 GiB"));
        }
        let body = head..head + length;
        Ok((bytes.len() >= body.end).then_some(Self { status, body, json, last }))
    }
}

/// Where the head ends, with the empty line.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The status of an answer's first line.
pub fn status(line: &str) -> Option<u16> {
    let line = line.strip_prefix("HTTP/1.")?;
    line.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// When an answer is whole, and what it is.
    fn check(bytes: &str, expect: Expect) {
        let bytes = bytes.as_bytes();
        let told = (0..=bytes.len()).find_map(|end| match Reply::parse(&bytes[..end]) {
            Ok(None) => None,
            Ok(Some(reply)) => Some(format!("{end}: {reply:?}")),
            Err(broken) => Some(format!("{end}: {broken:?}")),
        });
        expect.assert_eq(told.as_deref().unwrap_or("more"));
    }

    #[test]
    fn answers_are_found_when_they_are_whole() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1",
            expect!["40: Reply { status: 200, body: 38..40, json: None, last: false }"],
        );
        check(
            "HTTP/1.1 503 Busy\r\nconnection: close\r\nInference-Header-Content-Length: 1\r\ncontent-length:3\r\n\r\nabc",
            expect!["97: Reply { status: 503, body: 94..97, json: Some(1), last: true }"],
        );
        check(
            "HTTP/1.1 204 None\r\n\r\n",
            expect!["21: Reply { status: 204, body: 21..21, json: None, last: false }"],
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", expect!["more"]);
        check("SSH-2.0\r\n\r\n", expect![[r#"11: Broken("no answer of HTTP/1.1")"#]]);
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            expect![[r#"47: Broken("an answer in chunks, which are not understood")"#]],
        );
    }
}
