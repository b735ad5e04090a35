//! Sequences: streams that requests name, instead of being a connection.
//!
//! The rules are those of Triton's sequence batcher. A sequence begins with a request that says so, and takes
//! a seat; one that begins again starts anew; one that has not begun has no steps. Its steps run one after the
//! other, in the order in which they came, whichever connections they came from. It ends with the request that
//! says so, or when nothing has come for too long.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Seat, Slot, Streams};
use crate::clock::Time;

/// What requests call a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SequenceKey {
    Number(u64),
    Text(Box<str>),
}

/// One request's part in a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceStep {
    pub key: SequenceKey,
    pub start: bool,
    pub end: bool,
}

/// Why a step is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The sequence has not begun, or has ended.
    NotStarted,
    /// There is no slot for another sequence.
    Full,
    /// Too many of its steps wait already.
    Behind,
}

/// Steps of one sequence that may wait for the one before. Bounds what one sequence holds, and how deep the
/// stack grows where all that waits is refused, each step by the end of the one before.
pub const MAX_WAITING: usize = 128;

/// The sequences of one model. `W` is the work that waits.
#[derive(Debug)]
pub struct Sequences<W> {
    streams: Arc<Streams>,
    /// How long a sequence may have no step.
    idle: Duration,
    open: Mutex<HashMap<SequenceKey, Open<W>>>,
}

#[derive(Debug)]
struct Open<W> {
    seat: Seat,
    /// The generation whose step is on its way.
    running: Option<u64>,
    /// The generation whose step was answered last.
    begun: Option<u64>,
    /// Its last step has come: what comes next must begin anew.
    ended: bool,
    /// At most [`MAX_WAITING`].
    waiting: VecDeque<(Slot, W)>,
    touched: Time,
}

impl<W> Sequences<W> {
    pub fn new(streams: Arc<Streams>, idle: Duration) -> Self {
        Self { streams, idle, open: Mutex::new(HashMap::new()) }
    }

    /// Takes a step in. `make` turns a request into work, once its slot is known; the work is returned with its
    /// lane if it can go at once, and kept if it has to wait. A request that is refused is given back.
    pub fn step<R>(
        &self,
        step: &SequenceStep,
        now: Time,
        request: R,
        make: impl FnOnce(R, Slot) -> W,
    ) -> Result<Option<(usize, W)>, (R, Refusal)> {
        let mut open = self.open.lock();
        if step.start && !open.contains_key(&step.key) {
            let seat = self.streams.open().or_else(|| {
                self.reap(&mut open, now);
                self.streams.open()
            });
            let Some(seat) = seat else { return Err((request, Refusal::Full)) };
            let waiting = VecDeque::new();
            let sequence = Open { seat, running: None, begun: None, ended: false, waiting, touched: now };
            open.insert(step.key.clone(), sequence);
        } else if step.start
            && let Some(sequence) = open.get_mut(&step.key)
        {
            sequence.seat.reset();
        }
        let sequence = open.get_mut(&step.key).filter(|sequence| step.start || !sequence.ended);
        let Some(sequence) = sequence else { return Err((request, Refusal::NotStarted)) };
        if sequence.waiting.len() >= MAX_WAITING {
            return Err((request, Refusal::Behind));
        }
        sequence.touched = now;
        sequence.ended = step.end;
        let slot = sequence.slot(sequence.seat.slot());
        let work = make(request, slot);
        if sequence.running.is_some() {
            sequence.waiting.push_back((slot, work));
            return Ok(None);
        }
        sequence.running = Some(slot.generation);
        Ok(Some((sequence.seat.lane(), work)))
    }

    /// The step that was on its way has been answered; returns the one behind it, its lane and its slot as it is now.
    pub fn done(&self, key: &SequenceKey, now: Time) -> Option<(usize, Slot, W)> {
        let mut open = self.open.lock();
        let sequence = open.get_mut(key)?;
        sequence.touched = now;
        sequence.begun = sequence.running.take();
        match sequence.waiting.pop_front() {
            Some((slot, work)) => {
                sequence.running = Some(slot.generation);
                Some((sequence.seat.lane(), sequence.slot(slot), work))
            }
            None => {
                if sequence.ended {
                    open.remove(key);
                }
                None
            }
        }
    }

    /// Ends the sequences that have had no step for too long.
    pub fn sweep(&self, now: Time) {
        self.reap(&mut self.open.lock(), now);
    }

    fn reap(&self, open: &mut HashMap<SequenceKey, Open<W>>, now: Time) {
        open.retain(|_, sequence| sequence.running.is_some() || now - sequence.touched < self.idle);
    }
}

impl<W> Open<W> {
    /// The slot for a step that goes now.
    fn slot(&self, slot: Slot) -> Slot {
        Slot { begun: self.begun == Some(slot.generation), ..slot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(key: u64, flags: &str) -> SequenceStep {
        SequenceStep { key: SequenceKey::Number(key), start: flags.contains('s'), end: flags.contains('e') }
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn sequences() -> Sequences<Slot> {
        Sequences::new(Streams::new(1, 1), Duration::from_secs(10))
    }

    /// What becomes of a step: its slot, that it waits, or why it is refused.
    fn take(sequences: &Sequences<Slot>, step: &SequenceStep, now: Time) -> Result<Option<Slot>, Refusal> {
        let taken = sequences.step(step, now, (), |(), slot| slot);
        taken.map(|go| go.map(|(_, slot)| slot)).map_err(|((), refusal)| refusal)
    }

    #[test]
    fn steps_follow_each_other_from_start_to_end() {
        let sequences = sequences();
        assert_eq!(take(&sequences, &step(1, ""), at(0)), Err(Refusal::NotStarted));
        let slot = take(&sequences, &step(1, "s"), at(0)).unwrap().unwrap();
        assert_eq!(take(&sequences, &step(1, ""), at(0)), Ok(None));
        assert_eq!(take(&sequences, &step(1, "e"), at(0)), Ok(None));
        assert_eq!(take(&sequences, &step(1, ""), at(0)), Err(Refusal::NotStarted), "it has ended");
        let key = step(1, "").key;
        let begun = Slot { begun: true, ..slot };
        assert_eq!(sequences.done(&key, at(0)), Some((0, begun, slot)));
        assert_eq!(sequences.done(&key, at(0)), Some((0, begun, slot)));
        assert_eq!(sequences.done(&key, at(0)), None);
        assert_eq!(sequences.streams.open_count(), 0);
        assert_eq!(take(&sequences, &step(1, ""), at(0)), Err(Refusal::NotStarted));
    }

    #[test]
    fn a_sequence_keeps_a_bounded_number_of_steps() {
        let sequences = sequences();
        assert!(take(&sequences, &step(1, "s"), at(0)).unwrap().is_some());
        for _ in 0..MAX_WAITING {
            assert_eq!(take(&sequences, &step(1, ""), at(0)), Ok(None));
        }
        assert_eq!(take(&sequences, &step(1, "e"), at(0)), Err(Refusal::Behind));
        sequences.done(&step(1, "").key, at(0));
        assert_eq!(take(&sequences, &step(1, ""), at(0)), Ok(None), "the end that was refused is none");
    }

    #[test]
    fn a_second_start_begins_anew() {
        let sequences = sequences();
        let first = take(&sequences, &step(1, "se"), at(0)).unwrap().unwrap();
        assert_eq!(take(&sequences, &step(1, "s"), at(0)), Ok(None));
        let key = step(1, "").key;
        let Some((0, second, _)) = sequences.done(&key, at(0)) else { panic!("it waits") };
        assert!(second.generation > first.generation && !second.begun);
        assert_eq!(sequences.done(&key, at(0)), None);
        assert_eq!(sequences.streams.open_count(), 1, "the end was that of the first");
    }

    #[test]
    fn an_idle_sequence_makes_room() {
        let sequences = sequences();
        assert!(take(&sequences, &step(1, "s"), at(0)).unwrap().is_some());
        assert_eq!(take(&sequences, &step(2, "s"), at(60)), Err(Refusal::Full), "the first is at work");
        sequences.done(&step(1, "").key, at(60));
        assert_eq!(take(&sequences, &step(2, "s"), at(61)), Err(Refusal::Full));
        assert!(take(&sequences, &step(2, "s"), at(71)).unwrap().is_some());
        assert_eq!(take(&sequences, &step(1, ""), at(71)), Err(Refusal::NotStarted));
    }
}
