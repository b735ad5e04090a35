//! The right, and the duty, to answer one request.

use std::sync::Arc;
use std::task::Waker;

use super::{Answer, Relay};
use crate::error::{Code, Error};

/// Where answers go; erases what a connection keeps with each request.
pub(super) trait Deliver: Send + Sync {
    /// Takes the answer, and collects the task to wake if the answer is one that it can use now.
    fn deliver(&self, sequence: u64, answer: Answer, wakes: &mut Wakes);
    fn is_closed(&self) -> bool;
}

/// Goes on where a request has been answered: with the next step of what it was a step of.
pub trait Follow: Send + Sync {
    /// The answer has been delivered, whoever gave it. Rows are `Ok`, an error is its code.
    fn follow(self: Arc<Self>, end: Result<(), Code>);
}

/// Answers one request, once: dropping it unused answers with an internal error.
pub struct Ticket {
    mailbox: Option<Arc<dyn Deliver>>,
    sequence: u64,
    next: Option<Arc<dyn Follow>>,
}

impl Ticket {
    pub(super) fn new(mailbox: Arc<dyn Deliver>, sequence: u64) -> Self {
        Self { mailbox: Some(mailbox), sequence, next: None }
    }

    /// Has somebody go on once the request is answered.
    #[must_use]
    pub fn then(self, next: Arc<dyn Follow>) -> Self {
        let mut ticket = self;
        ticket.next = Some(next);
        ticket
    }

    /// Answers; the connection is woken when `wakes` is fired.
    pub fn answer(mut self, answer: Answer, wakes: &mut Wakes) {
        self.deliver(answer, wakes);
    }

    /// Answers with an error and wakes the connection at once.
    pub fn refuse(self, error: Error) {
        self.answer(Err(error), &mut Wakes::default());
    }

    /// Whether nobody waits for this answer any more.
    pub fn is_gone(&self) -> bool {
        self.mailbox.as_ref().is_none_or(|mailbox| mailbox.is_closed())
    }

    fn deliver(&mut self, answer: Answer, wakes: &mut Wakes) {
        let Some(mailbox) = self.mailbox.take() else { return };
        let Some(next) = self.next.take() else { return mailbox.deliver(self.sequence, answer, wakes) };
        let end = answer.as_ref().map(|_| ()).map_err(|error| error.code);
        mailbox.deliver(self.sequence, answer, wakes);
        next.follow(end);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.mailbox.is_some() {
            let error = Error::new(Code::Internal, "the request was lost inside the server");
            self.deliver(Err(error), &mut Wakes::default());
        }
    }
}

/// Connections to wake; fires when dropped.
#[derive(Default)]
pub struct Wakes {
    wakers: Vec<Waker>,
    /// Where they live, if that is known of one of them.
    relay: Option<Arc<Relay>>,
}

impl Wakes {
    pub(super) fn add(&mut self, waker: Waker, relay: Option<&Arc<Relay>>) {
        self.wakers.push(waker);
        if self.relay.is_none() {
            self.relay = relay.map(Arc::clone);
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let wakers = std::mem::take(&mut self.wakers);
        match &self.relay {
            Some(relay) if wakers.len() > 1 => relay.pass(wakers),
            _ => wakers.into_iter().for_each(Waker::wake),
        }
    }
}
