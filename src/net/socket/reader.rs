//! Messages out of any byte stream.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::message::{Event, Messages, Violation};

/// What is asked of the stream at a time, where no large message is on its way.
const READ: usize = 8 << 10;

/// A new buffer is taken when less room than this is left.
const LEAST: usize = 1 << 10;

/// After so much of one stream it is the others' turn: a large message does not keep the thread for all of it.
const TURN: usize = 64 << 10;

/// Reads messages of at most `limit` bytes, whether they come whole or in fragments.
pub struct MessageReader<R> {
    stream: R,
    received: BytesMut,
    messages: Messages,
    /// So much of its turn a stream has had.
    read: usize,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    pub fn new(stream: R, limit: usize) -> Self {
        Self { stream, received: BytesMut::with_capacity(READ), messages: Messages::new(limit), read: 0 }
    }

    /// The next event in what has come.
    pub fn received(&mut self) -> Result<Option<Event>, Violation> {
        self.messages.next(&mut self.received)
    }

    /// Of a message, in bytes.
    pub fn limit(&self) -> usize {
        self.messages.limit()
    }

    /// Which message, or frame between messages, has begun to come and is not complete.
    pub fn begun(&self) -> Option<u64> {
        self.messages.begun(&self.received)
    }

    /// Waits until more has come. A future that is dropped loses nothing.
    pub async fn fill(&mut self) -> Result<(), Violation> {
        // Room follows what has come, not what is claimed.
        let missing = self.messages.missing(&self.received);
        self.received.reserve(missing.clamp(LEAST, self.received.len().max(READ)));
        let read = self.stream.read_buf(&mut (&mut self.received).limit(TURN)).await;
        let Ok(read @ 1..) = read else { return Err(Violation::Gone) };
        self.read += read;
        if self.read >= TURN {
            self.read = 0;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Throws away what has come, and waits for more to throw away.
    pub async fn skip(&mut self) -> Result<(), Violation> {
        self.received.clear();
        self.fill().await
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
            match reader.received() {
                Ok(Some(event)) => log += &format!("{event:?}\n"),
                Ok(None) if runtime.block_on(reader.fill()).is_ok() => {}
                Ok(None) => break log += "end",
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
            end"#]],
        );
        // A character may be cut between fragments, and control frames may come between them.
        let cut = [frame(0x01, b"\xc3"), frame(0x89, b"p"), frame(0x00, b""), frame(0x80, b"\xa4")];
        check(
            &cut,
            expect![[r#"
            Ping(b"p")
            Message { text: true, payload: b"\xc3\xa4" }
            end"#]],
        );
        check(
            &[frame(0x8a, b""), frame(0x88, b"\x03\xe8bye")],
            expect![[r"
            Pong
            Close(Some(1000))
            end"]],
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

    #[test]
    fn a_large_message_leaves_others_their_turns() {
        let size = 16 * TURN;
        let claim = u32::try_from(size).unwrap().to_be_bytes();
        let stream = [&[0x82, 0xff, 0, 0, 0, 0][..], &claim, &[0; 4], &vec![0; size]].concat();
        // All of it is there, and so reading it never waits.
        let mut reader = MessageReader::new(&stream[..], size);
        let mut turns = 0;
        let message = async {
            loop {
                match reader.received() {
                    Ok(None) => reader.fill().await.unwrap(),
                    other => break other,
                }
            }
        };
        let others = async {
            loop {
                turns += 1;
                tokio::task::yield_now().await;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(async {
            tokio::select! {
                biased;
                read = message => read,
                () = others => unreachable!(),
            }
        });
        assert!(matches!(read, Ok(Some(Event::Message { text: false, payload })) if payload.len() == size));
        assert_eq!(turns, 16);
    }
}
