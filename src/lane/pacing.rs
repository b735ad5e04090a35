//! When to close the next batch while one is still computing.

use std::time::Duration;

use crate::clock::Time;

/// What waking up late, and the device's own queue, may cost.
const SLACK: Duration = Duration::from_micros(50);

/// A device should find its next batch ready when it has done the last; until then the batch had better grow.
///
/// So the next batch is closed when the last one is about to be done, less what it takes to prepare a batch. Both
/// are learned from the batches before: how long one of about this many rows took, and how long preparing took.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// How long batches of 2^i rows, or just below, are on the device.
    runs: [Smoothed; 32],
    prepare: Smoothed,
    /// When the last batch that was launched should be done; `None` if that cannot be told.
    done: Option<Time>,
    landed: Time,
}

/// A mean that forgets: each new value counts for an eighth, as in TCP's round-trip times (RFC 6298).
#[derive(Debug, Default, Clone, Copy)]
struct Smoothed(Option<Duration>);

impl Smoothed {
    fn add(&mut self, value: Duration) {
        self.0 = Some(self.0.map_or(value, |mean| (mean * 7 + value) / 8));
    }
}

impl Pacing {
    /// A batch has been launched, which took from `taken` to `now` to prepare; `under_way`: another one is before it.
    pub(super) fn launched(&mut self, rows: usize, taken: Time, now: Time, under_way: bool) {
        self.prepare.add(now - taken);
        // It starts when the one before is done.
        let starts = if under_way { self.done } else { Some(now) };
        self.done = starts.zip(self.runs[class(rows)].0).map(|(starts, run)| starts.max(now) + run);
    }

    /// The oldest batch has landed, which was launched at `launched`.
    pub(super) fn landed(&mut self, rows: usize, launched: Time, now: Time) {
        self.runs[class(rows)].add(now - launched.max(self.landed));
        self.landed = now;
    }

    /// When the next batch is to be closed even if it is not full.
    pub(super) fn close_at(&self) -> Option<Time> {
        let prepare = self.prepare.0?;
        Some(self.done?.before(prepare + SLACK))
    }
}

fn class(rows: usize) -> usize {
    (rows.max(1).next_power_of_two().trailing_zeros() as usize).min(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn a_batch_is_closed_when_the_one_before_is_about_to_be_done() {
        let mut pacing = Pacing::default();
        pacing.launched(60, at(0), at(MS / 10), false);
        assert_eq!(pacing.close_at(), None, "nobody knows yet how long 60 rows take");
        pacing.landed(60, at(MS / 10), at(MS / 10 + 4 * MS));

        pacing.launched(64, at(10 * MS), at(10 * MS + MS / 10), false);
        let done = 10 * MS + MS / 10 + 4 * MS;
        assert_eq!(pacing.close_at(), Some(at(done - MS / 10 - MS / 20)));
        // The next waits on the device until this one is done.
        pacing.launched(64, at(11 * MS), at(11 * MS + MS / 10), true);
        assert_eq!(pacing.close_at(), Some(at(done + 4 * MS - MS / 10 - MS / 20)));
        pacing.landed(64, at(10 * MS), at(done));
        pacing.landed(64, at(11 * MS), at(done + 4 * MS));

        pacing.launched(65, at(20 * MS), at(20 * MS + MS / 10), false);
        assert_eq!(pacing.close_at(), None, "128 rows never ran");
    }

    #[test]
    fn what_is_learned_follows_the_device() {
        let mut pacing = Pacing::default();
        for run in 0..100u64 {
            let start = run * 10 * MS;
            pacing.launched(8, at(start), at(start), false);
            pacing.landed(8, at(start), at(start + if run < 50 { MS } else { 2 * MS }));
        }
        pacing.launched(8, at(1000 * MS), at(1000 * MS), false);
        let expected = pacing.close_at().unwrap() - at(1000 * MS);
        assert!(
            expected > Duration::from_micros(1940) && expected < Duration::from_micros(1951),
            "{expected:?}"
        );
    }
}
