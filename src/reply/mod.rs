//! Exactly one answer for each request, grouped by connection.
//!
//! A connection owns a [`Mailbox`]; each request it sends on takes a [`Ticket`] along. Answers may come in
//! any order and from any thread, they leave the mailbox in the order of the tickets. Whoever answers
//! collects the wakes they cause and fires them once all answers of a batch lie in their mailboxes, so that
//! a connection is woken once for a batch, not once for each of its requests; and all connections of a batch
//! by one wake of a [`Relay`].

#[cfg(test)]
mod counter;
mod mailbox;
mod relay;
mod ticket;

pub use mailbox::{Enough, Mailbox};
pub use relay::Relay;
pub use ticket::{Follow, Ticket, Wakes};

use crate::error::Error;
use crate::tensor::Rows;

/// The one terminal answer of a request.
pub type Answer = Result<Rows, Error>;
