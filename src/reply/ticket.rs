//! The right, and the duty, to answer one request.

use std::sync::Arc;
use std::task::Waker;

use super::Answer;
use crate::error::{Code, Error};

/// Where answers go; erases what a connection keeps with each request.
pub(super) trait Deliver: Send + Sync {
    /// Takes the answer and returns the task to wake, if the answer is one that it can use now.
    fn deliver(&self, sequence: u64, answer: Answer) -> Option<Waker>;
    fn is_closed(&self) -> bool;
}

/// Answers one request, once: dropping it unused answers with an internal error.
pub struct Ticket {
    mailbox: Option<Arc<dyn Deliver>>,
    sequence: u64,
    /// Dropped once the answer is delivered.
    guard: Option<Box<dyn Send>>,
}

impl Ticket {
    pub(super) fn new(mailbox: Arc<dyn Deliver>, sequence: u64) -> Self {
        Self { mailbox: Some(mailbox), sequence, guard: None }
    }

    /// Holds on to something until the request has been answered, whoever answers it and how.
    #[must_use]
    pub fn guarded(self, guard: impl Send + 'static) -> Self {
        let mut ticket = self;
        ticket.guard = Some(Box::new(guard));
        ticket
    }

    /// Answers; the connection is woken when `wakes` is fired.
    pub fn answer(mut self, answer: Answer, wakes: &mut Wakes) {
        if let Some(mailbox) = self.mailbox.take() {
            wakes.0.extend(mailbox.deliver(self.sequence, answer));
        }
    }

    /// Answers with an error and wakes the connection at once.
    pub fn refuse(self, error: Error) {
        self.answer(Err(error), &mut Wakes::default());
    }

    /// Whether nobody waits for this answer any more.
    pub fn is_gone(&self) -> bool {
        self.mailbox.as_ref().is_none_or(|mailbox| mailbox.is_closed())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            let error = Error::new(Code::Internal, "the request was lost inside the server");
            if let Some(waker) = mailbox.deliver(self.sequence, Err(error)) {
                waker.wake();
            }
        }
        drop(self.guard.take());
    }
}

/// Connections to wake; fires when dropped.
#[derive(Default)]
pub struct Wakes(Vec<Waker>);

impl Drop for Wakes {
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}
