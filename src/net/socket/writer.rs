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

/// Cuts the payloads of those frames behind `start` that are larger than `most` into fragments; 0: none is.
pub fn split_frames(out: &mut BytesMut, start: usize, most: usize) {
    if most == 0 || out.len().saturating_sub(start) <= most {
        return;
    }
    let mut frames = out.split_off(start);
    while let Some((first, size, length)) = parse_head(&frames) {
        let mut frame = frames.split_to((size + length).min(frames.len()));
        if length <= most {
            out.unsplit(frame);
            continue;
        }
        let payload = frame.split_off(size);
        let mut pieces = payload.chunks(most).peekable();
        let mut opcode = first & 0x0f;
        while let Some(piece) = pieces.next() {
            let fin = if pieces.peek().is_none() { 0x80 } else { 0 };
            append_head(out, fin | opcode, piece.len());
            out.extend_from_slice(piece);
            opcode = OpCode::Continuation as u8;
        }
    }
}

/// The first byte of a frame of ours, how long its head is, and its payload.
fn parse_head(frame: &[u8]) -> Option<(u8, usize, usize)> {
    let (&[first, short], rest) = frame.split_first_chunk()?;
    Some(match short {
        126 => (first, 4, u16::from_be_bytes(*rest.first_chunk()?).into()),
        127 => (first, 10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
        short => (first, 2, short.into()),
    })
}

fn append_head(out: &mut BytesMut, first: u8, length: usize) {
    out.put_u8(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => out.put_u8(short),
        (_, Ok(length)) => {
            out.put_u8(126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
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

    #[test]
    fn large_frames_are_cut_and_others_left() {
        let check = |most, lengths: &[usize], expected: &[(u8, usize)]| {
            let mut out = BytesMut::from(&b"before"[..]);
            let payload: Vec<u8> = (0..700_000usize).map(|i| u8::try_from(i % 251).unwrap()).collect();
            for &length in lengths {
                append_control(&mut out, OpCode::Text, &[&payload[..length]]);
            }
            split_frames(&mut out, 6, most);
            let (mut rest, mut heads, mut joined) = (&out[6..], Vec::new(), Vec::new());
            while let Some((first, size, length)) = parse_head(rest) {
                heads.push((first, length));
                joined.extend_from_slice(&rest[size..size + length]);
                rest = &rest[size + length..];
            }
            assert_eq!((&out[..6], rest, &heads[..]), (&b"before"[..], &b""[..], expected));
            assert!(
                joined == lengths.iter().flat_map(|&length| &payload[..length]).copied().collect::<Vec<_>>()
            );
        };
        check(100, &[100], &[(0x81, 100)]);
        check(100, &[101], &[(0x01, 100), (0x80, 1)]);
        check(100, &[300, 5], &[(0x01, 100), (0x00, 100), (0x80, 100), (0x81, 5)]);
        check(65_536, &[10, 65_536, 65_537], &[(0x81, 10), (0x81, 65_536), (0x01, 65_536), (0x80, 1)]);
        check(300_000, &[700_000], &[(0x01, 300_000), (0x00, 300_000), (0x80, 100_000)]);
        check(0, &[700_000], &[(0x81, 700_000)]);
    }
}
