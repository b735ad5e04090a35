//! What the two halves of a connection and its timer tell each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
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
    asked: Mutex<Asked>,
    asks: AtomicBool,
    pub reads: Count,
    pub writes: Count,
    pub messages: Count,
    /// The reader waits for room in the window, or reads no more.
    deaf: AtomicBool,
    /// Which message has begun and is not complete.
    message: AtomicU64,
    /// How often the writer has begun to send, and whether it waits for the socket.
    sends: Count,
    sending: AtomicBool,
    /// The server is closing: nothing more is read.
    leaving: AtomicBool,
}

/// A count that one task alone counts.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.store(self.get() + more, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
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
}

impl Control {
    pub fn new() -> Self {
        Self {
            asked: Mutex::default(),
            asks: AtomicBool::new(false),
            reads: Count::default(),
            writes: Count::default(),
            messages: Count::default(),
            deaf: AtomicBool::new(false),
            message: AtomicU64::new(NOTHING),
            sends: Count::default(),
            sending: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    /// Asks the writer for something.
    pub fn ask(&self, what: impl FnOnce(&mut Asked)) {
        what(&mut self.asked.lock());
        self.asks.store(true, Relaxed);
    }

    /// What has been asked since the last time.
    pub fn asked(&self) -> Option<Asked> {
        let asks = self.asks.load(Relaxed);
        asks.then(|| {
            self.asks.store(false, Relaxed);
            std::mem::take(&mut *self.asked.lock())
        })
    }

    /// The reader is to stop once it has made requests of all that has come.
    pub fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Whether the socket is read.
    pub fn listen(&self, listens: bool) {
        self.deaf.store(!listens, Relaxed);
    }

    pub fn begin_message(&self, begun: Option<u64>) {
        self.message.store(begun.unwrap_or(NOTHING), Relaxed);
    }

    pub fn begin_send(&self) {
        self.sends.add(1);
        self.sending.store(true, Relaxed);
    }

    pub fn end_send(&self) {
        self.sending.store(false, Relaxed);
    }

    pub fn seen(&self) -> Seen {
        Seen {
            reads: self.reads.get(),
            writes: self.writes.get(),
            messages: self.messages.get(),
            deaf: self.deaf.load(Relaxed),
            sending: self.sending.load(Relaxed),
        }
    }

    /// What the client has begun and may not draw out.
    pub fn begun(&self) -> Begun {
        let message = self.message.load(Relaxed);
        let is_read = message != NOTHING && !self.deaf.load(Relaxed);
        let is_sent = self.sending.load(Relaxed);
        Begun { message: is_read.then_some(message), answer: is_sent.then(|| self.sends.get()) }
    }
}
