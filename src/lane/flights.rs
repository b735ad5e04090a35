//! What a lane has under way, kept where it can be taken from a lane that hangs.
//!
//! A request belongs to whoever takes it out of here, and is answered there: by the lane when its batch has landed or
//! failed, or by the watchdog when that takes too long. From then on, and until the lane has another pipeline, there is
//! nothing here for it, and what its run gives in the end is nobody's.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::Computing;
use crate::batcher::Bisect;
use crate::clock::Time;
use crate::engine::Halt;
use crate::error::{Code, Error, Result};
use crate::queue::{Hang, Request, Up};
use crate::reply::Wakes;

/// The lane has been given up; its requests are answered.
#[derive(Debug)]
pub(super) struct GivenUp;

/// A batch under way.
pub(super) struct Flight {
    pub batch: Vec<Request>,
    pub rows: usize,
    pub taken: Time,
    pub gathered: Time,
    /// When its run began: behind another batch, once that had landed.
    pub begun: Time,
    /// Until its requests are answered.
    pub computing: Option<Computing>,
}

/// The batches that one lane has under way; the lane and the watchdog share it.
pub(super) struct Flights {
    /// The lane's name.
    pub name: String,
    state: Mutex<State>,
    /// For a lane that waits while it is given up.
    call: (Sender<()>, Receiver<()>),
}

#[derive(Default)]
struct State {
    standing: Standing,
    /// Oldest first.
    flights: VecDeque<Flight>,
    /// What is still to be launched of a batch that failed as a whole.
    parts: Bisect<Request>,
    halt: Option<Halt>,
}

#[derive(Default)]
enum Standing {
    /// There is no pipeline, but soon.
    #[default]
    Away,
    Up(Up),
    /// Given up: what its requests are told, also those that it still holds.
    Hangs {
        error: Error,
        _until_back: Hang,
    },
}

/// A run that took too long.
#[derive(Debug)]
pub struct Late {
    pub lane: String,
    pub time: Duration,
    pub requests: usize,
}

/// What was taken from a lane.
pub(super) struct Taken(VecDeque<Flight>, Bisect<Request>);

impl Taken {
    fn requests(self) -> impl Iterator<Item = Request> {
        self.0.into_iter().flat_map(|flight| flight.batch).chain(self.1.flatten())
    }
}

impl Flights {
    pub fn new(name: String) -> Self {
        Self { name, state: Mutex::default(), call: bounded(1) }
    }

    /// The lane has a pipeline, and is at work.
    pub fn begin(&self, up: Up, halt: Option<Halt>) {
        let mut state = self.state.lock();
        // It may have come back by itself.
        let _ = self.call.1.try_recv();
        *state = State { standing: Standing::Up(up), halt, ..State::default() };
    }

    /// Says that the lane was given up, if it waits for something else.
    pub fn call(&self) -> &Receiver<()> {
        &self.call.1
    }

    /// A batch is about to be launched. Whether there is more of the one that it is a part of.
    pub fn depart(&self, flight: Flight) -> Result<bool, GivenUp> {
        let mut state = self.state.lock();
        if let Some(error) = state.given_up() {
            drop(state);
            refuse(flight.batch, &error);
            return Err(GivenUp);
        }
        state.flights.push_back(flight);
        Ok(!state.parts.is_empty())
    }

    /// The batch that departed last was not launched.
    pub fn recall(&self) -> Result<Vec<Request>, GivenUp> {
        self.state.lock().flights.pop_back().map(|flight| flight.batch).ok_or(GivenUp)
    }

    /// Halves of what failed are to be launched next; a single request comes back. And whether there is more to launch.
    pub fn failed(&self, part: Vec<Request>) -> Result<(Option<Request>, bool), GivenUp> {
        let mut state = self.state.lock();
        if let Some(error) = state.given_up() {
            drop(state);
            refuse(part, &error);
            return Err(GivenUp);
        }
        let culprit = state.parts.failed(part);
        Ok((culprit, !state.parts.is_empty()))
    }

    /// The next part to launch.
    pub fn part(&self) -> Result<Vec<Request>, GivenUp> {
        self.state.lock().parts.next().ok_or(GivenUp)
    }

    /// The oldest batch, which has landed.
    pub fn landed(&self, now: Time) -> Result<Flight, GivenUp> {
        let mut state = self.state.lock();
        let flight = state.flights.pop_front().ok_or(GivenUp)?;
        if let Some(next) = state.flights.front_mut() {
            next.begun = next.begun.max(now);
        }
        Ok(flight)
    }

    /// Takes everything from a lane that has panicked, unless it was given up before.
    pub fn lost(&self) -> Option<Taken> {
        let mut state = self.state.lock();
        let Standing::Up(_) = state.standing else { return None };
        state.standing = Standing::Away;
        Some(state.take())
    }

    /// The lane ends, and will not be back.
    pub fn end(&self) {
        let left = mem::take(&mut *self.state.lock());
        drop(left);
    }

    /// Takes everything from a lane whose oldest run has taken so long, answers it, and asks the run to end.
    ///
    /// `told` hears of it before anyone is answered.
    pub fn give_up(&self, now: Time, after: Duration, told: impl FnOnce()) -> Option<Late> {
        let mut state = self.state.lock();
        let time = now - state.flights.front()?.begun;
        if time < after {
            return None;
        }
        let error = Error::new(Code::RunTimedOut, format!("the model's run was given up after {time:.1?}"));
        state.standing = match mem::take(&mut state.standing) {
            Standing::Up(up) => Standing::Hangs { error: error.clone(), _until_back: up.hangs() },
            other => other,
        };
        let (taken, halt) = (state.take(), state.halt.take());
        let _ = self.call.0.try_send(());
        drop(state);
        told();
        let requests = refuse(taken.requests(), &error);
        if let Some(halt) = halt {
            halt();
        }
        Some(Late { lane: self.name.clone(), time, requests })
    }
}

impl State {
    fn given_up(&self) -> Option<Error> {
        match &self.standing {
            Standing::Hangs { error, .. } => Some(error.clone()),
            Standing::Away | Standing::Up(_) => None,
        }
    }

    fn take(&mut self) -> Taken {
        Taken(mem::take(&mut self.flights), mem::take(&mut self.parts))
    }
}

/// Answers all of them, then wakes each connection once; and counts them.
fn refuse(requests: impl IntoIterator<Item = Request>, error: &Error) -> usize {
    let mut wakes = Wakes::default();
    let answer = |request: Request| request.answer(Err(error.clone()), &mut wakes);
    requests.into_iter().map(answer).count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use smallvec::smallvec;

    use super::*;
    use crate::queue::{Draft, Memory, Places, Producer, channel};
    use crate::reply::Mailbox;
    use crate::tensor::GroupKey;

    /// A lane at work, whose batches are of one request each.
    struct Lane {
        flights: Flights,
        producer: Producer,
        requests: crate::queue::Consumer,
        mailbox: Arc<Mailbox<usize>>,
        asked: usize,
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    impl Lane {
        fn new() -> Self {
            let (producer, requests) = channel(Places::new(8), Memory::new(0));
            let lane = Self {
                flights: Flights::new("lane".into()),
                producer,
                requests,
                mailbox: Mailbox::new(8),
                asked: 0,
            };
            lane.begin();
            lane
        }

        fn begin(&self) {
            self.flights.begin(self.requests.up(), None);
        }

        fn batch(&mut self) -> Vec<Request> {
            let (payloads, key, enqueued) = (smallvec![], GroupKey::default(), at(0));
            let draft = Draft { payloads, rows: 1, key, slot: None, priority: 0, enqueued, deadline: None };
            self.producer.submit(draft, self.mailbox.issue(self.asked));
            self.asked += 1;
            self.requests.requests().try_iter().collect()
        }

        fn depart(&mut self, batch: Vec<Request>, second: u64) -> Result<bool, GivenUp> {
            let (rows, time) = (batch.len(), at(second));
            self.flights.depart(Flight {
                batch,
                rows,
                taken: time,
                gathered: time,
                begun: time,
                computing: None,
            })
        }

        /// What a minute is too long for at this time: how long that was, and how many requests were taken.
        fn late(&self, second: u64) -> Option<(u64, usize)> {
            let late = self.flights.give_up(at(second), Duration::from_secs(60), || {});
            late.map(|late| (late.time.as_secs(), late.requests))
        }

        fn refused(&self) -> Vec<(usize, Code)> {
            let mut ready = Vec::new();
            let _ = self.mailbox.poll_answers(&mut Context::from_waker(Waker::noop()), &mut ready);
            ready.into_iter().map(|(index, answer)| (index, answer.unwrap_err().code)).collect()
        }
    }

    #[test]
    fn a_run_has_its_time_from_when_it_can_begin() {
        let mut lane = Lane::new();
        let [first, second, third] = [(); 3].map(|()| lane.batch());
        assert_eq!(lane.late(1000), None, "a lane without work waits for as long as it likes");
        assert!(!lane.depart(first, 1000).unwrap());
        assert!(!lane.depart(second, 1010).unwrap());
        assert_eq!(lane.late(1059), None);
        drop(lane.flights.landed(at(1050)).unwrap());
        assert_eq!(lane.late(1109), None, "the second began when the first had landed");
        assert!(!lane.depart(third, 1109).unwrap());
        assert_eq!(lane.refused(), [(0, Code::Internal)], "which the test has dropped");
        assert_eq!(lane.late(1110), Some((60, 2)));
        assert_eq!(lane.refused(), [(1, Code::RunTimedOut), (2, Code::RunTimedOut)]);
        assert_eq!(lane.late(2000), None, "once");
    }

    #[test]
    fn there_is_nothing_for_a_lane_that_was_given_up_until_it_is_back() {
        let mut lane = Lane::new();
        let [first, second, third, fourth] = [(); 4].map(|()| lane.batch());
        lane.depart(first, 0).unwrap();
        assert!(lane.producer.is_open() && lane.flights.call().is_empty());
        assert_eq!(lane.late(60), Some((60, 1)));
        assert!(!lane.producer.is_open() && !lane.flights.call().is_empty());
        assert!(lane.flights.landed(at(61)).is_err() && lane.flights.recall().is_err());
        assert!(lane.flights.part().is_err());
        assert!(
            lane.depart(second, 62).is_err() && lane.flights.failed(third).is_err(),
            "what it still held"
        );
        assert!(lane.flights.lost().is_none(), "it panics in the end");
        assert_eq!(lane.refused(), [0, 1, 2].map(|index| (index, Code::RunTimedOut)));

        lane.begin();
        assert!(lane.producer.is_open() && lane.flights.call().is_empty());
        assert!(!lane.depart(fourth, 100).unwrap());
        assert_eq!(lane.late(159), None);
        drop(lane.flights.lost());
        assert_eq!((lane.refused(), lane.producer.lanes()), (vec![(3, Code::Internal)], 0));
        assert!(lane.producer.is_open(), "it will be back soon");
    }

    #[test]
    fn a_lane_that_ends_leaves_nothing_behind() {
        let mut lane = Lane::new();
        let [first, second] = [(); 2].map(|()| lane.batch());
        lane.depart(first, 0).unwrap();
        lane.flights.end();
        assert_eq!((lane.refused(), lane.producer.lanes()), (vec![(0, Code::Internal)], 0));
        lane.begin();
        lane.depart(second, 0).unwrap();
        assert_eq!(lane.late(60), Some((60, 1)));
        lane.flights.end();
        assert!(lane.producer.is_open(), "another may be on its way");
    }

    #[test]
    fn what_is_left_of_a_batch_that_failed_is_taken_too() {
        let mut lane = Lane::new();
        let batch: Vec<_> = (0..4).flat_map(|_| lane.batch()).collect();
        let (culprit, more) = lane.flights.failed(batch).unwrap();
        assert!(culprit.is_none() && more);
        let half = lane.flights.part().unwrap();
        assert!(lane.depart(half, 0).unwrap(), "the other half is still to come");
        assert_eq!(lane.late(60), Some((60, 4)));
        assert_eq!(lane.refused(), [0, 1, 2, 3].map(|index| (index, Code::RunTimedOut)));
    }
}
