//! Writing JSON without ways to fail.

use bytes::{BufMut, BytesMut};

pub(super) fn raw(out: &mut BytesMut, json: &str) {
    out.extend_from_slice(json.as_bytes());
}

/// A string in quotes.
pub(super) fn string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    escaped(out, text);
    out.put_u8(b'"');
}

/// What stands between a string's quotes.
pub(super) fn escaped(out: &mut BytesMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !ESCAPED[usize::from(byte)] {
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
}

/// Which bytes JSON escapes (RFC 8259, section 7).
static ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        escaped[control] = true;
        control += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

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
