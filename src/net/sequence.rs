//! Requests that are steps of a sequence (`sequence_id`), on HTTP and on sockets alike.

use std::sync::Arc;

use super::infer::Pending;
use crate::clock::Clock;
use crate::error::{Code, Error};
use crate::protocol::{Sequence, SequenceId};
use crate::queue::Draft;
use crate::registry::Served;
use crate::reply::{Follow, Mailbox};
use crate::streams::{MAX_WAITING, Refusal, SequenceKey, SequenceStep};

/// Once a step is answered, the next one goes on its way.
struct Turn {
    served: Arc<Served>,
    key: SequenceKey,
    clock: Clock,
}

impl Follow for Turn {
    fn follow(self: Arc<Self>, _: Result<(), Code>) {
        let Some(sequences) = &self.served.sequences else { return };
        let now = self.clock.now();
        if let Some((lane, slot, (mut draft, ticket))) = sequences.done(&self.key, now) {
            draft.slot = Some(slot);
            draft.enqueued = now;
            self.served.submit(lane, draft, ticket);
        }
    }
}

impl From<Sequence> for SequenceStep {
    fn from(Sequence { id, start, end }: Sequence) -> Self {
        let key = match id {
            SequenceId::Number(number) => SequenceKey::Number(number),
            SequenceId::Text(text) => SequenceKey::Text(text),
        };
        Self { key, start, end }
    }
}

/// Sends a step on its way, or keeps it until those before it are done.
pub fn submit(
    sequence: Sequence,
    draft: Draft,
    pending: Pending,
    clock: Clock,
    mailbox: &Arc<Mailbox<Pending>>,
) {
    let served = Arc::clone(pending.served());
    let Some(sequences) = &served.sequences else {
        let message = "sequence_id was given, but the model keeps no state between requests";
        return mailbox.issue(pending).refuse(Error::new(Code::UnsupportedParameter, message));
    };
    let step = SequenceStep::from(sequence);
    let taken = sequences.step(&step, clock.now(), (draft, pending), |(mut draft, pending), slot| {
        draft.slot = Some(slot);
        let turn = Turn { served: Arc::clone(&served), key: step.key.clone(), clock };
        (draft, mailbox.issue(pending).then(Arc::new(turn)))
    });
    match taken {
        Ok(Some((lane, (draft, ticket)))) => served.submit(lane, draft, ticket),
        Ok(None) => {}
        Err(((_, pending), refusal)) => mailbox.issue(pending).refuse(match refusal {
            Refusal::NotStarted => {
                let message = "the sequence has not begun: its first request needs sequence_start";
                Error::new(Code::UnknownSequence, message)
            }
            Refusal::Behind => {
                let message = format!("{MAX_WAITING} steps of the sequence wait already");
                Error::new(Code::QueueFull, message)
            }
            Refusal::Full => {
                let capacity = served.streams.as_ref().map_or(0, |streams| streams.capacity());
                Error::new(Code::StreamsFull, format!("all {capacity} streams of the model are taken"))
            }
        }),
    }
}
