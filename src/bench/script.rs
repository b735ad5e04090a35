//! What one connection says, encoded once: messages that are sent again and again.

use super::judge::{Judge, Naming, write_id};
use super::reference::References;

/// A frame or an HTTP request, as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Message {
    pub bytes: Vec<u8>,
    /// Where the digits of its id are.
    pub id_at: Option<usize>,
}

/// How many answers messages have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// One each.
    Each,
    /// A result for each window of the signal that is complete.
    Windows(Windows),
}

/// The windows of a signal that comes in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Samples of the model's rate.
    pub window: u64,
    pub hop: u64,
    pub model_rate: u64,
    /// What the client sends: samples a second, and in a piece.
    pub rate: u64,
    pub piece: u64,
}

impl Windows {
    /// How many are complete with so many pieces.
    pub fn complete(&self, pieces: u64) -> u64 {
        let samples = u128::from(pieces) * u128::from(self.piece) * u128::from(self.model_rate);
        let samples = u64::try_from(samples / u128::from(self.rate.max(1))).unwrap_or(u64::MAX);
        samples.checked_sub(self.window).map_or(0, |rest| rest / self.hop.max(1) + 1)
    }
}

/// All that connections of a load have in common.
#[derive(Debug)]
pub struct Script {
    pub messages: Vec<Message>,
    pub naming: Naming,
    pub answering: Answering,
    pub references: Option<References>,
}

impl Script {
    /// Appends the `count`th message with its id, and returns which of the messages it is.
    pub fn append(&self, count: u64, id: u64, out: &mut Vec<u8>) -> usize {
        let Some(index) = count.checked_rem(self.messages.len() as u64) else { return 0 };
        let index = usize::try_from(index).unwrap_or_default();
        let Some(message) = self.messages.get(index) else { return 0 };
        let start = out.len();
        out.extend_from_slice(&message.bytes);
        if let Some(at) = message.id_at
            && let Some(digits) = out.get_mut(start + at..start + at + super::judge::ID_DIGITS)
        {
            write_id(id, digits);
        }
        index
    }

    /// How many answers the `count`th message completes.
    pub fn answers_of(&self, count: u64) -> u64 {
        match &self.answering {
            Answering::Each => 1,
            Answering::Windows(windows) => windows.complete(count + 1) - windows.complete(count),
        }
    }

    pub fn judge(&self) -> Judge {
        Judge::new(self.naming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_complete_with_their_last_sample() {
        let windows = Windows { window: 512, hop: 512, model_rate: 16_000, rate: 16_000, piece: 512 };
        assert_eq!([0, 1, 2, 100].map(|pieces| windows.complete(pieces)), [0, 1, 2, 100]);
        let overlapping = Windows { hop: 256, ..windows };
        assert_eq!([0, 1, 2, 3].map(|pieces| overlapping.complete(pieces)), [0, 1, 3, 5]);
        let small = Windows { piece: 256, ..windows };
        assert_eq!([1, 2, 3, 4].map(|pieces| small.complete(pieces)), [0, 1, 1, 2]);
        // A second has 31.25 windows, at whatever rate.
        let other = Windows { rate: 44_100, piece: 441, ..windows };
        assert_eq!([99, 100, 400].map(|pieces| other.complete(pieces)), [30, 31, 125]);
    }

    #[test]
    fn messages_take_turns_and_have_their_ids() {
        let message = |text: &str| Message { bytes: text.into(), id_at: text.find('0') };
        let script = Script {
            messages: vec![message("a00000000;"), message("b;")],
            naming: Naming::Id,
            answering: Answering::Each,
            references: None,
        };
        let mut out = Vec::new();
        let indices: Vec<_> = (0..3).map(|count| script.append(count, 70 + count, &mut out)).collect();
        assert_eq!((indices, &out[..]), (vec![0, 1, 0], &b"a00000070;b;a00000072;"[..]));
    }
}
