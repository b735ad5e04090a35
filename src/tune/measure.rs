//! What is measured: all instances of a layout at work at the same time, layout by layout and size by size.

use std::sync::Barrier;

use super::{Layout, Point};
use crate::check::{Effort, Samples, Watch, sample};

/// Runs a batch of so many rows.
pub type Instance<'a> = Box<dyn FnMut(usize) -> Result<(), String> + Send + 'a>;

/// One instance by itself with 1, 2, 4 … threads, and as many with so many threads each as fill the machine.
pub fn layouts(cpus: usize) -> Vec<Layout> {
    let threads = sizes(cpus);
    let alone = threads.iter().map(|&threads| Layout { instances: 1, threads });
    let full = threads.iter().map(|&threads| Layout { instances: cpus / threads, threads });
    alone.chain(full.filter(|layout| layout.instances > 1)).collect()
}

/// 1, 2, 4 … and the last.
pub fn sizes(last: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1usize), |size| size.checked_mul(2));
    powers.take_while(|&size| size < last).chain([last.max(1)]).collect()
}

/// Measures each batch size in each layout. `start` makes the instances of a layout; `tell` hears of each point as it is there.
pub fn measure<'a>(
    layouts: &[Layout],
    batch_sizes: &[usize],
    effort: &Effort,
    watch: &dyn Watch,
    mut start: impl FnMut(Layout) -> Result<Vec<Instance<'a>>, String>,
    mut tell: impl FnMut(&Point),
) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for &layout in layouts {
        let mut instances = start(layout)?;
        for &rows in batch_sizes {
            let samples = together(&mut instances, rows, effort, watch)?;
            let point = Point { layout, rows, times: Samples::times(&samples) };
            tell(&point);
            points.push(point);
        }
    }
    Ok(points)
}

/// All instances run batches of a size at the same time, each on a thread of its own.
fn together(
    instances: &mut [Instance<'_>],
    rows: usize,
    effort: &Effort,
    watch: &dyn Watch,
) -> Result<Vec<Samples>, String> {
    let begin = Barrier::new(instances.len());
    std::thread::scope(|scope| {
        let begin = &begin;
        let run = |instance: &mut Instance<'_>| {
            begin.wait();
            sample(effort, watch, || instance(rows))
        };
        let threads: Vec<_> =
            instances.iter_mut().map(|instance| scope.spawn(move || run(instance))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        let ended = ended
            .map(|ended| ended.unwrap_or_else(|_| Err("a thread that measured has panicked".to_owned())));
        ended.collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::clock::Time;

    #[derive(Default)]
    struct Fake(AtomicU64);

    impl Watch for Fake {
        fn now(&self) -> Time {
            Time::from_nanos(self.0.load(Relaxed))
        }

        fn cpu(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn check(cpus: usize, expect: Expect) {
        let shown = layouts(cpus)
            .iter()
            .map(|layout| format!("{}x{}", layout.instances, layout.threads))
            .collect::<Vec<_>>();
        expect.assert_eq(&shown.join(" "));
    }

    #[test]
    fn the_machine_is_filled_in_each_way() {
        check(1, expect!["1x1"]);
        check(2, expect!["1x1 1x2 2x1"]);
        check(6, expect!["1x1 1x2 1x4 1x6 6x1 3x2"]);
        check(8, expect!["1x1 1x2 1x4 1x8 8x1 4x2 2x4"]);
    }

    #[test]
    fn sizes_are_powers_of_two_and_the_last() {
        assert_eq!(
            [0, 1, 2, 3, 16, 20].map(sizes),
            [vec![1], vec![1], vec![1, 2], vec![1, 2, 3], vec![1, 2, 4, 8, 16], vec![1, 2, 4, 8, 16, 20]]
        );
    }

    #[test]
    fn each_size_runs_in_each_layout() {
        let watch = Fake::default();
        // A run takes 100 µs and 10 µs a row, shared by threads.
        let start = |layout: Layout| -> Result<Vec<Instance<'_>>, String> {
            let watch = &watch;
            let run = move |rows: usize| {
                watch.0.fetch_add((100_000 + 10_000 * rows as u64) / layout.threads as u64, Relaxed);
                Ok(())
            };
            Ok((0..layout.instances).map(|_| Box::new(run) as Instance<'_>).collect())
        };
        let mut told = 0;
        let of = |instances, threads| Layout { instances, threads };
        let points = measure(&[of(1, 1), of(1, 2)], &[1, 10], &Effort::runs(5), &watch, start, |_| told += 1);
        let shown = points
            .unwrap()
            .iter()
            .map(|point| {
                format!(
                    "{} rows {:?} {:.0} rows/s\n",
                    point.rows,
                    point.times.median,
                    point.rows_per_second()
                )
            })
            .collect::<String>();
        expect![[r"
            1 rows 110µs 9091 rows/s
            10 rows 200µs 50000 rows/s
            1 rows 55µs 18182 rows/s
            10 rows 100µs 100000 rows/s
        "]]
        .assert_eq(&shown);
        assert_eq!(told, 4);
        // Of several threads, whose times are no longer known, each has its runs.
        let points = measure(&[of(3, 1)], &[1], &Effort::runs(5), &watch, start, |_| {}).unwrap();
        assert_eq!(points[0].times.runs, 15);
    }

    #[test]
    fn instances_run_at_the_same_time() {
        let both = Barrier::new(2);
        let start = |layout: Layout| -> Result<Vec<Instance<'_>>, String> {
            // Each run waits for one of the other instance, for ever if need be.
            let run = |_| {
                both.wait();
                Ok(())
            };
            Ok((0..layout.instances).map(|_| Box::new(run) as Instance<'_>).collect())
        };
        let layout = Layout { instances: 2, threads: 1 };
        let points = measure(&[layout], &[1], &Effort::runs(5), &Fake::default(), start, |_| {}).unwrap();
        assert_eq!(points[0].times.runs, 10);
    }

    #[test]
    fn what_fails_in_one_instance_is_told() {
        let start = |_| -> Result<Vec<Instance<'_>>, String> {
            Ok(vec![Box::new(|_| Ok(())), Box::new(|rows| Err(format!("{rows} rows are too many")))])
        };
        let layout = Layout { instances: 2, threads: 1 };
        let ended = measure(&[layout], &[4], &Effort::runs(2), &Fake::default(), start, |_| {});
        assert_eq!(ended, Err("4 rows are too many".to_owned()));
    }
}
