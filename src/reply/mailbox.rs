//! The answers of one connection, put back into the order of its requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::ticket::{Deliver, Ticket, Wakes};
use super::{Answer, Relay};

/// Holds the requests of one connection that are not yet answered to its client, at most `window`.
///
/// `C` is what the connection needs to encode an answer (its `id`, the outputs asked for, …).
pub struct Mailbox<C> {
    state: Mutex<State<C>>,
    window: usize,
    closed: AtomicBool,
    relay: Option<Arc<Relay>>,
}

/// How many answers a writer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enough {
    pub answers: usize,
    /// Fewer are enough where fewer requests than this are left to be answered.
    pub unless_left: usize,
}

impl Default for Enough {
    fn default() -> Self {
        Self { answers: 1, unless_left: 0 }
    }
}

struct State<C> {
    /// The sequence number of the first slot.
    first: u64,
    slots: VecDeque<Slot<C>>,
    /// Slots that have an answer.
    answered: usize,
    enough: Enough,
    /// No more requests will come.
    finished: bool,
    /// Waits for the first slot's answer, and for enough of them.
    writer: Option<Waker>,
    /// Waits for room in the window.
    reader: Option<Waker>,
}

struct Slot<C> {
    context: C,
    answer: Option<Answer>,
}

impl<C: Send + 'static> Mailbox<C> {
    pub fn new(window: usize) -> Arc<Self> {
        Self::make(window, None)
    }

    /// One whose task is woken by way of a relay.
    pub fn through(window: usize, relay: Arc<Relay>) -> Arc<Self> {
        Self::make(window, Some(relay))
    }

    fn make(window: usize, relay: Option<Arc<Relay>>) -> Arc<Self> {
        let (slots, enough) = (VecDeque::new(), Enough::default());
        let state =
            State { first: 0, slots, answered: 0, enough, finished: false, writer: None, reader: None };
        let (state, closed) = (Mutex::new(state), AtomicBool::new(false));
        Arc::new(Self { state, window: window.max(1), closed, relay })
    }

    /// Ready when the window has room for one more request.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.slots.len() < self.window {
            return Poll::Ready(());
        }
        keep(&mut state.reader, cx);
        Poll::Pending
    }

    /// Takes the next place in the order of answers.
    pub fn issue(self: &Arc<Self>, context: C) -> Ticket {
        let mut state = self.state.lock();
        let sequence = state.first + state.slots.len() as u64;
        state.slots.push_back(Slot { context, answer: None });
        drop(state);
        Ticket::new(Arc::clone(self) as Arc<dyn Deliver>, sequence)
    }

    /// Says how many answers the writer waits for from now on; it is one before anything is said.
    pub fn wait_for(&self, enough: Enough) {
        self.state.lock().enough = enough;
    }

    /// Moves all answers whose turn it is into `ready`, in order, if they are enough; `Ready(false)` once there will
    /// be no more.
    pub fn poll_answers(&self, cx: &mut Context<'_>, ready: &mut impl Extend<(C, Answer)>) -> Poll<bool> {
        let mut state = self.state.lock();
        let was_full = state.slots.len() >= self.window;
        if state.may_leave() {
            while let Some(Slot { context, answer: Some(answer) }) =
                state.slots.pop_front_if(|slot| slot.answer.is_some())
            {
                state.first += 1;
                state.answered -= 1;
                ready.extend([(context, answer)]);
            }
            let reader = if was_full { state.reader.take() } else { None };
            drop(state);
            if let Some(reader) = reader {
                reader.wake();
            }
            return Poll::Ready(true);
        }
        if state.finished && state.slots.is_empty() {
            return Poll::Ready(false);
        }
        keep(&mut state.writer, cx);
        Poll::Pending
    }

    /// Requests whose answers have not been taken.
    pub fn owed(&self) -> usize {
        self.state.lock().slots.len()
    }

    /// No more requests will come; answers that are owed still leave.
    pub fn finish(&self) {
        let writer = {
            let mut state = self.state.lock();
            state.finished = true;
            state.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// The client has gone: whoever still works for it may stop. Returns what was kept with the requests
    /// that nobody will answer to it.
    pub fn close(&self) -> impl Iterator<Item = C> {
        self.closed.store(true, Ordering::Release);
        let slots = {
            let mut state = self.state.lock();
            state.answered = 0;
            std::mem::take(&mut state.slots)
        };
        slots.into_iter().map(|slot| slot.context)
    }
}

/// Whoever waits has been woken, or waits again: mostly the same task.
fn keep(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

impl<C> State<C> {
    /// An answer behind an unanswered one leaves with it later; nobody needs to wake for it.
    fn may_leave(&self) -> bool {
        let is_first = self.slots.front().is_some_and(|slot| slot.answer.is_some());
        let Enough { answers, unless_left } = self.enough;
        let left = self.slots.len() - self.answered;
        is_first && (self.answered >= answers || left < unless_left || self.finished)
    }
}

impl<C: Send> Deliver for Mailbox<C> {
    fn deliver(&self, sequence: u64, answer: Answer, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        let index = sequence.checked_sub(state.first).and_then(|index| usize::try_from(index).ok());
        let Some(index) = index else { return };
        let Some(slot) = state.slots.get_mut(index) else { return };
        slot.answer = Some(answer);
        state.answered += 1;
        if state.may_leave()
            && let Some(writer) = state.writer.take()
        {
            wakes.add(writer, self.relay.as_ref());
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};
    use crate::reply::Wakes;
    use crate::reply::counter::Counter;

    fn error(text: &'static str) -> Answer {
        Err(Error::new(Code::InferenceFailed, text))
    }

    fn take(mailbox: &Mailbox<u32>, counter: &Arc<Counter>) -> (Poll<bool>, Vec<(u32, String)>) {
        let waker = Waker::from(Arc::clone(counter));
        let mut ready = Vec::new();
        let poll = mailbox.poll_answers(&mut Context::from_waker(&waker), &mut ready);
        (
            poll,
            ready.into_iter().map(|(context, answer)| (context, answer.unwrap_err().to_string())).collect(),
        )
    }

    #[test]
    fn answers_leave_in_the_order_of_requests_with_one_wake() {
        let counter = Arc::new(Counter::default());
        let mailbox = Mailbox::new(8);
        let [a, b, c] = [1, 2, 3].map(|context| mailbox.issue(context));
        assert_eq!(take(&mailbox, &counter), (Poll::Pending, vec![]));

        let mut wakes = Wakes::default();
        c.answer(error("c"), &mut wakes);
        assert_eq!(take(&mailbox, &counter), (Poll::Pending, vec![]));
        a.answer(error("a"), &mut wakes);
        b.answer(error("b"), &mut wakes);
        assert_eq!(counter.count(), 0, "wakes fire together");
        drop(wakes);
        assert_eq!(counter.count(), 1);
        let answers = vec![(1, "a".into()), (2, "b".into()), (3, "c".into())];
        assert_eq!(take(&mailbox, &counter), (Poll::Ready(true), answers));
    }

    #[test]
    fn a_writer_sleeps_until_there_is_enough() {
        let counter = Arc::new(Counter::default());
        let mailbox = Mailbox::new(8);
        let mut answer = |ticket: Ticket| {
            ticket.refuse(Error::new(Code::QueueFull, "full"));
            counter.count()
        };
        let mut tickets = (1..=6).map(|context| mailbox.issue(context));
        mailbox.wait_for(Enough { answers: 3, unless_left: 2 });
        let [a, b, c, d, e, f] = std::array::from_fn(|_| tickets.next().unwrap());
        assert_eq!(take(&mailbox, &counter), (Poll::Pending, vec![]));
        assert_eq!([b, c, d].map(&mut answer), [0; 3], "the first is not answered");
        assert_eq!(answer(a), 1);
        assert_eq!(take(&mailbox, &counter).1.len(), 4);
        assert_eq!(take(&mailbox, &counter), (Poll::Pending, vec![]));
        assert_eq!(answer(e), 2, "one is left, which is too few to wait for");
        assert_eq!(take(&mailbox, &counter).1.len(), 1);
        let _more = [7, 8, 9].map(|context| mailbox.issue(context));
        assert_eq!(take(&mailbox, &counter), (Poll::Pending, vec![]));
        assert_eq!(answer(f), 2);
        assert_eq!(take(&mailbox, &counter), (Poll::Pending, vec![]));
        mailbox.finish();
        assert_eq!(counter.count(), 3, "there will be no more");
        assert_eq!(take(&mailbox, &counter), (Poll::Ready(true), vec![(6, "full".into())]));
    }

    #[test]
    fn a_dropped_ticket_is_an_answer() {
        let counter = Arc::new(Counter::default());
        let mailbox = Mailbox::new(8);
        drop(mailbox.issue(1));
        let answers = vec![(1, "the request was lost inside the server".into())];
        assert_eq!(take(&mailbox, &counter), (Poll::Ready(true), answers));
    }

    #[test]
    fn a_full_window_wakes_its_reader_when_an_answer_leaves() {
        let (reader, writer) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let waker = Waker::from(Arc::clone(&reader));
        let mailbox = Mailbox::new(2);
        let mut cx = Context::from_waker(&waker);
        let first = mailbox.issue(1);
        assert!(mailbox.poll_room(&mut cx).is_ready());
        let _second = mailbox.issue(2);
        assert!(mailbox.poll_room(&mut cx).is_pending());
        first.refuse(Error::new(Code::QueueFull, "full"));
        assert_eq!(reader.count(), 0);
        let _ = take(&mailbox, &writer);
        assert_eq!(reader.count(), 1);
        assert!(mailbox.poll_room(&mut cx).is_ready());
    }

    #[test]
    fn a_finished_mailbox_gives_what_it_owes_then_ends() {
        let counter = Arc::new(Counter::default());
        let mailbox = Mailbox::new(2);
        let ticket = mailbox.issue(1);
        mailbox.finish();
        assert_eq!(take(&mailbox, &counter), (Poll::Pending, vec![]));
        ticket.refuse(Error::new(Code::ShuttingDown, "bye"));
        assert_eq!(take(&mailbox, &counter), (Poll::Ready(true), vec![(1, "bye".into())]));
        assert_eq!(take(&mailbox, &counter), (Poll::Ready(false), vec![]));
        let ticket = mailbox.issue(2);
        assert_eq!(mailbox.close().collect::<Vec<_>>(), [2]);
        assert!(ticket.is_gone());
    }
}
