//! Whose rows a device's state holds.

use crate::streams::Slot;

/// Where one step finds its state and leaves it, as the kernels read it: `Seat` in `kernels/common.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Seat {
    /// Negative: it begins with the initial state.
    pub(super) from: i32,
    /// Negative: nothing of it is kept.
    pub(super) to: i32,
}

impl Seat {
    const NOWHERE: Self = Self { from: -1, to: -1 };
}

/// Whose each row of the state is. The rows themselves never leave the device.
#[derive(Debug)]
pub(super) struct Seats {
    slots: Vec<Owner>,
    /// The batch that is being packed; each has another number.
    batch: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Owner {
    /// 0 is nobody's.
    generation: u64,
    /// The row holds a state of this generation.
    kept: bool,
    /// The last batch that it had a step in, and which row of it that is.
    batch: u64,
    row: usize,
}

impl Seats {
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: vec![Owner::default(); capacity], batch: 0 }
    }

    /// Another batch is packed from here on.
    pub(super) fn begin(&mut self) {
        self.batch += 1;
    }

    /// Whether the row is there that this step needs.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        !slot.begun
            || self
                .slots
                .get(slot.index)
                .is_some_and(|owner| owner.kept && owner.generation == slot.generation)
    }

    /// The seat of a row's step, and the row of the same batch that had its place and must keep nothing; `None` if its
    /// state was lost, or there is no such slot. No two rows of a batch are kept in one slot.
    pub(super) fn take(&mut self, slot: Slot, row: usize) -> Option<(Seat, Option<usize>)> {
        if !self.holds(slot) {
            return None;
        }
        let owner = self.slots.get_mut(slot.index)?;
        let index = i32::try_from(slot.index).ok()?;
        if slot.generation == 0 || slot.generation < owner.generation {
            // A step of a stream that has ended: it may run, but not in its successor's row.
            return Some((Seat::NOWHERE, None));
        }
        if !slot.begun {
            (owner.generation, owner.kept) = (slot.generation, false);
        }
        let former = (owner.batch == self.batch).then_some(owner.row);
        (owner.batch, owner.row) = (self.batch, row);
        Some((Seat { from: if slot.begun { index } else { -1 }, to: index }, former))
    }

    /// The step's new state may be in the slot's row already, but the step may yet fail.
    pub(super) fn lose(&mut self, slot: Slot) {
        self.set(slot, false);
    }

    /// The step's new state is on its way into the slot's row.
    pub(super) fn keep(&mut self, slot: Slot) {
        self.set(slot, true);
    }

    fn set(&mut self, slot: Slot, kept: bool) {
        let owner = self.slots.get_mut(slot.index).filter(|owner| owner.generation == slot.generation);
        if let Some(owner) = owner {
            owner.kept = kept && slot.generation != 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of one step.
    fn alone(seats: &mut Seats, slot: Slot) -> Option<(i32, i32)> {
        seats.begin();
        seats.take(slot, 0).map(|(seat, former)| {
            assert_eq!(former, None);
            (seat.from, seat.to)
        })
    }

    #[test]
    fn a_row_belongs_to_one_generation() {
        let mut seats = Seats::new(2);
        let first = |index, generation| Slot { index, generation, begun: false };
        let later = |index, generation| Slot { index, generation, begun: true };
        assert_eq!(alone(&mut seats, first(1, 1)), Some((-1, 1)), "its first step begins anew");
        assert_eq!(alone(&mut seats, later(1, 1)), None, "none was kept");
        assert_eq!(alone(&mut seats, first(1, 1)), Some((-1, 1)));
        seats.keep(first(1, 1));
        assert_eq!(alone(&mut seats, later(1, 1)), Some((1, 1)));
        assert_eq!(alone(&mut seats, first(1, 2)), Some((-1, 1)), "a new owner begins anew");
        assert_eq!(alone(&mut seats, later(1, 1)), None, "the former owner has no row any more");
        assert_eq!(alone(&mut seats, first(1, 1)), Some((-1, -1)), "and leaves none");
        seats.keep(later(1, 1));
        assert_eq!(alone(&mut seats, later(1, 2)), None, "and keeps nothing");
        seats.keep(first(1, 2));
        assert_eq!(alone(&mut seats, later(1, 2)), Some((1, 1)));
        assert_eq!(alone(&mut seats, first(2, 1)), None, "there is no such slot");
        assert_eq!(alone(&mut seats, Slot::NOBODYS), Some((-1, -1)));
        seats.keep(Slot::NOBODYS);
        assert_eq!(alone(&mut seats, first(0, 1)), Some((-1, 0)));
    }

    #[test]
    fn a_state_is_lost_until_it_is_kept() {
        let mut seats = Seats::new(1);
        let slot = |generation, begun| Slot { index: 0, generation, begun };
        assert_eq!(alone(&mut seats, slot(2, false)), Some((-1, 0)));
        seats.keep(slot(2, false));
        seats.lose(slot(1, true));
        assert_eq!(alone(&mut seats, slot(2, true)), Some((0, 0)), "a former owner loses nothing of it");
        seats.lose(slot(2, true));
        assert_eq!(alone(&mut seats, slot(2, true)), None);
        seats.keep(slot(2, true));
        assert_eq!(alone(&mut seats, slot(2, true)), Some((0, 0)));
    }

    #[test]
    fn a_batch_keeps_one_state_for_a_slot() {
        let mut seats = Seats::new(1);
        let slot = |generation, begun| Slot { index: 0, generation, begun };
        seats.begin();
        assert_eq!(seats.take(slot(1, false), 0), Some((Seat { from: -1, to: 0 }, None)));
        seats.keep(slot(1, false));
        seats.begin();
        let late = seats.take(slot(1, true), 3);
        assert_eq!(late, Some((Seat { from: 0, to: 0 }, None)), "a late step begins with its own state");
        let anew = seats.take(slot(2, false), 4);
        assert_eq!(anew, Some((Seat { from: -1, to: 0 }, Some(3))), "and loses its place to its successor");
        assert_eq!(seats.take(slot(1, true), 5), None);
    }
}
