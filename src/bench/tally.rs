//! What one thread has seen: counts, latencies, and a line for each second.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use crate::clock::Time;

/// The part of a step that is measured: from the end of the warm-up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Time,
    pub until: Time,
}

impl Span {
    pub fn contains(&self, time: Time) -> bool {
        self.from <= time && time < self.until
    }

    pub fn length(&self) -> Duration {
        self.until - self.from
    }
}

/// The code of an answer whose value is not the reference's.
pub const WRONG_VALUE: &str = "wrong_value";

/// Error codes that are told apart; a server that invents more is counted as one.
const CODES: usize = 64;
/// Seconds that have a line of their own: a day.
const SECONDS: usize = 86_400;
/// Latencies are told up to here, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Counts of requests that were scheduled in the span, and their latencies. What is wrong is counted whenever it was.
#[derive(Debug, Clone)]
pub struct Tally {
    pub span: Span,
    /// All of them are in one of the next three.
    pub requests: u64,
    pub succeeded: u64,
    pub failed: BTreeMap<String, u64>,
    /// Not answered in time, or not even sent.
    pub lost: u64,
    /// Those of the lost that waited in the client for room until the end.
    pub unsent: u64,
    /// Overtaken by a later answer of their connection; they are among those above as well.
    pub out_of_order: u64,
    pub wrong_values: u64,
    /// Answers to nothing, or that look like no answer.
    pub strange: u64,
    /// Connections that ended before their time, by the reason.
    pub broken: BTreeMap<String, u64>,
    /// Successes that came within the span, whenever they were asked for.
    pub in_time: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Of successes, and of what was lost as long as it was waited for; in microseconds.
    pub latency: Histogram<u64>,
    /// How much later than scheduled the client sent, though it had room.
    pub lateness: Histogram<u64>,
    pub seconds: Vec<Second>,
    quiet: Second,
    /// One of the things that were wrong, in full.
    pub example: Option<String>,
}

/// Answers that came in one second of the span.
#[derive(Debug, Clone)]
pub struct Second {
    pub answers: u64,
    pub failed: u64,
    pub latency: Histogram<u32>,
}

/// A duration as histograms take it: at least a microsecond.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST)
}

impl Tally {
    pub fn new(span: Span) -> Result<Self, CreationError> {
        let latency = Histogram::new_with_bounds(1, LONGEST, 3)?;
        let latencies = Histogram::new_with_bounds(1, LONGEST, 2)?;
        Ok(Self {
            span,
            requests: 0,
            succeeded: 0,
            failed: BTreeMap::new(),
            lost: 0,
            unsent: 0,
            out_of_order: 0,
            wrong_values: 0,
            strange: 0,
            broken: BTreeMap::new(),
            in_time: 0,
            sent_bytes: 0,
            received_bytes: 0,
            lateness: latency.clone(),
            latency,
            seconds: Vec::new(),
            quiet: Second { answers: 0, failed: 0, latency: latencies },
            example: None,
        })
    }

    /// A result that is as it should be.
    pub fn success(&mut self, scheduled: Time, now: Time) {
        let latency = micros(now.since(scheduled));
        if self.span.contains(scheduled) {
            self.succeeded += 1;
            self.latency.saturating_record(latency);
        }
        if self.span.contains(now) {
            self.in_time += 1;
            if let Some(second) = self.second(now) {
                second.answers += 1;
                second.latency.saturating_record(latency);
            }
        }
    }

    pub fn failure(&mut self, code: &str, scheduled: Time, now: Time, answer: &[u8]) {
        if self.span.contains(scheduled) {
            count(&mut self.failed, code);
        }
        if self.span.contains(now)
            && let Some(second) = self.second(now)
        {
            second.failed += 1;
        }
        self.show(&format!("answered with the error {code}"), answer);
    }

    /// A request that was given up at `end`.
    pub fn lose(&mut self, scheduled: Time, end: Time, sent: bool) {
        if self.span.contains(scheduled) {
            self.lost += 1;
            self.unsent += u64::from(!sent);
            self.latency.saturating_record(micros(end.since(scheduled)));
        }
    }

    pub fn sent(&mut self, scheduled: Time, lateness: Duration) {
        if self.span.contains(scheduled) {
            self.lateness.saturating_record(micros(lateness));
        }
    }

    /// Keeps the first thing that was wrong.
    pub fn show(&mut self, what: &str, answer: &[u8]) {
        if self.example.is_none() {
            let text = String::from_utf8_lossy(answer.get(..400).unwrap_or(answer));
            self.example = Some(format!("{what}: {text}"));
        }
    }

    pub fn broke(&mut self, reason: &str) {
        count(&mut self.broken, reason);
    }

    /// Answers that were wrong, whenever they came.
    pub fn wrong(&self) -> u64 {
        self.out_of_order + self.wrong_values + self.strange
    }

    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn second(&mut self, now: Time) -> Option<&mut Second> {
        let at = usize::try_from(now.since(self.span.from).as_secs()).ok().filter(|at| *at < SECONDS)?;
        if self.seconds.len() <= at {
            self.seconds.resize(at + 1, self.quiet.clone());
        }
        self.seconds.get_mut(at)
    }

    /// Adds what another thread has seen of the same span.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.succeeded += other.succeeded;
        for (mine, others) in [(&mut self.failed, &other.failed), (&mut self.broken, &other.broken)] {
            others.iter().for_each(|(key, count)| *mine.entry(key.clone()).or_default() += count);
        }
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.out_of_order += other.out_of_order;
        self.wrong_values += other.wrong_values;
        self.strange += other.strange;
        self.in_time += other.in_time;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        // All have the same bounds, so that nothing is refused.
        let _ = self.latency.add(&other.latency);
        let _ = self.lateness.add(&other.lateness);
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), self.quiet.clone());
        }
        for (mine, other) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.answers += other.answers;
            mine.failed += other.failed;
            let _ = mine.latency.add(&other.latency);
        }
        if self.example.is_none() {
            self.example.clone_from(&other.example);
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, key: &str) {
    let room = counts.len() < CODES || counts.contains_key(key);
    *counts.entry(if room { key } else { "others" }.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn ms(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn check(fill: impl Fn(&mut Tally), expect: Expect) {
        let mut tally = Tally::new(Span { from: ms(1000), until: ms(3000) }).unwrap();
        fill(&mut tally);
        let seconds: Vec<_> = tally.seconds.iter().map(|second| (second.answers, second.failed)).collect();
        let Tally { succeeded, failed, lost, in_time, latency, .. } = tally;
        let max = latency.max() / 1000;
        expect.assert_eq(&format!("{succeeded} {failed:?} {lost}, {in_time} in time, {max} ms, {seconds:?}"));
    }

    #[test]
    fn a_request_belongs_to_the_span_by_its_schedule_and_an_answer_by_when_it_came() {
        check(|tally| tally.success(ms(999), ms(1000)), expect!["0 {} 0, 1 in time, 0 ms, [(1, 0)]"]);
        check(
            |tally| tally.success(ms(1000), ms(2500)),
            expect!["1 {} 0, 1 in time, 1500 ms, [(0, 0), (1, 0)]"],
        );
        check(|tally| tally.success(ms(2999), ms(3100)), expect!["1 {} 0, 0 in time, 101 ms, []"]);
        check(|tally| tally.success(ms(3000), ms(3100)), expect!["0 {} 0, 0 in time, 0 ms, []"]);
        check(
            |tally| tally.failure("queue_full", ms(1000), ms(1001), b"{}"),
            expect![[r#"0 {"queue_full": 1} 0, 0 in time, 0 ms, [(0, 1)]"#]],
        );
    }

    #[test]
    fn what_is_lost_is_among_the_latencies() {
        check(|tally| tally.lose(ms(1000), ms(5000), true), expect!["0 {} 1, 0 in time, 4001 ms, []"]);
    }

    #[test]
    fn threads_add_up() {
        let fill = |tally: &mut Tally| {
            tally.success(ms(1000), ms(2500));
            tally.failure("a", ms(1000), ms(1500), b"");
            tally.lose(ms(1000), ms(2000), false);
        };
        check(
            |tally| {
                fill(tally);
                let mut other = Tally::new(tally.span).unwrap();
                fill(&mut other);
                other.success(ms(1000), ms(1001));
                tally.merge(&other);
            },
            expect![[r#"3 {"a": 2} 2, 3 in time, 1500 ms, [(1, 2), (2, 0)]"#]],
        );
    }

    #[test]
    fn codes_are_bounded() {
        let mut counts = BTreeMap::new();
        (0..1000).for_each(|code| count(&mut counts, &code.to_string()));
        assert_eq!((counts.len(), counts.get("others")), (CODES + 1, Some(&(1000 - CODES as u64))));
    }
}
