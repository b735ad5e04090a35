//! The head of a client's frame, and all that can be refused by it alone.

use fastwebsockets::OpCode;

use super::{Violation, close};

/// How many bytes a head has at most.
pub const LONGEST_HEAD: usize = 14;

/// What stands before a payload.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub fin: bool,
    pub opcode: OpCode,
    pub mask: [u8; 4],
    /// What the payload claims to have.
    pub length: u64,
    /// Bytes of the head itself.
    pub size: usize,
}

impl Head {
    /// `None` if there is more to come; what breaks a rule is refused as soon as it is there.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let protocol = |reason| Err(Violation::Protocol(close::PROTOCOL_ERROR, reason));
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        if first & 0x70 != 0 {
            return protocol("reserved bits are set, and no extension was agreed");
        }
        let Ok(opcode) = OpCode::try_from(first & 0x0f) else { return protocol("this opcode is reserved") };
        if second & 0x80 == 0 {
            return protocol("client frames must be masked");
        }
        let (fin, short) = (first & 0x80 != 0, second & 0x7f);
        if is_control(opcode) && !fin {
            return protocol("a control frame is fragmented");
        }
        if is_control(opcode) && short > 125 {
            return protocol("a control frame holds at most 125 bytes");
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (short.into(), rest),
        };
        if (short == 126 && length < 126) || (short == 127 && !(1 << 16..1 << 63).contains(&length)) {
            return protocol("the length of a frame is not written in its one way");
        }
        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some(Self { fin, opcode, mask, length, size: bytes.len() - rest.len() }))
    }

    pub fn is_control(&self) -> bool {
        is_control(self.opcode)
    }
}

fn is_control(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Parses the head as it comes byte by byte, and tells when it is known, and what it is.
    fn check(bytes: &[u8], expect: Expect) {
        let outcome = (0..=bytes.len()).find_map(|count| {
            let told = match Head::parse(&bytes[..count]) {
                Ok(None) => return None,
                Ok(Some(Head { fin, opcode, mask, length, size })) => {
                    format!("{opcode:?} {fin} {mask:?} {length}, head of {size}")
                }
                Err(violation) => format!("{violation:?}"),
            };
            Some(format!("after {count}: {told}"))
        });
        expect.assert_eq(outcome.as_deref().unwrap_or("more"));
    }

    #[test]
    fn heads_are_read_in_all_their_lengths() {
        check(&[0x82], expect!["more"]);
        check(&[0x82, 0x85, 1, 2, 3], expect!["more"]);
        check(&[0x82, 0x85, 1, 2, 3, 4, 9], expect!["after 6: Binary true [1, 2, 3, 4] 5, head of 6"]);
        check(&[0x01, 0xfe, 0, 126, 1, 2, 3, 4], expect!["after 8: Text false [1, 2, 3, 4] 126, head of 8"]);
        check(
            &[0x00, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
            expect!["after 14: Continuation false [1, 2, 3, 4] 65536, head of 14"],
        );
    }

    #[test]
    fn rules_are_held_before_any_payload_comes() {
        let reserved =
            expect![[r#"after 2: Protocol(1002, "reserved bits are set, and no extension was agreed")"#]];
        check(&[0xc1, 0x80], reserved);
        check(&[0x83, 0x80], expect![[r#"after 2: Protocol(1002, "this opcode is reserved")"#]]);
        check(&[0x8b, 0x80], expect![[r#"after 2: Protocol(1002, "this opcode is reserved")"#]]);
        check(&[0x81, 0x00], expect![[r#"after 2: Protocol(1002, "client frames must be masked")"#]]);
        check(&[0x09, 0x80], expect![[r#"after 2: Protocol(1002, "a control frame is fragmented")"#]]);
        for opcode in [0x88, 0x89, 0x8a] {
            let long = expect![[r#"after 2: Protocol(1002, "a control frame holds at most 125 bytes")"#]];
            check(&[opcode, 0xfe], long);
        }
    }

    #[test]
    fn a_length_has_one_way_to_be_written() {
        let wrong = r#"Protocol(1002, "the length of a frame is not written in its one way")"#;
        for bytes in [
            &[0x82, 0xfe, 0, 125][..],
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ] {
            let Err(violation) = Head::parse(bytes) else { panic!("{bytes:?} was accepted") };
            assert_eq!(format!("{violation:?}"), wrong);
        }
    }
}
