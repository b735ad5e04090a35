//! The connections' end of a model's queue.

use crossbeam_channel::{Receiver, Sender, TrySendError};
use smallvec::SmallVec;

use super::consumer::{Consumer, End, not_ready, refuse_all};
use super::{Memory, Permit, Places, Request};
use crate::clock::Time;
use crate::error::{Code, Error};
use crate::reply::Ticket;
use crate::streams::Slot;
use crate::tensor::{GroupKey, Payload};

/// A request that has not been admitted yet.
pub struct Draft {
    pub payloads: SmallVec<[Payload; 2]>,
    pub rows: usize,
    pub key: GroupKey,
    pub slot: Option<Slot>,
    pub priority: usize,
    pub enqueued: Time,
    pub deadline: Option<Time>,
}

#[cfg(test)]
impl Draft {
    /// A row of nothing.
    pub fn empty() -> Self {
        Self {
            payloads: SmallVec::new(),
            rows: 1,
            key: GroupKey::default(),
            slot: None,
            priority: 0,
            enqueued: Time::default(),
            deadline: None,
        }
    }
}

/// Sends requests to the lanes of one model.
#[derive(Clone)]
pub struct Producer {
    sender: Sender<Request>,
    /// For what is sent while the lanes end.
    receiver: Receiver<Request>,
    end: End,
    places: Places,
    memory: Memory,
}

/// A model's queue: its producing end, to clone for connections, and its consuming end, which its lanes share.
pub fn channel(places: Places, memory: Memory) -> (Producer, Consumer) {
    let (sender, receiver) = crossbeam_channel::bounded(places.limit());
    let end = End::default();
    let consumer = Consumer { requests: receiver.clone(), end: end.clone() };
    (Producer { sender, receiver, end, places, memory }, consumer)
}

impl Producer {
    /// Hands a request over. If it cannot be accepted, its ticket is answered with the reason.
    pub fn submit(&self, draft: Draft, ticket: Ticket) {
        // Before it is sent: emptying the channel answers steps of streams, whose next ones come here again.
        if !self.is_open() {
            return ticket.refuse(not_ready());
        }
        let bytes = draft.payloads.iter().map(Payload::charge).sum();
        let permit = match Permit::take(&self.places, &self.memory, bytes) {
            Ok(permit) => permit,
            Err(error) => return ticket.refuse(error),
        };
        let Draft { payloads, rows, key, slot, priority, enqueued, deadline } = draft;
        let request = Request { payloads, rows, key, slot, priority, enqueued, deadline, permit, ticket };
        match self.sender.try_send(request) {
            Ok(()) if !self.is_open() => refuse_all(&self.receiver),
            Ok(()) => {}
            // The channel has a slot for each place, of which this request holds one, and a receiver is here.
            Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => {
                request.ticket.refuse(Error::new(Code::Internal, "the queue holds more than its places"));
            }
        }
    }

    /// Lanes that are at work; one that has failed is none until it is back.
    pub fn lanes(&self) -> usize {
        self.end.lanes()
    }

    /// Whether requests will be taken, at once or when a lane is back.
    pub fn is_open(&self) -> bool {
        self.end.is_open()
    }

    /// Requests that may wait.
    pub fn places(&self) -> usize {
        self.places.limit()
    }

    /// Requests that wait.
    pub fn depth(&self) -> usize {
        self.places.used()
    }
}
