//! An endpoint behind a pass: what the key may not ask is refused in its turn, before it is read; and all that goes
//! through is counted for the line that tells of the visit.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::Pass;
use crate::clock::Time;
use crate::net::connection::{Endpoint, Resume};
use crate::net::visit::Visit;
use crate::reply::{Answer, Mailbox};

pub struct Metered<'a, E> {
    inner: &'a E,
    pass: Option<Pass>,
    visit: &'a Visit,
}

impl<'a, E: Endpoint> Metered<'a, E> {
    pub fn new(inner: &'a E, pass: Option<Pass>, visit: &'a Visit) -> Self {
        Self { inner, pass, visit }
    }
}

impl<E: Endpoint> Endpoint for Metered<'_, E> {
    type Context = E::Context;

    fn receive(&self, text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Self::Context>>) {
        self.visit.received.count(1, payload.len());
        match self.pass.as_ref().map_or(Ok(()), Pass::request) {
            Ok(()) => self.inner.receive(text, payload, mailbox),
            Err(error) => mailbox.issue(self.inner.unasked()).refuse(error),
        }
    }

    fn greet(&self, out: &mut BytesMut) {
        self.inner.greet(out);
        self.visit.sent.count(u64::from(!out.is_empty()), out.len());
    }

    fn resume(&self, mailbox: &Arc<Mailbox<Self::Context>>) -> Resume {
        self.inner.resume(mailbox)
    }

    fn is_stream(&self) -> bool {
        self.inner.is_stream()
    }

    fn is_sequential(&self) -> bool {
        self.inner.is_sequential()
    }

    fn unasked(&self) -> Self::Context {
        self.inner.unasked()
    }

    fn encode(&self, context: Self::Context, answer: Answer, now: Time, out: &mut BytesMut) {
        let before = out.len();
        self.visit.message(self.inner.id(&context), answer.as_ref().err());
        self.inner.encode(context, answer, now, out);
        self.visit.sent.count(u64::from(out.len() > before), out.len() - before);
    }

    fn id<'c>(&self, context: &'c Self::Context) -> Option<&'c str> {
        self.inner.id(context)
    }

    fn now(&self) -> Time {
        self.inner.now()
    }

    fn encoded(&self, begun: Time) {
        self.inner.encoded(begun);
    }

    fn warn(&self, left: Duration, out: &mut BytesMut) {
        self.inner.warn(left, out);
    }

    fn abandon(&self, context: Self::Context) {
        self.inner.abandon(context);
    }
}
