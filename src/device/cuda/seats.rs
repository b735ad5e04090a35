//! Whose rows a device's state holds.

use crate::streams::Slot;

/// Where one row's state is, as the kernels read it: `Seat` in `kernels/common.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Seat {
    /// Negative: nowhere.
    pub(super) slot: i32,
    /// Not 0: the step begins with the initial state.
    pub(super) reset: u32,
}

/// The generation that each row of the state belongs to; 0 is nobody's. The rows themselves never leave the device.
#[derive(Debug)]
pub(super) struct Seats(Vec<u64>);

impl Seats {
    pub(super) fn new(capacity: usize) -> Self {
        Self(vec![0; capacity])
    }

    /// Whether the row is there that this step needs.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        !slot.begun || self.0.get(slot.index) == Some(&slot.generation)
    }

    /// Where this step finds its state and leaves it; `None` if it was lost, or there is no such slot.
    pub(super) fn find(&self, slot: Slot) -> Option<Seat> {
        let known = *self.0.get(slot.index)?;
        let index = i32::try_from(slot.index).ok()?;
        if slot.begun {
            return (known == slot.generation).then_some(Seat { slot: index, reset: 0 });
        }
        // A step of a stream that has ended may run, but leaves nothing in its successor's row.
        let nobodys = slot.generation == 0 || known > slot.generation;
        Some(Seat { slot: if nobodys { -1 } else { index }, reset: 1 })
    }

    /// The step's new state is on its way into the slot's row: from now on the row is its stream's.
    pub(super) fn keep(&mut self, slot: Slot) {
        if let Some(generation) = self.0.get_mut(slot.index) {
            *generation = slot.generation.max(*generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_belongs_to_one_generation() {
        let mut seats = Seats::new(2);
        let first = |index, generation| Slot { index, generation, begun: false };
        let later = |index, generation| Slot { index, generation, begun: true };
        let find = |seats: &Seats, slot| seats.find(slot).map(|seat| (seat.slot, seat.reset));
        assert_eq!(find(&seats, first(1, 1)), Some((1, 1)), "its first step begins anew");
        assert_eq!(find(&seats, later(1, 1)), None, "none was kept");
        seats.keep(first(1, 1));
        assert_eq!(find(&seats, later(1, 1)), Some((1, 0)));
        assert_eq!(find(&seats, first(1, 2)), Some((1, 1)), "a new owner begins anew");
        seats.keep(first(1, 2));
        assert_eq!(find(&seats, later(1, 1)), None, "a late step of the former owner has no row");
        assert_eq!(find(&seats, first(1, 1)), Some((-1, 1)), "and leaves none");
        seats.keep(later(1, 1));
        assert_eq!(find(&seats, later(1, 2)), Some((1, 0)), "and takes none");
        assert_eq!(find(&seats, first(2, 1)), None, "there is no such slot");
        assert_eq!(find(&seats, Slot::NOBODYS), Some((-1, 1)));
    }
}
