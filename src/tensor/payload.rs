//! What a request brings for one input of a model.

use bytes::Bytes;

use crate::signal::Encoding;

/// The bytes for one input, and how far they are from being its rows.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Rows as the model takes them (little-endian; `BYTES` with their lengths).
    Rows(Bytes),
    /// A plain message, which the device turns into one row while it gathers the batch.
    Message(Bytes),
    /// A window of a signal, which the device turns into one row of numbers.
    Signal(Encoding, Bytes),
}

impl Payload {
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(bytes) | Self::Message(bytes) | Self::Signal(_, bytes) => bytes.len(),
        }
    }

    /// Bytes to charge to the memory for requests. A window of a signal is bounded by its stream's place
    /// already, and could not be sent again without a gap in the state behind it.
    pub fn charge(&self) -> usize {
        match self {
            Self::Signal(..) => 0,
            Self::Rows(_) | Self::Message(_) => self.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Turns a message of any length into a row of `head + tail` bytes: its beginning and its end.
///
/// This is the input of content classifiers such as magika. Only the first and last `block` bytes are
/// looked at; with `strip`, ASCII white space is removed before the head and behind the tail. A head that is
/// too short is padded at its end, a tail at its beginning, with `pad`, which may lie beyond a byte's range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteWindow {
    pub head: usize,
    pub tail: usize,
    pub block: usize,
    pub strip: bool,
    pub pad: i64,
}

impl ByteWindow {
    /// Elements in a row.
    pub fn width(&self) -> usize {
        self.head + self.tail
    }

    /// The bytes at the front of the row.
    pub fn head_of<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        let block = &message[..message.len().min(self.block)];
        let start = if self.strip { block.iter().position(|&byte| !is_space(byte)) } else { Some(0) };
        let rest = &block[start.unwrap_or(block.len())..];
        &rest[..rest.len().min(self.head)]
    }

    /// The bytes at the back of the row.
    pub fn tail_of<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        let block = &message[message.len() - message.len().min(self.block)..];
        let last = if self.strip {
            block.iter().rposition(|&byte| !is_space(byte))
        } else {
            block.len().checked_sub(1)
        };
        let rest = &block[..last.map_or(0, |last| last + 1)];
        &rest[rest.len() - rest.len().min(self.tail)..]
    }

    /// The row's elements in order.
    pub fn row<'a>(&self, message: &'a [u8]) -> impl Iterator<Item = i64> + use<'a> {
        let (head, tail) = (self.head_of(message), self.tail_of(message));
        let padding = self.head - head.len() + self.tail - tail.len();
        let padding = std::iter::repeat_n(self.pad, padding);
        head.iter()
            .map(|&byte| i64::from(byte))
            .chain(padding)
            .chain(tail.iter().map(|&byte| i64::from(byte)))
    }
}

/// White space as Python's `bytes.strip` sees it, which the models were trained behind.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(message: &[u8]) -> Vec<i64> {
        ByteWindow { head: 3, tail: 2, block: 6, strip: true, pad: 256 }.row(message).collect()
    }

    #[test]
    fn a_message_becomes_its_head_and_tail() {
        let bytes = |text: &[u8]| text.iter().map(|&b| i64::from(b)).collect::<Vec<_>>();
        assert_eq!(row(b"abcdef"), bytes(b"abcef"));
        assert_eq!(row(b" \x0babcdef\n"), bytes(b"abcef"));
        assert_eq!(row(b"a"), [97, 256, 256, 256, 97]);
        assert_eq!(row(b""), [256; 5]);
        assert_eq!(row(b"   "), [256; 5]);
        // Only the outer blocks count: here all that the first one holds is white space.
        assert_eq!(row(b"       abcdefgh"), [vec![256; 3], bytes(b"gh")].concat());
    }
}
