//! The connections' end of a model's queue.

use crossbeam_channel::{Receiver, Sender, TrySendError};
use smallvec::SmallVec;

use super::{Memory, Permit, Places, Request};
use crate::clock::Time;
use crate::error::{Code, Error};
use crate::reply::Ticket;
use crate::tensor::{GroupKey, Payload};

/// A request that has not been admitted yet.
pub struct Draft {
    pub payloads: SmallVec<[Payload; 2]>,
    pub rows: usize,
    pub key: GroupKey,
    pub priority: usize,
    pub enqueued: Time,
    pub deadline: Option<Time>,
}

/// Sends requests to the lanes of one model.
#[derive(Clone)]
pub struct Producer {
    sender: Sender<Request>,
    places: Places,
    memory: Memory,
}

/// A model's queue: its producing end, to clone for connections, and its consuming end, to clone for lanes.
pub fn channel(places: Places, memory: Memory) -> (Producer, Receiver<Request>) {
    let (sender, receiver) = crossbeam_channel::bounded(places.limit());
    (Producer { sender, places, memory }, receiver)
}

impl Producer {
    /// Hands a request over. If it cannot be accepted, its ticket is answered with the reason.
    pub fn submit(&self, draft: Draft, ticket: Ticket) {
        let bytes = draft.payloads.iter().map(Payload::len).sum();
        let permit = match Permit::take(&self.places, &self.memory, bytes) {
            Ok(permit) => permit,
            Err(error) => return ticket.refuse(error),
        };
        let Draft { payloads, rows, key, priority, enqueued, deadline } = draft;
        let request = Request { payloads, rows, key, priority, enqueued, deadline, permit, ticket };
        match self.sender.try_send(request) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(request)) => {
                request.ticket.refuse(Error::new(Code::ModelNotReady, "the model's instances have ended"));
            }
            // The channel has a slot for each place, and this request holds a place.
            Err(TrySendError::Full(request)) => {
                request.ticket.refuse(Error::new(Code::Internal, "the queue holds more than its places"));
            }
        }
    }

    /// Requests that wait.
    pub fn depth(&self) -> usize {
        self.places.used()
    }
}
