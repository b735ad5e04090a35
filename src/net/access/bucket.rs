//! How often something may happen: a bucket that holds one second's worth, as a pure policy.

use std::time::Duration;

use crate::clock::Time;

const SECOND: Duration = Duration::from_secs(1);

/// What has been taken, as the moment by which it will have been earned.
#[derive(Debug, Default, Clone, Copy)]
pub struct Bucket {
    earned: Time,
}

impl Bucket {
    /// Takes one of `rate` a second, if there is one. All of a second's may be taken at once.
    pub fn take(&mut self, now: Time, rate: u32) -> bool {
        let earned = self.earned.max(now) + SECOND / rate.max(1);
        let there = earned - now <= SECOND;
        if there {
            self.earned = earned;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 100 tries succeed at each of these milliseconds.
    fn check(rate: u32, moments: &[(u64, usize)]) {
        let mut bucket = Bucket::default();
        for &(milliseconds, expected) in moments {
            let now = Time::from_nanos(1_000_000 * milliseconds);
            let taken = (0..100).filter(|_| bucket.take(now, rate)).count();
            assert_eq!(taken, expected, "{rate} a second, at {milliseconds} ms");
        }
    }

    #[test]
    fn a_second_has_what_it_may_have() {
        check(1, &[(0, 1), (999, 0), (1000, 1), (1999, 0), (9000, 1)]);
        check(10, &[(0, 10), (99, 0), (100, 1), (350, 2), (400, 1), (10_000, 10)]);
        check(1000, &[(0, 100), (0, 100), (1, 100)]);
        // A second has no more than its rate, wherever it begins.
        let mut bucket = Bucket::default();
        let taken: Vec<u64> =
            (0..5000).filter(|ms| bucket.take(Time::from_nanos(1_000_000 * ms), 7)).collect();
        let most = taken
            .iter()
            .map(|from| taken.iter().filter(|ms| (*from..from + 1000).contains(ms)).count())
            .max();
        assert!((7..=14).contains(&most.unwrap()), "{most:?}");
        assert!((40..=42).contains(&taken.len()), "{}", taken.len());
    }

    #[test]
    fn a_rate_may_change() {
        let mut bucket = Bucket::default();
        let now = Time::from_nanos(5);
        assert!(bucket.take(now, 1) && !bucket.take(now, 1) && !bucket.take(now, 1000));
        let later = now + SECOND;
        assert_eq!((0..10).filter(|_| bucket.take(later, 3)).count(), 3);
    }
}
