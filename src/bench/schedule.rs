//! When one connection sends: whenever it has room, or at times that are known before anything is sent.

use std::time::Duration;

use fastrand::Rng;

use crate::clock::Time;

/// The times at which one connection is to send.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// A closed loop: as soon as there is room, until the end.
    Closed { until: Time },
    /// An open loop: at these times, whatever the server does.
    Open(Arrivals),
}

impl Schedule {
    /// The time for which the next message is scheduled, if that has come.
    pub fn due(&self, now: Time) -> Option<Time> {
        match self {
            Self::Closed { until } => (now < *until).then_some(now),
            Self::Open(arrivals) => arrivals.next().filter(|due| *due <= now),
        }
    }

    /// The next time that is known beforehand.
    pub fn next(&self) -> Option<Time> {
        match self {
            Self::Closed { .. } => None,
            Self::Open(arrivals) => arrivals.next(),
        }
    }

    pub fn advance(&mut self) {
        if let Self::Open(arrivals) = self {
            arrivals.advance();
        }
    }

    pub fn has_ended(&self, now: Time) -> bool {
        match self {
            Self::Closed { until } => now >= *until,
            Self::Open(arrivals) => arrivals.next().is_none(),
        }
    }
}

/// Moments from `first` to before `until`.
#[derive(Debug, Clone)]
pub struct Arrivals {
    first: Time,
    until: Time,
    /// From the first, in nanoseconds: fractions add up.
    offset: f64,
    count: f64,
    mean: f64,
    random: Option<Rng>,
}

impl Arrivals {
    /// So many in a second, evenly spaced.
    pub fn even(first: Time, until: Time, rate: f64) -> Self {
        let mean = 1e9 / rate;
        Self { first, until, offset: 0.0, count: 0.0, mean, random: None }
    }

    /// A Poisson process of so many in a second: gaps are exponentially distributed, also that before the first.
    pub fn poisson(first: Time, until: Time, rate: f64, seed: u64) -> Self {
        let mut arrivals = Self::even(first, until, rate);
        arrivals.random = Some(Rng::with_seed(seed));
        arrivals.advance();
        arrivals
    }

    pub fn next(&self) -> Option<Time> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let next = self.first + Duration::from_nanos(self.offset.round() as u64);
        (next < self.until).then_some(next)
    }

    pub fn advance(&mut self) {
        match &mut self.random {
            // 1 - f64() is never zero, whose logarithm is infinite.
            Some(random) => self.offset -= (1.0 - random.f64()).ln() * self.mean,
            None => {
                self.count += 1.0;
                self.offset = self.count * self.mean;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn ms(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn all(mut arrivals: Arrivals) -> Vec<u64> {
        std::iter::from_fn(|| {
            let next = arrivals.next();
            arrivals.advance();
            next.map(|time| time.as_nanos() / 1000)
        })
        .collect()
    }

    fn check(arrivals: Arrivals, expect: Expect) {
        expect.assert_eq(&format!("{:?}", all(arrivals)));
    }

    #[test]
    fn even_arrivals_do_not_drift() {
        check(Arrivals::even(ms(1), ms(5), 1000.0), expect!["[1000, 2000, 3000, 4000]"]);
        let times = all(Arrivals::even(ms(0), ms(1_000_000), 3.0));
        assert_eq!((times.len(), times.last()), (3000, Some(&999_666_666)));
    }

    #[test]
    fn random_arrivals_follow_their_seed_and_their_mean() {
        let seed = |seed| all(Arrivals::poisson(ms(0), ms(20_000), 500.0, seed));
        assert_eq!(seed(1), seed(1));
        assert_ne!(seed(1), seed(2));
        let times = seed(3);
        assert!((9_700..10_300).contains(&times.len()), "{}", times.len());
        // Of an exponential distribution, 1 - 1/e is below the mean.
        let below = times.windows(2).filter(|pair| pair[1] - pair[0] < 2000).count();
        assert!((6_100..6_550).contains(&(below * 10_000 / times.len())), "{below}");
    }

    #[test]
    fn a_closed_loop_is_always_due_until_its_end() {
        let schedule = Schedule::Closed { until: ms(10) };
        assert_eq!((schedule.due(ms(3)), schedule.due(ms(10))), (Some(ms(3)), None));
        assert_eq!(
            (schedule.next(), schedule.has_ended(ms(9)), schedule.has_ended(ms(10))),
            (None, false, true)
        );
    }

    #[test]
    fn an_open_loop_is_due_at_its_times_however_late_they_are_asked_for() {
        let mut schedule = Schedule::Open(Arrivals::even(ms(2), ms(6), 500.0));
        assert_eq!((schedule.due(ms(1)), schedule.next()), (None, Some(ms(2))));
        assert_eq!(schedule.due(ms(100)), Some(ms(2)));
        schedule.advance();
        assert_eq!(schedule.due(ms(100)), Some(ms(4)));
        schedule.advance();
        assert!(schedule.has_ended(ms(100)));
    }
}
