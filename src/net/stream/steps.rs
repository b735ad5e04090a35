//! The steps of one stream, which run one after the other.
//!
//! The next one goes as soon as the lane has answered the one before, in the thread that answers it: a stream that has
//! steps to come is in each batch, and its connection need not wake for each of them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::Code;
use crate::net::hold;
use crate::queue::Draft;
use crate::registry::Served;
use crate::reply::{Follow, Ticket};

/// Steps that may be on their way or have answers that the connection has not taken. Such an answer holds on to the
/// output of its whole batch, and a client may take long to read.
const MOST: usize = 2 * hold::ENOUGH;

/// When it is dropped the stream has ended, and what waits goes nowhere.
pub struct Steps(Arc<Chain>);

/// What is left to whoever answers a step.
struct Chain {
    served: Arc<Served>,
    lane: usize,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In order, and no more than the connection's window.
    waiting: VecDeque<(Draft, Ticket)>,
    /// Steps that have been sent and whose answers have not been taken.
    out: usize,
    in_flight: bool,
    /// The generation of the step in flight, if the model keeps state.
    generation: Option<u64>,
    /// The generation of the last step that had a result: the lane has its state.
    begun: Option<u64>,
    /// A thread is sending steps on their way. One that is refused is answered, and followed, within that.
    sends: bool,
}

impl Steps {
    pub fn new(served: Arc<Served>, lane: usize, clock: Clock) -> Self {
        Self(Arc::new(Chain { served, lane, clock, state: Mutex::default() }))
    }

    /// Takes a step in, which goes when its turn comes.
    pub fn push(&self, draft: Draft, ticket: Ticket) {
        self.0.state.lock().waiting.push_back((draft, ticket));
        self.0.advance();
    }

    /// The connection has taken a step's answer.
    pub fn taken(&self) {
        let out = {
            let mut state = self.0.state.lock();
            state.out -= 1;
            state.out
        };
        if out + 1 == MOST {
            self.0.advance();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut self.0.state.lock().waiting);
        drop(waiting);
    }
}

impl Chain {
    fn advance(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.sends, true) {
            return;
        }
        while let Some((draft, ticket)) = state.next(self.clock) {
            drop(state);
            self.served.submit(self.lane, draft, ticket.then(Arc::clone(self) as Arc<dyn Follow>));
            state = self.state.lock();
        }
        state.sends = false;
    }
}

impl State {
    /// The next step, if it is to go now.
    fn next(&mut self, clock: Clock) -> Option<(Draft, Ticket)> {
        if self.in_flight || self.out == MOST {
            return None;
        }
        let (mut draft, ticket) = self.waiting.pop_front()?;
        if ticket.is_gone() {
            self.waiting.clear();
            return None;
        }
        draft.enqueued = clock.now();
        if let Some(slot) = &mut draft.slot {
            slot.begun = self.begun == Some(slot.generation);
        }
        self.generation = draft.slot.map(|slot| slot.generation);
        self.in_flight = true;
        self.out += 1;
        Some((draft, ticket))
    }
}

impl Follow for Chain {
    fn follow(self: Arc<Self>, end: Result<(), Code>) {
        {
            let mut state = self.state.lock();
            state.in_flight = false;
            match end {
                Ok(()) => state.begun = state.generation,
                // It is told once; from here on the stream begins anew.
                Err(Code::StateLost) => state.begun = None,
                Err(_) => {}
            }
        }
        self.advance();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::{Context, Waker};

    use super::*;
    use crate::metrics::Metrics;
    use crate::net::tests::served;
    use crate::queue::{Consumer, Memory, Places, Producer, Request, channel};
    use crate::reply::{Answer, Mailbox, Wakes};
    use crate::tensor::{Rows, Signature};

    /// A stream, with a lane and a connection that the test works by hand.
    struct Stream<L = Consumer> {
        steps: Steps,
        lane: L,
        mailbox: Arc<Mailbox<usize>>,
    }

    impl Stream {
        fn new(places: usize) -> Self {
            let (producer, lane) = channel(Places::new(places), Memory::new(0));
            Self::of(producer, lane)
        }

        fn of<L>(producer: Producer, lane: L) -> Stream<L> {
            let signature = Signature { inputs: vec![], outputs: vec![], states: vec![], max_batch_size: 1 };
            let metrics = Metrics::new().unwrap().model("echo", "1");
            let served = served(signature, vec![producer], None, metrics);
            let steps = Steps::new(served, 0, Clock::start());
            Stream { steps, lane, mailbox: Mailbox::new(usize::MAX) }
        }
    }

    impl<L> Stream<L> {
        fn push(&self, steps: std::ops::Range<usize>) {
            for step in steps {
                self.steps.push(Draft::empty(), self.mailbox.issue(step));
            }
        }

        /// The answers that are there, and whether they are results.
        fn answers(&self) -> Vec<(usize, bool)> {
            let mut ready: Vec<(usize, Answer)> = Vec::new();
            let _ = self.mailbox.poll_answers(&mut Context::from_waker(Waker::noop()), &mut ready);
            ready.into_iter().map(|(step, answer)| (step, answer.is_ok())).collect()
        }
    }

    impl Stream {
        /// Answers what the lane is given, as long as it is given something; how many steps that were.
        fn run(&self) -> usize {
            let answer = |request: Request| request.answer(Ok(Rows::none()), &mut Wakes::default());
            self.lane.requests().try_iter().map(answer).count()
        }
    }

    #[test]
    fn the_lane_goes_on_by_itself_until_too_many_answers_wait() {
        let stream = Stream::new(1);
        stream.push(0..MOST + 3);
        assert_eq!(stream.run(), MOST);
        assert_eq!(stream.answers().len(), MOST);
        stream.steps.taken();
        assert_eq!(stream.run(), 1);
        (0..MOST).for_each(|_| stream.steps.taken());
        assert_eq!(stream.run(), 2);
        assert_eq!(stream.answers(), [(MOST, true), (MOST + 1, true), (MOST + 2, true)]);
    }

    #[test]
    fn a_lane_and_a_connection_send_steps_at_the_same_time() {
        let Stream { steps, lane, mailbox } = Stream::new(1);
        let answers = std::thread::spawn(move || {
            let answer = |request: Request| request.answer(Ok(Rows::none()), &mut Wakes::default());
            lane.requests().iter().map(answer).count()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut pushed, mut taken) = (0, 0);
        for round in 0..20_000 {
            // The last of two often comes when the lane has just found that there is no other; of more, some have to wait
            // until answers are taken.
            for _ in 0..if round % 64 == 0 { 2 * MOST } else { 2 } {
                steps.push(Draft::empty(), mailbox.issue(pushed));
                pushed += 1;
            }
            while taken < pushed {
                let mut ready = Vec::new();
                runtime.block_on(poll_fn(|cx| mailbox.poll_answers(cx, &mut ready)));
                for (step, answer) in ready {
                    assert!(step == taken && answer.is_ok(), "{step} in place of {taken}");
                    steps.taken();
                    taken += 1;
                }
            }
        }
        drop(steps);
        assert_eq!(answers.join().unwrap(), pushed);
    }

    #[test]
    fn what_is_refused_is_followed_as_well() {
        let stream = Stream::new(1);
        stream.push(0..4);
        let first = stream.lane.requests().try_recv().unwrap();
        let Request { permit, ticket, .. } = first;
        // There is no place for any other.
        ticket.answer(Ok(Rows::none()), &mut Wakes::default());
        assert_eq!(stream.answers(), [(0, true), (1, false), (2, false), (3, false)]);
        drop(permit);
        stream.push(4..5);
        assert_eq!(stream.run(), 1);
        assert_eq!(stream.answers(), [(4, true)]);
    }

    #[test]
    fn streams_of_a_lane_that_ends_are_refused_one_by_one() {
        const STREAMS: usize = 4000;
        let (producer, lane) = channel(Places::new(STREAMS), Memory::new(0));
        let streams: Vec<_> = (0..STREAMS).map(|_| Stream::of(producer.clone(), ())).collect();
        streams.iter().for_each(|stream| stream.push(0..3));
        // One within the other would need some megabytes.
        let end = std::thread::Builder::new().stack_size(256 << 10).spawn(move || drop(lane));
        end.unwrap().join().unwrap();
        for stream in streams {
            assert_eq!(stream.answers(), [(0, false), (1, false), (2, false)]);
        }
    }

    #[test]
    fn nothing_follows_the_end_of_the_stream() {
        let stream = Stream::new(2);
        stream.push(0..3);
        let Stream { steps, lane, mailbox: _mailbox } = stream;
        drop(steps);
        assert_eq!(lane.requests().try_iter().count(), 1);
    }
}
