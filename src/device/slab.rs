//! The rows of one state tensor, one for each stream of a lane.

use std::cmp::Ordering;

use crate::streams::Slot;

/// Rows grow in steps of this many.
const STEP: usize = 256;

/// State in host memory. A slot whose generation has changed begins anew: nobody else has to reset it. Steps of
/// generation 0, which is nobody's, begin with the initial state and keep none.
#[derive(Debug)]
pub(super) struct Slab {
    rows: Vec<u8>,
    /// The generation that each row belongs to; 0 is nobody's.
    generations: Vec<u64>,
    initial: Vec<u8>,
}

impl Slab {
    pub(super) fn new(initial: Vec<u8>) -> Self {
        Self { rows: Vec::new(), generations: Vec::new(), initial }
    }

    /// Bytes of a row.
    pub(super) fn width(&self) -> usize {
        self.initial.len()
    }

    /// The slot's row, which is the initial state in its generation's first step.
    pub(super) fn row(&mut self, slot: Slot) -> &[u8] {
        if slot.index >= self.generations.len() {
            // The slots are bounded by the model's capacity, and so are the rows.
            let slots = (slot.index + 1).next_multiple_of(STEP);
            self.generations.resize(slots, 0);
            self.rows.resize(slots * self.initial.len(), 0);
        }
        if slot.generation == 0 {
            return &self.initial;
        }
        let width = self.initial.len();
        let row = &mut self.rows[slot.index * width..(slot.index + 1) * width];
        match slot.generation.cmp(&self.generations[slot.index]) {
            // A step of a stream that has ended: it may run, but not in its successor's row.
            Ordering::Less => return &self.initial,
            Ordering::Equal => {}
            Ordering::Greater => {
                self.generations[slot.index] = slot.generation;
                row.copy_from_slice(&self.initial);
            }
        }
        row
    }

    /// Replaces the slot's row, unless it belongs to a later generation by now.
    pub(super) fn store<'a>(&mut self, slot: Slot, chunks: impl Iterator<Item = &'a [u8]>) {
        let width = self.initial.len();
        if slot.generation == 0 || self.generations.get(slot.index) != Some(&slot.generation) {
            return;
        }
        let mut row = &mut self.rows[slot.index * width..(slot.index + 1) * width];
        for chunk in chunks {
            let (head, rest) = row.split_at_mut(chunk.len().min(row.len()));
            head.copy_from_slice(&chunk[..head.len()]);
            row = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_belongs_to_one_generation() {
        let mut slab = Slab::new(vec![7, 7]);
        let slot = |index, generation| Slot { index, generation };
        assert_eq!(slab.row(slot(3, 1)), [7, 7]);
        slab.store(slot(3, 1), [&[1u8][..], &[2]].into_iter());
        assert_eq!(slab.row(slot(3, 1)), [1, 2]);
        assert_eq!(slab.row(slot(300, 1)), [7, 7]);
        assert_eq!(slab.row(slot(3, 1)), [1, 2], "rows stay when the slab grows");
        assert_eq!(slab.row(slot(3, 2)), [7, 7], "a new owner begins anew");
        slab.store(slot(3, 2), [&[3u8, 4][..]].into_iter());
        assert_eq!(slab.row(slot(3, 1)), [7, 7], "a late step of the former owner runs with nobody's state");
        slab.store(slot(3, 1), [&[9u8, 9][..]].into_iter());
        assert_eq!(slab.row(slot(3, 2)), [3, 4], "and its result is lost");

        assert_eq!(slab.row(slot(5, 0)), [7, 7], "nobody's step");
        slab.store(slot(5, 0), [&[9u8, 9][..]].into_iter());
        assert_eq!(slab.row(slot(5, 0)), [7, 7]);
        assert_eq!(slab.row(slot(5, 1)), [7, 7]);
    }
}
