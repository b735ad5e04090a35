//! Stretches of a signal, once they are final.

use std::ops::Range;

use smallvec::SmallVec;

use super::{Event, Events, Hysteresis, Rule};
use crate::error::Result;

/// Something was there from one sample to another.
pub type Segment = Range<u64>;

/// Stretches, each told once nothing can change it.
///
/// That is when as much silence has followed as the padding on both its sides, or when the next stretch is known
/// to be one: the silence between them is divided if it is too short for the padding of both.
#[derive(Debug, Clone)]
pub struct Segments {
    events: Events,
    /// Where the one that is going on begins, padded.
    open: Option<u64>,
    /// One whose end is not padded yet.
    held: Option<Segment>,
}

impl Segments {
    pub fn new(hysteresis: &Hysteresis, sample_rate: u32) -> Result<Self> {
        Ok(Self { events: Events::new(hysteresis, sample_rate)?, open: None, held: None })
    }

    /// Takes the next window's probability, and gives what became final by it.
    pub fn step(&mut self, probability: f32, window: Range<u64>) -> Option<Segment> {
        let now = window.start;
        let edges = self.events.edges(probability, window);
        let settled = self.take(edges);
        let Rule { pads, pad_after, .. } = self.events.rule;
        settled.or_else(|| {
            let alone = |held: &mut Segment| now.saturating_sub(held.end) >= pads;
            let nothing_new = self.events.open.is_none();
            self.held.take_if(|held| nothing_new && alone(held)).map(|held| held.start..held.end + pad_after)
        })
    }

    /// What remains at the end of the signal; a new stretch can begin after it.
    pub fn finish(&mut self) -> SmallVec<[Segment; 2]> {
        let edges = self.events.finish_edges();
        let mut segments: SmallVec<_> = self.take(edges).into_iter().collect();
        let (pad, length) = (self.events.rule.pad_after, self.events.length);
        segments.extend(self.held.take().map(|held| held.start..length.min(held.end + pad)));
        self.events.finished = length;
        segments
    }

    /// Forgets the signal so far.
    pub fn reset(&mut self) {
        self.events.reset();
        (self.open, self.held) = (None, None);
    }

    /// A start settles where the one before it ends.
    fn take(&mut self, edges: SmallVec<[Event; 2]>) -> Option<Segment> {
        let Rule { pads, pad_after, .. } = self.events.rule;
        let mut settled = None;
        for edge in edges {
            match edge {
                Event::Start { at } => {
                    let mut start = self.events.padded(at);
                    settled = self.held.take().map(|held| {
                        let silence = at.saturating_sub(held.end);
                        let mut after = pad_after;
                        if silence < pads {
                            (start, after) = (at - silence / 2, silence / 2);
                        }
                        held.start..held.end + after
                    });
                    self.open = Some(start);
                }
                Event::End { at } => self.held = self.open.take().map(|start| start..at),
            }
        }
        settled
    }
}
