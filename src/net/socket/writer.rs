//! Frames, written behind each other into one buffer, so that one system call sends all that waits.

use std::convert::Infallible;

use bytes::{BufMut, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload};

/// A header is 2, 4 or 10 bytes long; most answers need 4.
const USUAL_HEADER: usize = 4;

/// Appends a frame whose payload `write` appends; nothing is appended if it fails.
pub fn append_frame<E>(
    out: &mut BytesMut,
    opcode: OpCode,
    write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.put_bytes(0, USUAL_HEADER);
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let mut head = [0; 16];
    let payload = start + USUAL_HEADER;
    let length = Frame::new(true, opcode, None, Payload::Borrowed(&out[payload..])).fmt_head(&mut head);
    let head = &head[..length];
    if length == USUAL_HEADER {
        out[start..payload].copy_from_slice(head);
    } else {
        let end = out.len();
        out.put_bytes(0, length.saturating_sub(USUAL_HEADER));
        out.copy_within(payload..end, start + length);
        out.truncate(start + length + (end - payload));
        out[start..start + length].copy_from_slice(head);
    }
    Ok(())
}

/// Appends a close frame.
pub fn append_close(out: &mut BytesMut, code: u16, reason: &str) {
    append_control(out, OpCode::Close, &[&code.to_be_bytes(), reason.as_bytes()]);
}

/// Appends a frame whose payload is these bytes, behind each other.
pub fn append_control(out: &mut BytesMut, opcode: OpCode, payload: &[&[u8]]) {
    let written: Result<(), Infallible> = append_frame(out, opcode, |out| {
        payload.iter().for_each(|bytes| out.extend_from_slice(bytes));
        Ok(())
    });
    let Ok(()) = written;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_fit_every_length() {
        for length in [0usize, 1, 125, 126, 200, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut out = BytesMut::from(&b"before"[..]);
            append_frame(&mut out, OpCode::Binary, |out| {
                out.extend_from_slice(&payload);
                Ok::<_, ()>(())
            })
            .unwrap();
            let frame = &out[6..];
            let (declared, header) = match frame[1] {
                126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
                127 => (usize::try_from(u64::from_be_bytes(frame[2..10].try_into().unwrap())).unwrap(), 10),
                short => (usize::from(short), 2),
            };
            assert_eq!((frame[0], declared), (0x82, length));
            assert!(frame[header..] == payload[..], "{length}");
        }
    }

    #[test]
    fn a_payload_that_fails_leaves_nothing() {
        let mut out = BytesMut::from(&b"before"[..]);
        let failed = append_frame(&mut out, OpCode::Text, |out| {
            out.put_u8(1);
            Err("no")
        });
        assert_eq!((failed, &out[..]), (Err("no"), &b"before"[..]));
    }
}
