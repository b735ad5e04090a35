//! From the probability that something is there, window by window, to when it began and ended.
//!
//! A threshold decides, with hysteresis, as in Silero VAD: [`Events`] tells beginnings and ends as soon as they are
//! known, equal to its `VADIterator`; [`Segments`] tells each stretch once it is final, equal to its
//! `get_speech_timestamps` (without a longest duration).

mod segments;
#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use segments::{Segment, Segments};

use crate::error::{Code, Error, Result};

/// When something counts as there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hysteresis {
    /// At this probability it begins.
    pub threshold: f64,
    /// Below this one it ends; 0.15 less than `threshold` if not given, but 0.01 at least.
    #[serde(default)]
    pub lower_threshold: Option<f64>,
    /// It is left out if it is not longer than this.
    #[serde(default)]
    pub min_speech_ms: u32,
    /// It goes on if it was away for less than this.
    #[serde(default)]
    pub min_silence_ms: u32,
    /// What is told begins earlier and ends later by this.
    #[serde(default)]
    pub speech_pad_ms: u32,
}

impl Hysteresis {
    /// How Silero VAD is used offline; its `VADIterator` has no `min_speech_ms`.
    pub const SILERO: Self = Self {
        threshold: 0.5,
        lower_threshold: None,
        min_speech_ms: 250,
        min_silence_ms: 100,
        speech_pad_ms: 30,
    };

    fn lower(&self) -> f64 {
        self.lower_threshold.unwrap_or_else(|| (self.threshold - 0.15).max(0.01))
    }
}

/// Something began or ended, at a sample of the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Start { at: u64 },
    End { at: u64 },
}

/// Beginnings and ends as they happen.
///
/// What it cannot know is the future. A start is told when the threshold is reached, or with `min_speech_ms` when
/// that much has followed: what is told to start was long enough. An end is told when the silence has lasted
/// `min_silence_ms`, and then lies that far back. Both are padded as if they were alone, and an end may lie
/// after the next start if `speech_pad_ms` is more than half of `min_silence_ms`; [`Segments`] divides such a
/// silence between its neighbours.
#[derive(Debug, Clone)]
pub struct Events {
    rule: Rule,
    /// Where it began and, if it has, where it seems to have ended.
    open: Option<(u64, Option<u64>)>,
    /// The start was told.
    told: bool,
    /// Where the windows so far end.
    length: u64,
    /// And where they ended at the last finish: nothing begins before.
    finished: u64,
}

/// [`Hysteresis`] in samples. What Silero compares with fractions of a sample is rounded so that whole samples
/// compare the same.
#[derive(Debug, Clone, Copy)]
struct Rule {
    upper: f64,
    lower: f64,
    min_speech: u64,
    min_silence: u64,
    pad_before: u64,
    pad_after: u64,
    /// A silence that is shorter is less than the padding on both its sides.
    pads: u64,
}

impl Rule {
    fn new(hysteresis: &Hysteresis, sample_rate: u32) -> Result<Self> {
        let (upper, lower) = (hysteresis.threshold, hysteresis.lower());
        if !(0.0..=1.0).contains(&upper) || !(0.0..=upper).contains(&lower) {
            let message = format!(
                "threshold must be 0 to 1 and lower_threshold no higher than it, not {upper} and {lower}"
            );
            return Err(Error::new(Code::UnsupportedParameter, message));
        }
        let thousandths = |ms: u32| u64::from(ms) * u64::from(sample_rate);
        let (pad, silence) = (thousandths(hysteresis.speech_pad_ms), thousandths(hysteresis.min_silence_ms));
        Ok(Self {
            upper,
            lower,
            min_speech: thousandths(hysteresis.min_speech_ms) / 1000,
            min_silence: silence.div_ceil(1000),
            pad_before: pad.div_ceil(1000),
            pad_after: pad / 1000,
            pads: pad.div_ceil(500),
        })
    }
}

impl Events {
    pub fn new(hysteresis: &Hysteresis, sample_rate: u32) -> Result<Self> {
        Ok(Self {
            rule: Rule::new(hysteresis, sample_rate)?,
            open: None,
            told: false,
            length: 0,
            finished: 0,
        })
    }

    /// Takes the probability of the next window, in their order; one that is not a number changes nothing.
    pub fn step(&mut self, probability: f32, window: Range<u64>) -> SmallVec<[Event; 2]> {
        let mut events = self.edges(probability, window);
        for event in &mut events {
            *event = match *event {
                Event::Start { at } => Event::Start { at: self.padded(at) },
                Event::End { at } => Event::End { at: at + self.rule.pad_after },
            };
        }
        events
    }

    /// Ends what is still there at the end of the signal; a new stretch can begin after it.
    pub fn finish(&mut self) -> SmallVec<[Event; 2]> {
        let mut events = self.finish_edges();
        if let Some(Event::Start { at }) = events.first_mut() {
            *at = self.padded(*at);
        }
        self.finished = self.length;
        events
    }

    /// Forgets the signal so far.
    pub fn reset(&mut self) {
        (self.open, self.told, self.length, self.finished) = (None, false, 0, 0);
    }

    /// The start, earlier by the padding, if there is as much of the signal.
    fn padded(&self, start: u64) -> u64 {
        start.saturating_sub(self.rule.pad_before).max(self.finished)
    }

    /// `step` without padding.
    fn edges(&mut self, probability: f32, window: Range<u64>) -> SmallVec<[Event; 2]> {
        self.length = window.end;
        let probability = f64::from(probability);
        let (start, ended) = match self.open {
            _ if probability >= self.rule.upper => (self.open.map_or(window.start, |(start, _)| start), None),
            None => return SmallVec::new(),
            Some((start, ended)) if probability < self.rule.lower => {
                let end = ended.unwrap_or(window.start);
                if window.start.saturating_sub(end) >= self.rule.min_silence {
                    return self.close(start, end);
                }
                (start, Some(end))
            }
            Some(open) => open,
        };
        self.open = Some((start, ended));
        // Whatever comes next, the end is later than this window's start.
        if !self.told && ended.is_none() && window.start.saturating_sub(start) >= self.rule.min_speech {
            self.told = true;
            return SmallVec::from_slice(&[Event::Start { at: start }]);
        }
        SmallVec::new()
    }

    /// `finish` without padding.
    fn finish_edges(&mut self) -> SmallVec<[Event; 2]> {
        match self.open {
            Some((start, _)) => self.close(start, self.length),
            None => SmallVec::new(),
        }
    }

    fn close(&mut self, start: u64, end: u64) -> SmallVec<[Event; 2]> {
        self.open = None;
        let mut events = SmallVec::new();
        if !std::mem::take(&mut self.told) {
            if end.saturating_sub(start) <= self.rule.min_speech {
                return events;
            }
            events.push(Event::Start { at: start });
        }
        events.push(Event::End { at: end });
        events
    }
}
