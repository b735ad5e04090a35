//! A batcher that runs whatever waits.

use std::time::Duration;

use thalweg::batcher::Policy;

pub fn policy() -> Policy {
    Policy {
        max_batch_size: 64,
        preferred_batch_size: vec![],
        max_queue_delay: Duration::ZERO,
        priority_levels: 1,
    }
}
