//! Writing JSON without ways to fail.

use bytes::{BufMut, BytesMut};

pub(super) fn raw(out: &mut BytesMut, json: &str) {
    out.extend_from_slice(json.as_bytes());
}

/// A string in quotes, escaped where it must be.
pub(super) fn string(out: &mut BytesMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut plain = 0;
    out.put_u8(b'"');
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.put_u8(b'"');
}

pub(super) fn integer(out: &mut BytesMut, value: impl itoa::Integer) {
    raw(out, itoa::Buffer::new().format(value));
}

/// The shortest text that reads back as the same number, or `false` for what is no number in JSON.
#[must_use]
pub(super) fn float<F: zmij::Float>(out: &mut BytesMut, value: F, finite: bool) -> bool {
    if finite {
        raw(out, zmij::Buffer::new().format_finite(value));
    }
    finite
}
