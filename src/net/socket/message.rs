//! From bytes to messages: what stands between frames, without I/O.

use bytes::{Buf, Bytes, BytesMut};
use fastwebsockets::{OpCode, unmask};

use super::close;
use super::frame::{Head, LONGEST_HEAD};

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

/// Takes messages of at most `limit` bytes, whether they come whole or in fragments.
pub struct Messages {
    limit: usize,
    /// The frame whose payload is awaited.
    head: Option<Head>,
    fragments: Option<Fragments>,
    /// Events so far, but for those amid a message.
    count: u64,
}

/// The beginning of a message.
struct Fragments {
    text: bool,
    joined: BytesMut,
    /// So much of it is whole characters.
    checked: usize,
}

impl Messages {
    pub fn new(limit: usize) -> Self {
        Self { limit, head: None, fragments: None, count: 0 }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The next event in what has been received, or `None` if more is needed.
    pub fn next(&mut self, received: &mut BytesMut) -> Result<Option<Event>, Violation> {
        loop {
            let head = match self.head {
                Some(head) => head,
                None => {
                    let Some(head) = Head::parse(received)? else { return Ok(None) };
                    self.admit(&head)?;
                    received.advance(head.size);
                    *self.head.insert(head)
                }
            };
            let Some(length) = usize::try_from(head.length).ok().filter(|&length| length <= received.len())
            else {
                return Ok(None);
            };
            let mut payload = received.split_to(length);
            self.head = None;
            unmask(&mut payload, head.mask);
            if let Some(event) = self.take(head, payload)? {
                self.count += u64::from(self.fragments.is_none());
                return Ok(Some(event));
            }
        }
    }

    /// How many bytes are missing for something to come of them.
    pub fn missing(&self, received: &BytesMut) -> usize {
        let wanted =
            self.head.map_or(LONGEST_HEAD, |head| usize::try_from(head.length).unwrap_or(usize::MAX));
        wanted.saturating_sub(received.len())
    }

    /// Which message, or frame between messages, has begun and is not complete.
    pub fn begun(&self, received: &BytesMut) -> Option<u64> {
        let has_begun = self.fragments.is_some() || self.head.is_some() || !received.is_empty();
        has_begun.then_some(self.count)
    }

    /// Refuses a frame that has no place here before its payload is waited for.
    fn admit(&self, head: &Head) -> Result<(), Violation> {
        let protocol = |reason| Err(Violation::Protocol(close::PROTOCOL_ERROR, reason));
        let joined = match (head.opcode, &self.fragments) {
            (OpCode::Text | OpCode::Binary, Some(_)) => return protocol("a message began inside another"),
            (OpCode::Continuation, None) => return protocol("a continuation has nothing to continue"),
            (OpCode::Continuation, Some(fragments)) => fragments.joined.len(),
            _ => 0,
        };
        if !head.is_control() && head.length > (self.limit - joined) as u64 {
            return Err(Violation::Protocol(close::TOO_BIG, "the message is too big"));
        }
        Ok(())
    }

    fn take(&mut self, head: Head, payload: BytesMut) -> Result<Option<Event>, Violation> {
        match (head.opcode, &mut self.fragments) {
            (OpCode::Ping, _) => return Ok(Some(Event::Ping(payload.freeze()))),
            (OpCode::Pong, _) => return Ok(Some(Event::Pong)),
            (OpCode::Close, _) => return close_code(&payload).map(|code| Some(Event::Close(code))),
            (_, Some(fragments)) => fragments.joined.extend_from_slice(&payload),
            (opcode, none) if head.fin => {
                debug_assert!(none.is_none());
                let text = opcode == OpCode::Text;
                if text && std::str::from_utf8(&payload).is_err() {
                    return Err(NOT_TEXT);
                }
                return Ok(Some(Event::Message { text, payload: payload.freeze() }));
            }
            (opcode, none) => {
                let joined = BytesMut::from(&payload[..]);
                *none = Some(Fragments { text: opcode == OpCode::Text, joined, checked: 0 });
            }
        }
        if let Some(fragments) = &mut self.fragments {
            fragments.check(head.fin)?;
        }
        let whole = self.fragments.take_if(|_| head.fin);
        Ok(whole.map(|Fragments { text, joined, .. }| Event::Message { text, payload: joined.freeze() }))
    }
}

const NOT_TEXT: Violation = Violation::Protocol(close::INVALID_DATA, "the text is not UTF-8");

impl Fragments {
    /// Text is UTF-8 as far as it goes; only the end of a fragment that is not the last may cut a character.
    fn check(&mut self, is_last: bool) -> Result<(), Violation> {
        if !self.text {
            return Ok(());
        }
        let unchecked = self.joined.get(self.checked..).unwrap_or_default();
        match std::str::from_utf8(unchecked) {
            Ok(_) => self.checked = self.joined.len(),
            Err(error) if error.error_len().is_none() && !is_last => self.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_TEXT),
        }
        Ok(())
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
