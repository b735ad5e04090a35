//! WebSocket frames as a client sends and receives them, without I/O.
//!
//! Frames are masked with zeros, so that a payload's bytes are what they are and a frame can be made once and sent
//! for ever. The mask protects proxies from what pages of the web make browsers say; nobody does that to this
//! client, and a server unmasks all the same.

use std::ops::Range;

use super::Broken;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
const CONTINUATION: u8 = 0;

/// A message that a server claims to be longer is not waited for.
const LONGEST: usize = 1 << 30;

/// Appends a frame, and returns where in `out` its payload begins.
pub fn append(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) -> usize {
    out.push(0x80 | opcode);
    match payload.len() {
        #[allow(clippy::cast_possible_truncation, reason = "it is short")]
        short @ 0..126 => out.push(0x80 | short as u8),
        length => match u16::try_from(length) {
            Ok(length) => {
                out.push(0x80 | 126);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out.len() - payload.len()
}

/// A server's frame that has arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Range<usize>,
}

impl Frame {
    /// The first frame of what was received, or `None` if there is more of it to come.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Broken> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(Broken::new("a frame with reserved bits or a mask"));
        }
        let (head, length) = match second {
            126 => match rest.first_chunk() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
        let Some(length) = length else { return Err(Broken::new("a frame of more than 1 GiB")) };
        let payload = head..head + length;
        let whole = bytes.len() >= payload.end;
        Ok(whole.then_some(Self { fin: first & 0x80 != 0, opcode: first & 0x0f, payload }))
    }
}

/// Joins the fragments of messages.
#[derive(Debug, Default)]
pub struct Fragments {
    opcode: u8,
    joined: Vec<u8>,
}

/// What a frame brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    Message {
        text: bool,
        payload: &'a [u8],
    },
    Ping(&'a [u8]),
    Close(&'a [u8]),
    /// A pong, or a part of a message.
    Nothing,
}

impl Fragments {
    pub fn take<'a>(&'a mut self, frame: &Frame, bytes: &'a [u8]) -> Result<Incoming<'a>, Broken> {
        let payload = bytes.get(frame.payload.clone()).unwrap_or_default();
        let begun = self.opcode != CONTINUATION;
        Ok(match (frame.opcode, frame.fin) {
            (opcode @ (TEXT | BINARY), true) if !begun => Incoming::Message { text: opcode == TEXT, payload },
            (opcode @ (TEXT | BINARY), false) if !begun => {
                self.opcode = opcode;
                self.joined.clear();
                self.joined.extend_from_slice(payload);
                Incoming::Nothing
            }
            (CONTINUATION, fin) if begun => {
                if self.joined.len() + payload.len() > LONGEST {
                    return Err(Broken::new("a message of more than 1 GiB"));
                }
                self.joined.extend_from_slice(payload);
                if !fin {
                    return Ok(Incoming::Nothing);
                }
                let text = std::mem::take(&mut self.opcode) == TEXT;
                Incoming::Message { text, payload: &self.joined }
            }
            (PING, true) => Incoming::Ping(payload),
            (PONG, true) => Incoming::Nothing,
            (CLOSE, true) => Incoming::Close(payload),
            _ => return Err(Broken::new("a frame out of order")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// What a server's bytes are, as they come one by one.
    fn check(bytes: &[u8], expect: Expect) {
        let (mut fragments, mut told, mut start) = (Fragments::default(), Vec::new(), 0);
        for end in 0..=bytes.len() {
            match Frame::parse(&bytes[start..end]) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    let taken = fragments.take(&frame, &bytes[start..end]);
                    told.push(format!("{end}: {taken:?}"));
                    start += frame.payload.end;
                }
                Err(broken) => {
                    told.push(format!("{end}: {broken:?}"));
                    break;
                }
            }
        }
        expect.assert_eq(&told.join("\n"));
    }

    #[test]
    fn frames_are_found_when_they_are_whole() {
        check(
            &[0x81, 2, b'h', b'i', 0x89, 0, 0x8a, 1, 7],
            expect![[r#"
                4: Ok(Message { text: true, payload: [104, 105] })
                6: Ok(Ping([]))
                9: Ok(Nothing)"#]],
        );
        let long = [&[0x82, 126, 0, 130][..], &[0; 130]].concat();
        assert_eq!(Frame::parse(&long).unwrap().unwrap().payload, 4..134);
        let longer = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[0; 65_536]].concat();
        assert_eq!(Frame::parse(&longer).unwrap().unwrap().payload, 10..65_546);
    }

    #[test]
    fn fragments_are_joined_with_pings_between() {
        check(
            &[0x01, 1, b'a', 0x89, 1, 9, 0x00, 1, b'b', 0x80, 1, b'c', 0x82, 0],
            expect![[r#"
                3: Ok(Nothing)
                6: Ok(Ping([9]))
                9: Ok(Nothing)
                12: Ok(Message { text: true, payload: [97, 98, 99] })
                14: Ok(Message { text: false, payload: [] })"#]],
        );
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_seen() {
        check(&[0x81, 0x80], expect![[r#"2: Broken("a frame with reserved bits or a mask")"#]]);
        check(&[0x80, 0], expect![[r#"2: Err(Broken("a frame out of order"))"#]]);
        check(&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0], expect![[r#"10: Broken("a frame of more than 1 GiB")"#]]);
    }

    #[test]
    fn a_frame_carries_its_payload_as_it_is() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let mut out = vec![1, 2];
            let start = append(&mut out, BINARY, &payload);
            assert_eq!(&out[start..], &payload[..]);
            assert_eq!(out[start - 4..start], [0; 4]);
            assert_eq!(out[3] & 0x80, 0x80);
        }
    }
}
