//! Which of the measured points a model should run at: a function of the table and of the bound, and of nothing else.

use std::cmp::Ordering;
use std::time::Duration;

use super::Point;

/// From this part of the most rows a second on, a point is as good as the best: measurements are not better than that.
pub const AS_GOOD: f64 = 0.95;

/// What to run the model with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommendation {
    pub point: Point,
    /// Rows a second in place of what the same instances do with rows one by one, at the size where it is most.
    pub gain: f64,
}

/// A recommendation, or that there is none.
pub type Tuned = Result<Recommendation, TooSlow>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing keeps a latency of {bound:?}: the shortest run takes {:.1?} (p95, {} row(s), {} thread(s)), and a request may have to wait for one before its own",
    shortest.times.p95, shortest.rows, shortest.layout.threads
)]
pub struct TooSlow {
    pub bound: Duration,
    pub shortest: Point,
}

/// The most rows a second within the bound; of points that are as good, the one with the fewest threads in all, then
/// with the smallest batch, then with the fewest instances. `None` if there are no points.
pub fn recommend(points: &[Point], bound: Option<Duration>) -> Option<Tuned> {
    let within: Vec<_> =
        points.iter().filter(|point| bound.is_none_or(|bound| point.worst() <= bound)).collect();
    let Some(best) = within.iter().copied().max_by(by_rate) else {
        let shortest = *points.iter().min_by_key(|point| point.times.p95)?;
        return Some(Err(TooSlow { bound: bound.unwrap_or_default(), shortest }));
    };
    let as_good =
        within.into_iter().filter(|point| point.rows_per_second() >= AS_GOOD * best.rows_per_second());
    let cost = |point: &&Point| (point.layout.cores(), point.rows, point.layout.instances);
    let point = *as_good.min_by_key(cost)?;
    Some(Ok(Recommendation { point, gain: gain(points, &point) }))
}

fn gain(points: &[Point], point: &Point) -> f64 {
    let same = || points.iter().filter(|other| other.layout == point.layout);
    let single = same().find(|other| other.rows == 1);
    let most = same().max_by(by_rate);
    single.zip(most).map_or(1.0, |(single, most)| most.rows_per_second() / single.rows_per_second())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as `max_by` calls it")]
fn by_rate(one: &&Point, other: &&Point) -> Ordering {
    one.rows_per_second().total_cmp(&other.rows_per_second())
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;
    use crate::check::Times;
    use expect_test::{Expect, expect};

    /// `instances x threads: µs of 1 row, 2, 4 …`; p95 is a tenth more than the median.
    fn points(table: &str) -> Vec<Point> {
        let mut points = Vec::new();
        for line in table.trim().lines() {
            let (layout, times) = line.split_once(':').unwrap();
            let (instances, threads) = layout.trim().split_once('x').unwrap();
            let layout = Layout { instances: instances.parse().unwrap(), threads: threads.parse().unwrap() };
            for (index, time) in times.split_whitespace().enumerate() {
                let median = Duration::from_micros(time.parse().unwrap());
                let times = Times { runs: 9, median, p95: median * 11 / 10, cpu: median };
                points.push(Point { layout, rows: 1 << index, times });
            }
        }
        points
    }

    fn check(table: &str, bound_us: u64, expect: Expect) {
        let bound = (bound_us > 0).then(|| Duration::from_micros(bound_us));
        let text = match recommend(&points(table), bound) {
            None => "nothing".to_owned(),
            Some(Err(error)) => error.to_string(),
            Some(Ok(Recommendation { point, gain })) => {
                let Layout { instances, threads } = point.layout;
                let rate = point.rows_per_second();
                format!("{} rows, {instances}x{threads}, {rate:.0} rows/s, gain {gain:.1}", point.rows)
            }
        };
        expect.assert_eq(&text);
    }

    const GAINS: &str = "
        1x1: 100 110 130 170 250
        1x2:  90 100 110 130 170
        2x1: 105 115 140 190 280";

    #[test]
    fn the_most_rows_within_the_bound_are_chosen() {
        check(GAINS, 0, expect!["16 rows, 2x1, 114286 rows/s, gain 6.0"]);
        // A run of 16 rows and the one before it take 616 µs at p95.
        check(GAINS, 616, expect!["16 rows, 2x1, 114286 rows/s, gain 6.0"]);
        check(GAINS, 615, expect!["16 rows, 1x2, 94118 rows/s, gain 8.5"]);
        check(GAINS, 300, expect!["8 rows, 1x2, 61538 rows/s, gain 8.5"]);
        check(GAINS, 220, expect!["2 rows, 1x2, 20000 rows/s, gain 8.5"]);
        check("", 100, expect!["nothing"]);
    }

    #[test]
    fn nothing_may_keep_the_bound() {
        check(
            GAINS,
            197,
            expect![[
                "nothing keeps a latency of 197µs: the shortest run takes 99.0µs (p95, 1 row(s), 2 thread(s)), and a request may have to wait for one before its own"
            ]],
        );
    }

    #[test]
    fn of_what_is_as_good_the_cheapest_is_chosen() {
        // Batches gain nothing, and threads neither.
        check("1x1: 100 200 399\n1x2: 98 196 392", 0, expect!["1 rows, 1x1, 10000 rows/s, gain 1.0"]);
        // The knee: from 4 rows on it is nearly the same.
        check("1x1: 100 120 200 390 770", 0, expect!["4 rows, 1x1, 20000 rows/s, gain 2.1"]);
        // As many threads in all: the smaller batch, then fewer instances.
        check("1x2: 100 150\n2x1: 200 300", 0, expect!["2 rows, 1x2, 13333 rows/s, gain 1.3"]);
        check("2x1: 200 200\n1x2: 100 100", 0, expect!["2 rows, 1x2, 20000 rows/s, gain 2.0"]);
        // 6 % are worth a thread.
        check("1x1: 106\n1x2: 100", 0, expect!["1 rows, 1x2, 10000 rows/s, gain 1.0"]);
        check("1x1: 105\n1x2: 100", 0, expect!["1 rows, 1x1, 9524 rows/s, gain 1.0"]);
    }
}
