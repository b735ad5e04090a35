//! What the two halves of a connection and its timer tell each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::keepalive::Seen;
use super::parting::Rest;
use super::patience::Begun;

/// Pongs that wait to be sent, at most.
const PONGS: usize = 16;

/// Stands for nothing in [`Control::message`].
const NOTHING: u64 = u64::MAX;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a close frame of ours; owed answers leave before it.
    Close { code: u16, reason: &'static str, rest: Rest },
    /// The client vanished, or is given up.
    Gone,
}

/// What the writer is asked to send beside answers, and how far both halves have come.
pub struct Control {
    pub asked: Mutex<Asked>,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub messages: AtomicU64,
    /// The reader waits for room in the window, or reads no more.
    deaf: AtomicBool,
    /// Which message has begun and is not complete.
    message: AtomicU64,
    /// How often the writer has begun to send, and whether it waits for the socket.
    sends: AtomicU64,
    sending: AtomicBool,
    /// The server is closing: nothing more is read.
    leaving: AtomicBool,
}

/// What the writer is asked to send beside answers.
#[derive(Default)]
pub struct Asked {
    /// Beyond [`PONGS`] the oldest goes unsent (RFC 6455, section 5.5.3).
    pub pongs: VecDeque<Bytes>,
    pub ping: bool,
    /// The client is to be told that it will be let go.
    pub warning: Option<Duration>,
}

impl Asked {
    pub fn pong(&mut self, payload: Bytes) {
        if self.pongs.len() == PONGS {
            self.pongs.pop_front();
        }
        self.pongs.push_back(payload);
    }

    pub fn take(&mut self) -> Option<Self> {
        let is_empty = self.pongs.is_empty() && !self.ping && self.warning.is_none();
        (!is_empty).then(|| std::mem::take(self))
    }
}

impl Control {
    pub fn new() -> Self {
        Self {
            asked: Mutex::default(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
            message: AtomicU64::new(NOTHING),
            sends: AtomicU64::new(0),
            sending: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    /// The reader is to stop once it has made requests of all that has come.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether the socket is read.
    pub fn listen(&self, listens: bool) {
        self.deaf.store(!listens, Ordering::Relaxed);
    }

    pub fn begin_message(&self, begun: Option<u64>) {
        self.message.store(begun.unwrap_or(NOTHING), Ordering::Relaxed);
    }

    pub fn begin_send(&self) {
        self.sends.fetch_add(1, Ordering::Relaxed);
        self.sending.store(true, Ordering::Relaxed);
    }

    pub fn end_send(&self) {
        self.sending.store(false, Ordering::Relaxed);
    }

    pub fn seen(&self) -> Seen {
        Seen {
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            deaf: self.deaf.load(Ordering::Relaxed),
            sending: self.sending.load(Ordering::Relaxed),
        }
    }

    /// What the client has begun and may not draw out.
    pub fn begun(&self) -> Begun {
        let message = self.message.load(Ordering::Relaxed);
        let is_read = message != NOTHING && !self.deaf.load(Ordering::Relaxed);
        let is_sent = self.sending.load(Ordering::Relaxed);
        Begun {
            message: is_read.then_some(message),
            answer: is_sent.then(|| self.sends.load(Ordering::Relaxed)),
        }
    }
}
