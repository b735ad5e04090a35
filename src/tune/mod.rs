//! How a model had best be run on this machine: its run time by batch size, threads and instances is measured
//! ([`measure`]), what suits is chosen ([`recommend`]) and written into its `model.toml` ([`edit`]).

mod edit;
mod measure;
mod place;
mod recommend;

use std::time::Duration;

pub use edit::{Change, Unwritable, Wanted, edit};
pub use measure::{Instance, layouts, measure, sizes};
pub use place::replace;
pub use recommend::{AS_GOOD, Recommendation, TooSlow, Tuned, recommend};

use crate::check::Times;

/// Who runs a model at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub instances: usize,
    /// Of each instance, inside one operator.
    pub threads: usize,
}

/// How long batches of a size take in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub layout: Layout,
    pub rows: usize,
    pub times: Times,
}

impl Layout {
    pub fn cores(self) -> usize {
        self.instances * self.threads
    }
}

impl Point {
    /// Of all instances together.
    #[allow(clippy::cast_precision_loss, reason = "a rate is rounded")]
    pub fn rows_per_second(&self) -> f64 {
        let rows = (self.rows * self.layout.instances) as f64;
        rows / self.times.median.max(Duration::from_nanos(1)).as_secs_f64()
    }

    /// How long a request may take at the worst, on an instance that takes all that waits: it comes when a full batch
    /// has just been launched, waits until that is done, and goes with the next.
    pub fn worst(&self) -> Duration {
        2 * self.times.p95
    }

    /// Of one row.
    pub fn each(&self, of_a_run: Duration) -> Duration {
        of_a_run / u32::try_from(self.rows).unwrap_or(u32::MAX).max(1)
    }
}

/// Whether something else had the CPUs for more than a tenth of the time: instances with one thread never wait.
pub fn disturbed(points: &[Point]) -> bool {
    let single = || points.iter().filter(|point| point.layout.threads == 1);
    let cpu: Duration = single().map(|point| point.times.cpu).sum();
    let wall: Duration = single().map(|point| point.times.median).sum();
    cpu < wall.mul_f64(0.9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_cpu_is_seen() {
        let point = |threads, median, cpu| {
            let ms = Duration::from_millis;
            let times = Times { runs: 9, median: ms(median), p95: ms(median), cpu: ms(cpu) };
            Point { layout: Layout { instances: 1, threads }, rows: 1, times }
        };
        assert!(!disturbed(&[]));
        assert!(!disturbed(&[point(1, 100, 91), point(2, 100, 20)]));
        assert!(disturbed(&[point(1, 100, 99), point(1, 100, 80)]));
    }
}
