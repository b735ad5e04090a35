//! How long a client may take for what it has begun, and how long it may stay: policy, stepped with `now`.

use std::time::Duration;

use crate::clock::Time;

/// The time between the announcement of a connection's end by age and the end, at most.
const NOTICE: Duration = Duration::from_secs(30);

/// Times of a connection; zero: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patience {
    /// From the first byte of a message to its last.
    pub read: Duration,
    /// For a client to take what is sent at once: an answer, or several.
    pub write: Duration,
    /// From the handshake on.
    pub age: Duration,
}

/// What is under way, each under a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begun {
    /// A message that is being read and not complete.
    pub message: Option<u64>,
    /// Something that is being sent and not taken.
    pub answer: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tell the client that it will be let go.
    Warn(Duration),
    /// It has been here for long enough.
    Old,
    /// Its message did not come in time.
    SlowMessage,
    /// It did not take in time what was sent.
    SlowReader,
}

/// The deadlines of one connection.
#[derive(Debug)]
pub struct Deadlines {
    patience: Patience,
    message: Deadline,
    answer: Deadline,
    /// What comes next of a connection's age, and when.
    age: Option<(Time, Verdict)>,
}

#[derive(Debug, Default)]
struct Deadline {
    of: Option<u64>,
    at: Option<Time>,
}

impl Deadline {
    fn set(&mut self, of: Option<u64>, now: Time, limit: Duration) {
        if self.of != of {
            self.of = of;
            self.at = (of.is_some() && !limit.is_zero()).then_some(now + limit);
        }
    }

    /// Whether it has passed; it does so once.
    fn take(&mut self, now: Time) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }
}

impl Deadlines {
    pub fn new(patience: Patience, now: Time) -> Self {
        let notice = NOTICE.min(patience.age / 2);
        let warning = (now + (patience.age - notice), Verdict::Warn(notice));
        let age = (!patience.age.is_zero()).then_some(warning);
        Self { patience, message: Deadline::default(), answer: Deadline::default(), age }
    }

    /// Takes note of what is under way, and says what has passed.
    pub fn step(&mut self, now: Time, begun: Begun) -> Option<Verdict> {
        self.message.set(begun.message, now, self.patience.read);
        self.answer.set(begun.answer, now, self.patience.write);
        if self.answer.take(now) {
            return Some(Verdict::SlowReader);
        }
        if self.message.take(now) {
            return Some(Verdict::SlowMessage);
        }
        let (at, verdict) = self.age.take_if(|(at, _)| *at <= now)?;
        if let Verdict::Warn(left) = verdict {
            self.age = Some((at + left, Verdict::Old));
        }
        Some(verdict)
    }

    /// When the next of them passes, if nothing changes.
    pub fn next(&self) -> Option<Time> {
        let age = self.age.map(|(at, _)| at);
        [self.message.at, self.answer.at, age].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    fn second(second: u64) -> Time {
        Time::from_nanos(second * 1_000_000_000)
    }

    /// Steps at the seconds given, with a message and an answer under way, and tells the verdict and the next time.
    fn check(patience: [u64; 3], steps: &[(u64, Option<u64>, Option<u64>)], expect: Expect) {
        let [read, write, age] = patience.map(Duration::from_secs);
        let mut deadlines = Deadlines::new(Patience { read, write, age }, second(0));
        let mut told = String::new();
        for &(at, message, answer) in steps {
            let verdict = deadlines.step(second(at), Begun { message, answer });
            let next = deadlines.next().map(|time| time.as_nanos() / 1_000_000_000);
            writeln!(told, "{at}: {verdict:?}, next {next:?}").unwrap();
        }
        expect.assert_eq(&told);
    }

    #[test]
    fn a_message_has_its_time_from_its_first_byte() {
        let steps = [(5, Some(0), None), (9, Some(0), None), (15, Some(0), None), (16, Some(0), None)];
        let slow = expect![[r"
            5: None, next Some(15)
            9: None, next Some(15)
            15: Some(SlowMessage), next None
            16: None, next None
        "]];
        check([10, 0, 0], &steps, slow);
        let one_by_one = expect![[r"
            5: None, next Some(15)
            14: None, next Some(24)
            16: None, next None
            30: None, next Some(40)
        "]];
        check(
            [10, 0, 0],
            &[(5, Some(0), None), (14, Some(1), None), (16, None, None), (30, Some(1), None)],
            one_by_one,
        );
    }

    #[test]
    fn an_answer_must_be_taken_whole() {
        let steps = [(1, None, Some(1)), (15, None, Some(1)), (21, None, Some(1))];
        let slow = expect![[r"
            1: None, next Some(21)
            15: None, next Some(21)
            21: Some(SlowReader), next None
        "]];
        check([10, 20, 0], &steps, slow);
        let fast = expect![[r"
            1: None, next Some(21)
            20: None, next Some(40)
        "]];
        check([10, 20, 0], &[(1, None, Some(1)), (20, None, Some(2))], fast);
    }

    #[test]
    fn the_end_by_age_is_announced() {
        let steps =
            [(0, None, None), (70, None, None), (99, None, None), (100, None, None), (200, None, None)];
        let long = expect![[r"
            0: None, next Some(70)
            70: Some(Warn(30s)), next Some(100)
            99: None, next Some(100)
            100: Some(Old), next None
            200: None, next None
        "]];
        check([0, 0, 100], &steps, long);
        let short = expect![[r"
            5: Some(Warn(5s)), next Some(10)
            10: Some(Old), next None
        "]];
        check([0, 0, 10], &[(5, None, None), (10, None, None)], short);
    }

    #[test]
    fn zeros_are_for_ever() {
        let steps = [(0, Some(1), Some(1)), (1 << 30, Some(1), Some(1))];
        let ever = expect![[r"
            0: None, next None
            1073741824: None, next None
        "]];
        check([0, 0, 0], &steps, ever);
    }
}
