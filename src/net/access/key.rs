//! One key: its name, its checksum, how it stands, and the pass that its bearer gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::standing::{Denied, Standing, Terms};
use crate::clock::Clock;
use crate::error::Result;
use crate::metrics::{KeyMetrics, Metrics};

/// A key of the file. It lives on in the passes of open connections when the file has changed, so that they
/// follow the change.
pub struct Key {
    pub name: String,
    /// In hexadecimal digits; the key itself is nowhere.
    pub sha256: String,
    standing: Mutex<Standing>,
    metrics: KeyMetrics,
    /// Whether the log says that it has expired.
    told: AtomicBool,
}

impl Key {
    pub fn new(name: String, sha256: String, metrics: &Arc<Metrics>) -> Arc<Self> {
        let metrics = metrics.key(&name);
        Arc::new(Self { name, sha256, standing: Mutex::default(), metrics, told: AtomicBool::new(false) })
    }

    pub fn set(&self, terms: Option<Terms>) {
        self.standing.lock().set(terms);
        self.told.store(false, Ordering::Relaxed);
    }
}

/// What the bearer of a key carries.
pub struct Pass {
    key: Arc<Key>,
    clock: Clock,
    /// Whether a WebSocket is counted, until this goes.
    counted: bool,
}

impl Pass {
    pub fn new(key: Arc<Key>, clock: Clock) -> Self {
        Self { key, clock, counted: false }
    }

    /// The key's name, which is no secret.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// One more request.
    pub fn request(&self) -> Result<()> {
        let outcome = self.key.standing.lock().request(self.clock.now(), self.clock.date());
        match outcome {
            Ok(()) => {
                self.key.metrics.admitted.increment(1);
                Ok(())
            }
            Err(denied) => self.deny(denied),
        }
    }

    /// One more WebSocket, for as long as the pass is held.
    pub fn open(mut self) -> Result<Self> {
        // Counted while the lock is held, or two of them could be told in the wrong order.
        let opened = {
            let mut standing = self.key.standing.lock();
            standing.open().map(|open| self.key.metrics.connections(open))
        };
        match opened {
            Ok(()) => {
                self.counted = true;
                Ok(self)
            }
            Err(denied) => self.deny(denied),
        }
    }

    fn deny<T>(&self, denied: Denied) -> Result<T> {
        // Once, however often its bearer tries.
        if denied == Denied::Expired && !self.key.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(key = self.key.name, "a key has expired and is refused");
        }
        self.key.metrics.refused(denied.outcome());
        Err(denied.into())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.counted {
            let mut standing = self.key.standing.lock();
            self.key.metrics.connections(standing.close());
        }
    }
}
