//! How often to run what is timed, and what is told of its times. The clock is handed in.

use std::time::Duration;

use crate::clock::{Clock, Time};

/// What time is taken from.
pub trait Watch: Sync {
    fn now(&self) -> Time;

    /// CPU time of all threads.
    fn cpu(&self) -> Duration;
}

impl Watch for Clock {
    fn now(&self) -> Time {
        Clock::now(self)
    }

    fn cpu(&self) -> Duration {
        Clock::cpu(self)
    }
}

/// When enough was seen: after `time`, but not before `fewest` runs, and never after more than `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Runs before, which do not count.
    pub warm_up: usize,
    pub fewest: usize,
    pub most: usize,
    pub time: Duration,
}

impl Effort {
    /// So many runs, however long they take.
    pub fn runs(count: usize) -> Self {
        Self { warm_up: 3, fewest: count, most: count, time: Duration::ZERO }
    }

    fn is_enough(&self, runs: usize, time: Duration) -> bool {
        runs >= self.most || runs >= self.fewest && time >= self.time
    }
}

/// The runs that one thread has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    walls: Vec<Duration>,
    /// What all threads took meanwhile.
    cpu: Duration,
}

/// What is told of some runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    pub runs: usize,
    pub median: Duration,
    /// Of a hundred runs, 95 take no longer.
    pub p95: Duration,
    /// CPU time of one run, on all threads.
    pub cpu: Duration,
}

/// Runs something as often as it takes.
pub fn sample<E>(
    effort: &Effort,
    watch: &dyn Watch,
    mut run: impl FnMut() -> Result<(), E>,
) -> Result<Samples, E> {
    for _ in 0..effort.warm_up {
        run()?;
    }
    let (mut walls, cpu) = (Vec::new(), watch.cpu());
    let start = watch.now();
    let mut last = start;
    while !effort.is_enough(walls.len(), last - start) {
        run()?;
        let now = watch.now();
        walls.push(now - last);
        last = now;
    }
    Ok(Samples { walls, cpu: watch.cpu().saturating_sub(cpu) })
}

impl Samples {
    /// Of threads that ran at the same time.
    pub fn times(threads: &[Self]) -> Times {
        let mut walls: Vec<_> = threads.iter().flat_map(|samples| samples.walls.iter().copied()).collect();
        walls.sort_unstable();
        let at = |percent: usize| {
            // The least that so many are not above.
            let rank = (walls.len() * percent).div_ceil(100).max(1);
            walls.get(rank - 1).copied().unwrap_or_default()
        };
        // Each thread has seen the time of all.
        let seen: Duration = threads.iter().map(|samples| samples.cpu).sum();
        let parts = u32::try_from(threads.len() * walls.len()).unwrap_or(u32::MAX).max(1);
        Times { runs: walls.len(), median: at(50), p95: at(95), cpu: seen / parts }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use expect_test::{Expect, expect};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// It goes on only by what runs take.
    #[derive(Default)]
    struct Fake(AtomicU64);

    impl Watch for Fake {
        fn now(&self) -> Time {
            Time::from_nanos(self.0.load(Relaxed))
        }

        /// Two threads are busy.
        fn cpu(&self) -> Duration {
            Duration::from_nanos(2 * self.0.load(Relaxed))
        }
    }

    /// Runs that take so many milliseconds, the last one again and again.
    fn check(effort: Effort, runs: &[u64], expect: Expect) {
        let watch = Fake::default();
        let mut count = 0;
        let run = || {
            let index = count.min(runs.len() - 1);
            watch.0.fetch_add(runs[index] * 1_000_000, Relaxed);
            count += 1;
            Ok::<_, Infallible>(())
        };
        let Ok(samples) = sample(&effort, &watch, run);
        let Times { runs, median, p95, cpu } = Samples::times(&[samples]);
        expect.assert_eq(&format!("{count} in all: {runs}, {median:?}, {p95:?}, {cpu:?}"));
    }

    #[test]
    fn there_are_runs_for_the_time_but_neither_too_few_nor_too_many() {
        let effort = Effort { warm_up: 2, fewest: 3, most: 10, time: 20 * MS };
        check(effort, &[50, 9, 4], expect!["7 in all: 5, 4ms, 4ms, 8ms"]);
        check(effort, &[50], expect!["5 in all: 3, 50ms, 50ms, 100ms"]);
        check(effort, &[1], expect!["12 in all: 10, 1ms, 1ms, 2ms"]);
        check(effort, &[0], expect!["12 in all: 10, 0ns, 0ns, 0ns"]);
        check(Effort::runs(4), &[1, 1, 1, 7, 2, 4, 6], expect!["7 in all: 4, 4ms, 7ms, 9.5ms"]);
    }

    #[test]
    fn runs_of_threads_are_told_together() {
        let of = |walls: &[u32]| Samples { walls: walls.iter().map(|&ms| ms * MS).collect(), cpu: 40 * MS };
        // Both have seen the same 40 ms, which went into 40 runs.
        let times = Samples::times(&[of(&[1; 20]), of(&[&[3; 17][..], &[9; 3]].concat())]);
        assert_eq!(times, Times { runs: 40, median: MS, p95: 9 * MS, cpu: MS });
        assert_eq!(Samples::times(&[]), Times::default());
    }

    #[test]
    fn what_fails_ends_it() {
        let mut runs = 0;
        let mut fail = || {
            runs += 1;
            if runs == 4 { Err("broken") } else { Ok(()) }
        };
        assert_eq!(sample(&Effort::runs(9), &Fake::default(), &mut fail), Err("broken"));
        assert_eq!(runs, 4);
    }
}
