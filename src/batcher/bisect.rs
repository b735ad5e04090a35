//! What to do when a batch fails: run its halves again, until only those requests fail that fail alone.

use smallvec::{SmallVec, smallvec};

/// The parts of a batch that are still to run, in order.
///
/// ```
/// # let (batch, run) = (vec![7, 0, 9], |part: &[i32]| part.iter().map(|n| 63_i32.checked_div(*n)).collect());
/// let mut answers = Vec::new();
/// let mut parts = thalweg::batcher::Bisect::new(batch);
/// while let Some(part) = parts.next() {
///     let output: Option<Vec<i32>> = run(&part);
///     match output {
///         Some(output) => answers.extend(part.into_iter().zip(output.into_iter().map(Some))),
///         None => answers.extend(parts.failed(part).map(|culprit| (culprit, None))),
///     }
/// }
/// assert_eq!(answers, [(7, Some(9)), (0, None), (9, Some(7))]);
/// ```
///
/// Whoever runs a part owns its requests, and gives them back only by [`failed`](Bisect::failed): none can be
/// answered twice. One culprit among `n` costs about `2 log2 n` runs, a model that fails always `2 n - 1`; a lane
/// that knows its engine to be dead stops early and fails what the iterator still holds.
pub struct Bisect<T> {
    /// The next part is the last. Sizes halve on the way there: never more than `log2 n + 2` parts.
    parts: SmallVec<[Vec<T>; 1]>,
}

impl<T> Bisect<T> {
    pub fn new(batch: Vec<T>) -> Self {
        Self { parts: smallvec![batch] }
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes back a part that failed, to run its halves; if it was a single request, that is returned instead,
    /// and the error is its own.
    pub fn failed(&mut self, mut part: Vec<T>) -> Option<T> {
        if part.len() > 1 {
            let rest = part.split_off(part.len() / 2);
            self.parts.push(rest);
            self.parts.push(part);
            return None;
        }
        part.pop()
    }
}

/// Of no batch: there is nothing to run.
impl<T> Default for Bisect<T> {
    fn default() -> Self {
        Self { parts: SmallVec::new() }
    }
}

impl<T> Iterator for Bisect<T> {
    type Item = Vec<T>;

    fn next(&mut self) -> Option<Vec<T>> {
        self.parts.pop()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Upper-case requests are poisonous.
    fn check(batch: &str, expect: Expect) {
        let fails = |part: &[char]| part.iter().any(|c| c.is_uppercase());
        let mut parts = Bisect::new(batch.chars().collect());
        let mut log = String::new();
        let mut runs = 0;
        while let Some(part) = parts.next() {
            runs += 1;
            if !fails(&part) {
                log.extend(part.iter().chain(&[' ']));
            } else if let Some(culprit) = parts.failed(part) {
                log.extend([culprit, '!', ' ']);
            }
        }
        expect.assert_eq(&format!("{log}in {runs}"));
    }

    #[test]
    fn only_the_culprits_fail() {
        check("a", expect!["a in 1"]);
        check("A", expect!["A! in 1"]);
        check("abcd", expect!["abcd in 1"]);
        check("abCd", expect!["ab C! d in 5"]);
        check("Abcdefgh", expect!["A! b cd efgh in 7"]);
        check("abcdeFg", expect!["abc de F! g in 7"]);
        check("AbcdefgH", expect!["A! b cd ef g H! in 11"]);
        check("ABCDE", expect!["A! B! C! D! E! in 9"]);
    }

    #[test]
    fn a_lane_that_gives_up_finds_the_rest() {
        let mut parts = Bisect::new((0..8).collect::<Vec<_>>());
        for _ in 0..3 {
            let part = parts.next().unwrap();
            assert_eq!(parts.failed(part), None);
        }
        assert_eq!(parts.flatten().collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }
}
