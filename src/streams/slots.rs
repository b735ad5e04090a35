//! The slots of one lane.

/// A row of a lane's state, for as long as its generation lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    pub index: usize,
    /// Never 0 in a stream's slot.
    pub generation: u64,
    /// A step of this generation has been answered, so that the row has to be its own: if it is not, it was lost.
    pub begun: bool,
}

impl Slot {
    /// For a step of nobody's stream: it begins with the initial state, and no state is kept of it.
    pub const NOBODYS: Self = Self { index: 0, generation: 0, begun: false };
}

/// Who may use which slot. Slots are made as they are needed, up to the capacity, and the lowest free one is
/// not sought: the one freed last is still in the caches.
#[derive(Debug)]
pub struct Slots {
    /// The latest generation of each slot made so far.
    generations: Vec<u64>,
    free: Vec<usize>,
    capacity: usize,
}

impl Slots {
    pub fn new(capacity: usize) -> Self {
        Self { generations: Vec::new(), free: Vec::new(), capacity }
    }

    pub fn take(&mut self) -> Option<Slot> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.generations.len() < self.capacity => {
                self.generations.push(0);
                self.generations.len() - 1
            }
            None => return None,
        };
        Some(self.next_generation(index))
    }

    /// A new generation of the same slot.
    pub fn renew(&mut self, slot: Slot) -> Slot {
        if self.is_current(slot) { self.next_generation(slot.index) } else { slot }
    }

    pub fn give_back(&mut self, slot: Slot) {
        if self.is_current(slot) {
            // The generation moves on, so that giving back twice cannot free the next owner's slot.
            self.next_generation(slot.index);
            self.free.push(slot.index);
        }
    }

    pub fn taken(&self) -> usize {
        self.generations.len() - self.free.len()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn is_current(&self, slot: Slot) -> bool {
        self.generations.get(slot.index) == Some(&slot.generation)
    }

    fn next_generation(&mut self, index: usize) -> Slot {
        let generation = &mut self.generations[index];
        *generation += 1;
        Slot { index, generation: *generation, begun: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_back_once() {
        let mut slots = Slots::new(2);
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_ne!(a.index, b.index);
        assert!(slots.take().is_none());
        slots.give_back(a);
        slots.give_back(a);
        assert_eq!(slots.taken(), 1);
        let c = slots.take().unwrap();
        assert_eq!(c.index, a.index);
        assert!(c.generation > a.generation);
        slots.give_back(a);
        assert_eq!((slots.taken(), slots.renew(a)), (2, a), "a former owner has no say");
    }
}
