//! From frames to messages.

use bytes::{Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocketError, WebSocketRead};
use tokio::io::{AsyncRead, Sink};

use super::close;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message; text is UTF-8.
    Message {
        text: bool,
        payload: Bytes,
    },
    Ping(Bytes),
    Pong,
    /// The close code it gave, if any.
    Close(Option<u16>),
}

/// Why nothing more can be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    /// The client broke a rule; the connection closes with this code and reason.
    Protocol(u16, &'static str),
    /// The connection is gone.
    Gone,
}

/// Reads messages of at most `limit` bytes, whether they come whole or in fragments.
pub struct MessageReader<R> {
    frames: WebSocketRead<R>,
    partial: Partial,
}

/// The fragments of a message that is not complete.
struct Partial {
    fragments: Option<(OpCode, BytesMut)>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    pub fn new(stream: R, limit: usize) -> Self {
        let (mut frames, _) =
            fastwebsockets::after_handshake_split::<R, Sink>(stream, tokio::io::sink(), Role::Server);
        frames.set_auto_close(false);
        frames.set_auto_pong(false);
        // The crate refuses frames of this size or more.
        frames.set_max_message_size(limit.saturating_add(1));
        Self { frames, partial: Partial { fragments: None, limit } }
    }

    /// The next event. Not cancel-safe: a future that is dropped half-way loses bytes.
    pub async fn next(&mut self) -> Result<Event, Violation> {
        loop {
            // With automatic answers off, the crate never asks to send.
            let mut never = |_: Frame<'_>| std::future::ready(Ok::<_, std::io::Error>(()));
            let frame = self.frames.read_frame(&mut never).await.map_err(violation)?;
            if let Some(event) = self.partial.take(frame)? {
                return Ok(event);
            }
        }
    }
}

impl Partial {
    fn take(&mut self, mut frame: Frame<'_>) -> Result<Option<Event>, Violation> {
        let protocol = |reason| Err(Violation::Protocol(close::PROTOCOL_ERROR, reason));
        let mut head = [0; 16];
        frame.fmt_head(&mut head);
        if head[1] & 0x80 == 0 {
            return protocol("client frames must be masked");
        }
        let (opcode, fin) = (frame.opcode, frame.fin);
        if matches!(opcode, OpCode::Ping | OpCode::Pong | OpCode::Close) && frame.payload.len() > 125 {
            return protocol("a control frame holds at most 125 bytes");
        }
        match (opcode, &mut self.fragments) {
            (OpCode::Ping, _) => Ok(Some(Event::Ping(bytes(frame.payload)))),
            (OpCode::Pong, _) => Ok(Some(Event::Pong)),
            (OpCode::Close, _) => close_code(&frame.payload).map(|code| Some(Event::Close(code))),
            (OpCode::Text | OpCode::Binary, Some(_)) => protocol("a message began inside another"),
            (OpCode::Text | OpCode::Binary, None) if fin => message(opcode, bytes(frame.payload)).map(Some),
            (OpCode::Text | OpCode::Binary, fragments) => {
                *fragments = Some((opcode, BytesMut::from(&frame.payload[..])));
                Ok(None)
            }
            (OpCode::Continuation, None) => protocol("a continuation has nothing to continue"),
            (OpCode::Continuation, Some((_, joined))) => {
                if joined.len() + frame.payload.len() > self.limit {
                    return Err(Violation::Protocol(close::TOO_BIG, "the message is too big"));
                }
                joined.extend_from_slice(&frame.payload);
                match self.fragments.take_if(|_| fin) {
                    Some((opcode, joined)) => message(opcode, joined.freeze()).map(Some),
                    None => Ok(None),
                }
            }
        }
    }
}

fn message(opcode: OpCode, payload: Bytes) -> Result<Event, Violation> {
    let text = opcode == OpCode::Text;
    if text && std::str::from_utf8(&payload).is_err() {
        return Err(Violation::Protocol(close::INVALID_DATA, "the text is not UTF-8"));
    }
    Ok(Event::Message { text, payload })
}

fn bytes(payload: Payload<'_>) -> Bytes {
    match payload {
        Payload::Bytes(bytes) => bytes.freeze(),
        other => Bytes::from(Vec::from(other)),
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Violation::Protocol(close::PROTOCOL_ERROR, "a close code has two bytes")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Protocol(close::PROTOCOL_ERROR, "this close code may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::Protocol(close::INVALID_DATA, "the close reason is not UTF-8"));
    }
    Ok(Some(code))
}

fn violation(error: WebSocketError) -> Violation {
    match error {
        WebSocketError::FrameTooLarge => Violation::Protocol(close::TOO_BIG, "the message is too big"),
        WebSocketError::InvalidUTF8 => Violation::Protocol(close::INVALID_DATA, "the text is not UTF-8"),
        WebSocketError::ReservedBitsNotZero => {
            Violation::Protocol(close::PROTOCOL_ERROR, "reserved bits are set, and no extension was agreed")
        }
        WebSocketError::ControlFrameFragmented => {
            Violation::Protocol(close::PROTOCOL_ERROR, "a control frame is fragmented")
        }
        WebSocketError::PingFrameTooLarge => {
            Violation::Protocol(close::PROTOCOL_ERROR, "a control frame holds at most 125 bytes")
        }
        WebSocketError::InvalidValue => Violation::Protocol(close::PROTOCOL_ERROR, "this opcode is reserved"),
        _ => Violation::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// A client frame: first byte, payload, masked with zeros so that the bytes stay readable.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let head: &[u8] = if length < 126 { &[first, 0x80 | length] } else { &[first, 0xfe, 0, length] };
        [head, &[0; 4], payload].concat()
    }

    fn check(frames: &[Vec<u8>], expect: Expect) {
        let stream = frames.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut reader = MessageReader::new(&stream[..], 8);
        let mut log = String::new();
        loop {
            match runtime.block_on(reader.next()) {
                Ok(event) => log += &format!("{event:?}\n"),
                Err(violation) => break log += &format!("{violation:?}"),
            }
        }
        expect.assert_eq(&log);
    }

    #[test]
    fn messages_come_whole_or_in_fragments() {
        check(
            &[frame(0x81, b"hi"), frame(0x82, b"\xff")],
            expect![[r#"
            Message { text: true, payload: b"hi" }
            Message { text: false, payload: b"\xff" }
            Gone"#]],
        );
        // A character may be cut between fragments, and control frames may come between them.
        let cut = [frame(0x01, b"\xc3"), frame(0x89, b"p"), frame(0x00, b""), frame(0x80, b"\xa4")];
        check(
            &cut,
            expect![[r#"
            Ping(b"p")
            Message { text: true, payload: b"\xc3\xa4" }
            Gone"#]],
        );
        check(
            &[frame(0x8a, b""), frame(0x88, b"\x03\xe8bye")],
            expect![[r"
            Pong
            Close(Some(1000))
            Gone"]],
        );
    }

    #[test]
    fn violations_have_their_codes() {
        check(&[frame(0x82, b"123456789")], expect![[r#"Protocol(1009, "the message is too big")"#]]);
        let fragments = [frame(0x02, b"12345678"), frame(0x80, b"9")];
        check(&fragments, expect![[r#"Protocol(1009, "the message is too big")"#]]);
        check(&[frame(0x81, b"\xff")], expect![[r#"Protocol(1007, "the text is not UTF-8")"#]]);
        check(
            &[frame(0x01, b"\xc3"), frame(0x80, b"")],
            expect![[r#"Protocol(1007, "the text is not UTF-8")"#]],
        );
        check(&[vec![0x81, 0x00]], expect![[r#"Protocol(1002, "client frames must be masked")"#]]);
        check(
            &[frame(0x01, b""), frame(0x81, b"")],
            expect![[r#"
            Protocol(1002, "a message began inside another")"#]],
        );
        check(&[frame(0x80, b"")], expect![[r#"Protocol(1002, "a continuation has nothing to continue")"#]]);
        check(&[frame(0x88, b"\x03")], expect![[r#"Protocol(1002, "a close code has two bytes")"#]]);
        check(&[frame(0x88, b"\x03\xed")], expect![[r#"Protocol(1002, "this close code may not be sent")"#]]);
        check(
            &[frame(0xc1, b"")],
            expect![[r#"Protocol(1002, "reserved bits are set, and no extension was agreed")"#]],
        );
        check(&[frame(0x83, b"")], expect![[r#"Protocol(1002, "this opcode is reserved")"#]]);
        check(&[frame(0x09, b"")], expect![[r#"Protocol(1002, "a control frame is fragmented")"#]]);
    }
}
