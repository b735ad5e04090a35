//! The rows of one state tensor, one for each stream of a lane.

use crate::streams::Slot;

/// Rows grow in steps of this many.
const STEP: usize = 256;

/// State in host memory. A generation's first step begins with the initial state: nobody has to reset a row. Steps of
/// generation 0, which is nobody's, keep none.
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

    /// Whether the row is there that this step needs.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        !slot.begun || self.generations.get(slot.index) == Some(&slot.generation)
    }

    /// The step's row: the initial state in its generation's first step; `None` if it was lost.
    pub(super) fn row(&self, slot: Slot) -> Option<&[u8]> {
        if !slot.begun {
            return Some(&self.initial);
        }
        let width = self.initial.len();
        self.holds(slot).then(|| self.rows.get(slot.index * width..(slot.index + 1) * width))?
    }

    /// Replaces the slot's row, unless it belongs to a later generation by now.
    pub(super) fn store<'a>(&mut self, slot: Slot, chunks: impl Iterator<Item = &'a [u8]>) {
        let known = self.generations.get(slot.index).copied().unwrap_or(0);
        if slot.generation == 0 || known > slot.generation {
            return;
        }
        if slot.index >= self.generations.len() {
            // The slots are bounded by the model's capacity, and so are the rows.
            let slots = (slot.index + 1).next_multiple_of(STEP);
            self.generations.resize(slots, 0);
            self.rows.resize(slots * self.initial.len(), 0);
        }
        self.generations[slot.index] = slot.generation;
        let width = self.initial.len();
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
        let first = |index, generation| Slot { index, generation, begun: false };
        let later = |index, generation| Slot { index, generation, begun: true };
        assert_eq!(slab.row(first(3, 1)), Some(&[7, 7][..]));
        slab.store(first(3, 1), [&[1u8][..], &[2]].into_iter());
        assert_eq!(slab.row(later(3, 1)), Some(&[1, 2][..]));
        slab.store(first(300, 1), [&[5u8, 5][..]].into_iter());
        assert_eq!(slab.row(later(3, 1)), Some(&[1, 2][..]), "rows stay when the slab grows");
        assert_eq!(slab.row(first(3, 2)), Some(&[7, 7][..]), "a new owner begins anew");
        slab.store(first(3, 2), [&[3u8, 4][..]].into_iter());
        assert_eq!(slab.row(later(3, 1)), None, "a late step of the former owner has nobody's state");
        slab.store(later(3, 1), [&[9u8, 9][..]].into_iter());
        assert_eq!(slab.row(later(3, 2)), Some(&[3, 4][..]), "and its result is lost");
        assert_eq!(Slab::new(vec![7, 7]).row(later(3, 2)), None, "the state was lost with its lane");

        assert_eq!(slab.row(Slot::NOBODYS), Some(&[7, 7][..]));
        slab.store(Slot::NOBODYS, [&[9u8, 9][..]].into_iter());
        assert_eq!(slab.row(later(0, 1)), None);
    }
}
