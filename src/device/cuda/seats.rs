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

    /// Where this step finds its state; `None` if there is no such slot.
    pub(super) fn find(&self, slot: Slot) -> Option<Seat> {
        let generation = *self.0.get(slot.index)?;
        let index = i32::try_from(slot.index).ok()?;
        if slot.generation == 0 {
            return Some(Seat { slot: -1, reset: 1 });
        }
        Some(match slot.generation.cmp(&generation) {
            // A step of a stream that has ended: it may run, but not in its successor's row.
            std::cmp::Ordering::Less => Seat { slot: -1, reset: 1 },
            std::cmp::Ordering::Equal => Seat { slot: index, reset: 0 },
            std::cmp::Ordering::Greater => Seat { slot: index, reset: 1 },
        })
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
        let slot = |index, generation| Slot { index, generation };
        let find = |seats: &Seats, slot| seats.find(slot).map(|seat| (seat.slot, seat.reset));
        assert_eq!(find(&seats, slot(1, 1)), Some((1, 1)), "its first step begins anew");
        assert_eq!(find(&seats, slot(1, 1)), Some((1, 1)), "and again, as long as none was kept");
        seats.keep(slot(1, 1));
        assert_eq!(find(&seats, slot(1, 1)), Some((1, 0)));
        assert_eq!(find(&seats, slot(1, 2)), Some((1, 1)), "a new owner begins anew");
        seats.keep(slot(1, 2));
        assert_eq!(find(&seats, slot(1, 1)), Some((-1, 1)), "a late step of the former owner has no row");
        seats.keep(slot(1, 1));
        assert_eq!(find(&seats, slot(1, 2)), Some((1, 0)), "and takes none");
        assert_eq!(find(&seats, slot(2, 1)), None);
        assert_eq!(find(&seats, slot(0, 0)), Some((-1, 1)), "nobody's step");
    }
}
