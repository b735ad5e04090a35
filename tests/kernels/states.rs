//! The states of streams, out of their slab and back into it.

use bytemuck::NoUninit;
use fastrand::Rng;

use crate::emulator::{Geometry, Memory};
use crate::{launch, random_bytes, with_seeds};

/// `Seat` of kernels/common.cuh.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Seat {
    from: i32,
    to: i32,
}

/// A slab of some slots, and a batch whose rows sit in different ones.
struct Case {
    outer: usize,
    inner: usize,
    bucket: usize,
    slab: Vec<u8>,
    initial: Vec<u8>,
    seats: Vec<Seat>,
    geometry: Geometry,
}

impl Case {
    fn random(random: &mut Rng) -> Self {
        let (outer, inner, slots) = (random.usize(1..=4), random.usize(1..=60), random.usize(1..=9));
        let inner = if random.bool() { inner.next_multiple_of(16) } else { inner };
        let last = i32::try_from(slots).unwrap() - 1;
        let mut free: Vec<i32> = (0..=last).collect();
        random.shuffle(&mut free);
        // Rows may begin with one state, but no two are kept in one slot.
        let seat = |slot| {
            let from = random.i32(-1..=last);
            Seat { from, to: if random.u8(..) < 40 { -1 } else { slot } }
        };
        let seats: Vec<_> = free.into_iter().map(seat).collect();
        let seats = seats[..random.usize(0..=slots)].to_vec();
        let bucket = seats.len() + random.usize(0..=2);
        let (slab, initial) =
            (random_bytes(random, slots * outer * inner), random_bytes(random, outer * inner));
        Self { outer, inner, bucket, slab, initial, seats, geometry: Geometry::random(random) }
    }

    /// A slot's block.
    fn in_slab(&self, slot: i32, o: usize) -> std::ops::Range<usize> {
        let start = (usize::try_from(slot).unwrap() * self.outer + o) * self.inner;
        start..start + self.inner
    }

    fn in_batch(&self, row: usize, o: usize) -> std::ops::Range<usize> {
        let start = (o * self.bucket + row) * self.inner;
        start..start + self.inner
    }

    fn sizes(&self) -> (u32, u32, u32, u64) {
        let small = |size| u32::try_from(size).unwrap();
        (small(self.seats.len()), small(self.outer), small(self.bucket), self.inner as u64)
    }
}

#[test]
fn states_come_out_of_their_slots() {
    with_seeds(|random| {
        let case = Case::random(random);
        let mut expected = vec![0; case.outer * case.bucket * case.inner];
        for row in 0..case.bucket {
            for o in 0..case.outer {
                let kept = case.seats.get(row).filter(|seat| seat.from >= 0);
                let state = match kept {
                    Some(seat) => &case.slab[case.in_slab(seat.from, o)],
                    None => &case.initial[o * case.inner..][..case.inner],
                };
                expected[case.in_batch(row, o)].copy_from_slice(state);
            }
        }
        let (live, outer, bucket, inner) = case.sizes();
        let (slab, initial, seats) =
            (Memory::of(&case.slab), Memory::of(&case.initial), Memory::of(&case.seats));
        let mut batch = Memory::garbage(expected.len());
        launch!(
            "state_gather",
            case.geometry,
            &slab,
            &initial,
            &seats,
            live,
            &mut batch,
            outer,
            bucket,
            inner
        );
        assert_eq!(batch.get::<u8>(), expected, "{:?}, {:?}", case.seats, case.geometry);
    });
}

#[test]
fn states_go_back_into_their_slots_alone() {
    with_seeds(|random| {
        let case = Case::random(random);
        let batch = random_bytes(random, case.outer * case.bucket * case.inner);
        let mut expected = case.slab.clone();
        for (row, seat) in case.seats.iter().enumerate().filter(|(_, seat)| seat.to >= 0) {
            for o in 0..case.outer {
                expected[case.in_slab(seat.to, o)].copy_from_slice(&batch[case.in_batch(row, o)]);
            }
        }
        let (live, outer, bucket, inner) = case.sizes();
        let (batch, seats, mut slab) = (Memory::of(&batch), Memory::of(&case.seats), Memory::of(&case.slab));
        launch!("state_scatter", case.geometry, &batch, &seats, live, &mut slab, outer, bucket, inner);
        assert_eq!(slab.get::<u8>(), expected, "{:?}, {:?}", case.seats, case.geometry);
    });
}
