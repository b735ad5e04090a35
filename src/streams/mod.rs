//! Streams: who owns which row of a lane's state.
//!
//! A stream takes a [`Seat`] when it opens: a lane, and a slot of that lane's state, which it keeps until it
//! ends. A slot carries a generation that grows with each owner and each reset, and a lane that meets a new
//! generation begins with the model's initial state. So a slot is free the moment its stream ends, nobody
//! has to clean it, and a late result of its former owner can be told from the new owner's.

mod sequences;
mod slots;

use std::sync::Arc;

use parking_lot::Mutex;

pub use sequences::{MAX_WAITING, Refusal, SequenceKey, SequenceStep, Sequences};
pub use slots::{Slot, Slots};

/// The slots of all lanes of one model.
#[derive(Debug)]
pub struct Streams {
    lanes: Vec<Mutex<Slots>>,
}

/// A stream's place; free again when dropped.
#[derive(Debug)]
pub struct Seat {
    streams: Arc<Streams>,
    lane: usize,
    slot: Slot,
}

impl Streams {
    /// Slots for `capacity` streams in all, spread over the lanes.
    pub fn new(lanes: usize, capacity: usize) -> Arc<Self> {
        let lanes = lanes.max(1);
        let share = |lane: usize| capacity / lanes + usize::from(lane < capacity % lanes);
        Arc::new(Self { lanes: (0..lanes).map(|lane| Mutex::new(Slots::new(share(lane)))).collect() })
    }

    /// Seats a stream in the lane that has the fewest; `None` if all slots are taken.
    pub fn open(self: &Arc<Self>) -> Option<Seat> {
        // Streams that open at once may see the same load; whoever finds a lane full tries the next.
        let mut order: Vec<(usize, usize)> =
            self.lanes.iter().enumerate().map(|(lane, slots)| (slots.lock().taken(), lane)).collect();
        order.sort_unstable();
        order.into_iter().find_map(|(_, lane)| {
            let slot = self.lanes[lane].lock().take()?;
            Some(Seat { streams: Arc::clone(self), lane, slot })
        })
    }

    /// Streams that are open.
    pub fn open_count(&self) -> usize {
        self.lanes.iter().map(|slots| slots.lock().taken()).sum()
    }

    pub fn capacity(&self) -> usize {
        self.lanes.iter().map(|slots| slots.lock().capacity()).sum()
    }
}

impl Seat {
    pub fn lane(&self) -> usize {
        self.lane
    }

    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The stream's next step begins with the initial state.
    pub fn reset(&mut self) {
        self.slot = self.streams.lanes[self.lane].lock().renew(self.slot);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.streams.lanes[self.lane].lock().give_back(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_spread_over_lanes_up_to_the_capacity() {
        let streams = Streams::new(2, 3);
        let seats: Vec<_> = (0..3).map(|_| streams.open().unwrap()).collect();
        let lanes: Vec<_> = seats.iter().map(Seat::lane).collect();
        assert_eq!(lanes, [0, 1, 0]);
        assert!(streams.open().is_none());
        assert_eq!((streams.open_count(), streams.capacity()), (3, 3));
        drop(seats);
        assert_eq!(streams.open_count(), 0);
    }

    #[test]
    fn every_owner_and_every_reset_has_a_generation_of_its_own() {
        let streams = Streams::new(1, 1);
        let mut seat = streams.open().unwrap();
        let first = seat.slot();
        seat.reset();
        let second = seat.slot();
        drop(seat);
        let third = streams.open().unwrap().slot();
        assert_eq!([first.index, second.index, third.index], [0; 3]);
        assert!(first.generation < second.generation && second.generation < third.generation);
    }
}
