//! What a batcher holds, without the rest of a server.

use thalweg::batcher::{Batcher, Entry, Next, Want};
use thalweg::clock::Time;
use thalweg::tensor::GroupKey;

/// About as large as a request on its way: the payload itself lies elsewhere.
pub struct Request {
    key: GroupKey,
    _rest: [u64; 16],
}

impl Entry for Request {
    fn key(&self) -> &GroupKey {
        &self.key
    }
    fn rows(&self) -> usize {
        1
    }
    fn priority(&self) -> usize {
        0
    }
    fn enqueued(&self) -> Time {
        Time::from_nanos(1)
    }
    fn deadline(&self) -> Option<Time> {
        Some(Time::from_nanos(1_000_000_000))
    }
    fn is_gone(&self) -> bool {
        false
    }
}

/// How many requests the next batch has, of as many as are pushed.
pub fn push_and_next(batcher: &mut Batcher<Request>, count: u64) -> usize {
    for _ in 0..count {
        let key = GroupKey([512].into_iter().collect());
        batcher.push(Request { key, _rest: [0; 16] });
    }
    match batcher.next(Time::from_nanos(2), Want::Any, &mut |_, _| ()) {
        Next::Run(batch) => batch.len(),
        Next::Wait(_) => 0,
    }
}
