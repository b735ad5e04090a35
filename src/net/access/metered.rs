//! An endpoint behind a pass: what the key may not ask is refused in its turn, before it is read.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::Pass;
use crate::net::connection::{Endpoint, Resume};
use crate::reply::{Answer, Mailbox};

pub struct Metered<'a, E> {
    inner: &'a E,
    pass: Option<Pass>,
}

impl<'a, E: Endpoint> Metered<'a, E> {
    pub fn new(inner: &'a E, pass: Option<Pass>) -> Self {
        Self { inner, pass }
    }
}

impl<E: Endpoint> Endpoint for Metered<'_, E> {
    type Context = E::Context;

    fn receive(&self, text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Self::Context>>) {
        match self.pass.as_ref().map_or(Ok(()), Pass::request) {
            Ok(()) => self.inner.receive(text, payload, mailbox),
            Err(error) => mailbox.issue(self.inner.unasked()).refuse(error),
        }
    }

    fn greet(&self, out: &mut BytesMut) {
        self.inner.greet(out);
    }

    fn resume(&self, mailbox: &Arc<Mailbox<Self::Context>>) -> Resume {
        self.inner.resume(mailbox)
    }

    fn is_stream(&self) -> bool {
        self.inner.is_stream()
    }

    fn unasked(&self) -> Self::Context {
        self.inner.unasked()
    }

    fn encode(&self, context: Self::Context, answer: Answer, out: &mut BytesMut) {
        self.inner.encode(context, answer, out);
    }

    fn warn(&self, left: Duration, out: &mut BytesMut) {
        self.inner.warn(left, out);
    }

    fn abandon(&self, context: Self::Context) {
        self.inner.abandon(context);
    }
}
