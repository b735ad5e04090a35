//! The largest load that still holds: upwards by halves until one does not, then between.

/// A search, which is told of each value that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    next: f64,
    held: f64,
    too_many: Option<f64>,
    /// The answer is known when what is between is less than this part of it.
    precision: f64,
    /// What is searched for is a number of things.
    whole: bool,
}

/// A server that holds whatever the client can do is not searched for ever.
const MOST: f64 = 1e7;

impl Search {
    pub fn new(first: f64, precision: f64, whole: bool) -> Self {
        Self { next: first, held: 0.0, too_many: None, precision: precision.max(1e-4), whole }
    }

    /// What to try next, or `None` if the answer is known.
    pub fn next(&self) -> Option<f64> {
        let Some(too_many) = self.too_many else { return (self.held < MOST).then_some(self.next) };
        let least = if self.whole { 1.0 } else { 0.0 };
        let gap = (too_many * self.precision).max(least);
        (too_many - self.held > gap).then_some(self.next)
    }

    /// Whether the value that was tried holds.
    pub fn tell(&mut self, holds: bool) {
        if holds {
            self.held = self.next;
        } else {
            self.too_many = Some(self.next);
        }
        let next = match self.too_many {
            None => self.held * 1.5,
            Some(too_many) => f64::midpoint(self.held, too_many),
        };
        self.next = if self.whole { next.floor().max(self.held + 1.0) } else { next };
    }

    /// The largest value that held; nothing did if it is zero.
    pub fn held(&self) -> f64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Searches where all up to `limit` holds; what is tried, and the answer.
    fn check(first: f64, precision: f64, whole: bool, limit: f64, expect: Expect) {
        let mut search = Search::new(first, precision, whole);
        let mut tried = Vec::new();
        while let Some(next) = search.next() {
            tried.push(next);
            search.tell(next <= limit);
            assert!(tried.len() < 100, "{tried:?}");
        }
        let held = search.held();
        assert!(held <= limit && (held >= limit * (1.0 - 2.0 * precision) - 1.0 || limit > MOST), "{held}");
        expect.assert_eq(&format!("{tried:?}: {held}"));
    }

    #[test]
    fn it_goes_up_and_then_between() {
        check(
            200.0,
            0.02,
            true,
            416.0,
            expect!["[200.0, 300.0, 450.0, 375.0, 412.0, 431.0, 421.0, 416.0]: 416"],
        );
        check(100.0, 0.1, false, 30.0, expect!["[100.0, 50.0, 25.0, 37.5, 31.25, 28.125]: 28.125"]);
        check(
            1000.0,
            0.05,
            false,
            1000.0,
            expect!["[1000.0, 1500.0, 1250.0, 1125.0, 1062.5, 1031.25]: 1000"],
        );
    }

    #[test]
    fn it_ends() {
        check(1.0, 0.02, true, 0.0, expect!["[1.0]: 0"]);
        check(1.0, 0.02, true, 3.0, expect!["[1.0, 2.0, 3.0, 4.0]: 3"]);
        check(
            1e6,
            0.02,
            false,
            f64::INFINITY,
            expect![
                "[1000000.0, 1500000.0, 2250000.0, 3375000.0, 5062500.0, 7593750.0, 11390625.0]: 11390625"
            ],
        );
    }
}
