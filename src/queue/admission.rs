//! Who may wait: places in a model's queue, and bytes of memory across all models.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, Error, Result};

/// A count that never exceeds its limit.
#[derive(Debug)]
struct Bounded {
    used: AtomicUsize,
    limit: usize,
}

impl Bounded {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    fn take(self: &Arc<Self>, amount: usize) -> Option<Share> {
        let sum = |used: usize| used.checked_add(amount).filter(|&sum| sum <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, sum).ok()?;
        Some(Share { of: Arc::clone(self), amount })
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// A part taken of a bounded count; given back when dropped.
#[derive(Debug)]
struct Share {
    of: Arc<Bounded>,
    amount: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

/// The places in one model's queue (`max_queue_size`).
#[derive(Debug, Clone)]
pub struct Places(Arc<Bounded>);

impl Places {
    pub fn new(limit: usize) -> Self {
        Self(Bounded::new(limit))
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    pub fn used(&self) -> usize {
        self.0.used()
    }
}

/// The memory that payloads of waiting requests may take, one budget for the whole server.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Bounded>);

impl Memory {
    pub fn new(limit: usize) -> Self {
        Self(Bounded::new(limit))
    }

    pub fn used(&self) -> usize {
        self.0.used()
    }
}

/// The right to wait in a queue.
#[derive(Debug)]
pub struct Permit {
    place: Option<Share>,
    _memory: Share,
}

impl Permit {
    /// Takes a place and `bytes` of memory, both or neither.
    pub fn take(places: &Places, memory: &Memory, bytes: usize) -> Result<Self> {
        let place = places.0.take(1).ok_or_else(|| {
            let message = format!("the model's queue is full ({} requests wait)", places.limit());
            Error::new(Code::QueueFull, message)
        })?;
        let memory = memory.0.take(bytes).ok_or_else(|| {
            let message = format!("waiting requests fill the {} bytes set aside for them", memory.0.limit);
            Error::new(Code::MemoryFull, message)
        })?;
        Ok(Self { place: Some(place), _memory: memory })
    }

    /// The request has left the queue for a batch: its place is free, its bytes are still held.
    pub fn leave_queue(&mut self) {
        self.place = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_come_back() {
        let (places, memory) = (Places::new(2), Memory::new(100));
        let take = |bytes| Permit::take(&places, &memory, bytes).map_err(|error| error.code);
        let mut first = take(60).unwrap();
        assert_eq!(take(41).unwrap_err(), Code::MemoryFull);
        assert_eq!(places.used(), 1, "a refused request holds nothing");
        let second = take(40).unwrap();
        assert_eq!(take(0).unwrap_err(), Code::QueueFull);
        first.leave_queue();
        assert_eq!((places.used(), memory.used()), (1, 100));
        drop((first, second));
        assert_eq!((places.used(), memory.used()), (0, 0));
        assert_eq!(take(usize::MAX).unwrap_err(), Code::MemoryFull);
    }
}
