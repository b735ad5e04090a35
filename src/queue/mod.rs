//! Handing requests from connections to the lanes of a model.
//!
//! A bounded lock-free channel a model. What bounds it is admission: a request takes a place in the queue
//! and its bytes of the server's memory for requests before it is sent, so the channel itself never fills.

mod admission;
mod consumer;
mod producer;

pub use admission::{Memory, Permit, Places};
pub use consumer::{Consumer, Hang, Up, not_ready};
pub use producer::{Draft, Producer, channel};

use smallvec::SmallVec;

use crate::clock::Time;
use crate::error::Error;
use crate::reply::{Answer, Ticket, Wakes};
use crate::streams::Slot;
use crate::tensor::{GroupKey, Payload};

/// One request on its way to a lane. It owns all that it holds: dropping it gives back its place and its
/// memory, and answers its client.
pub struct Request {
    /// One for each input of the model's signature, in its order.
    pub payloads: SmallVec<[Payload; 2]>,
    pub rows: usize,
    pub key: GroupKey,
    /// Whose step it is, if the model keeps state for it.
    pub slot: Option<Slot>,
    /// 0 is the most urgent.
    pub priority: usize,
    pub enqueued: Time,
    pub deadline: Option<Time>,
    pub permit: Permit,
    pub ticket: Ticket,
}

impl Request {
    /// Gives back what it holds and answers it, in this order: what follows the answer may need the room.
    pub fn answer(self, answer: Answer, wakes: &mut Wakes) {
        let Self { payloads, permit, ticket, .. } = self;
        drop((payloads, permit));
        ticket.answer(answer, wakes);
    }

    /// Answers with an error and wakes the connection at once.
    pub fn refuse(self, error: Error) {
        self.answer(Err(error), &mut Wakes::default());
    }
}
