//! Drives one connection: bytes in and out of a socket, and an [`Exchange`] that says which.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::{Answer, Exchange};
use super::frame::{self, Fragments, Frame, Incoming};
use super::http::Reply;
use super::pacer::Alarm;
use super::tally::Tally;
use super::{Broken, Failure};
use crate::clock::{Clock, Time};

/// Room for what is received; it grows with the answers.
const ROOM: usize = 16 << 10;

/// What the bytes are.
pub enum Dialect {
    WebSocket(Fragments),
    Http,
}

/// A connection and what it needs.
pub struct Line<'a, S> {
    pub socket: S,
    pub dialect: Dialect,
    pub clock: Clock,
    pub alarm: Alarm,
    pub tally: &'a Mutex<Tally>,
    pub inbox: Inbox,
    pub out: Outbox,
}

/// What was received and not yet understood.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub fn with(bytes: Vec<u8>) -> Self {
        Self { start: 0, end: bytes.len(), bytes }
    }

    /// Reads once; how much.
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < ROOM / 4 {
            self.bytes.resize((2 * self.bytes.len()).max(ROOM), 0);
        }
        let mut buffer = ReadBuf::new(self.bytes.get_mut(self.end..).unwrap_or_default());
        std::task::ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    fn received(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// What waits to be sent.
#[derive(Default)]
pub struct Outbox {
    pub bytes: Vec<u8>,
    written: usize,
    /// TLS may keep what it has taken.
    unflushed: bool,
}

impl Outbox {
    /// Writes as much as the socket takes.
    fn poll_write<S: AsyncWrite + Unpin>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> io::Result<()> {
        while self.written < self.bytes.len() {
            let rest = self.bytes.get(self.written..).unwrap_or_default();
            match Pin::new(&mut *socket).poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => (self.written, self.unflushed) = (self.written + count, true),
                Poll::Pending => {
                    self.bytes.drain(..self.written);
                    self.written = 0;
                    return Ok(());
                }
            }
        }
        self.bytes.clear();
        self.written = 0;
        if self.unflushed {
            self.unflushed = Pin::new(socket).poll_flush(cx)?.is_pending();
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<'_, S> {
    /// Sends what is due and takes what is answered, until all is done or `end` has come.
    pub async fn run(&mut self, exchange: &mut Exchange, end: Time) -> Result<(), Failure> {
        poll_fn(|cx| self.poll(exchange, end, cx)).await
    }

    fn poll(
        &mut self,
        exchange: &mut Exchange,
        end: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            let now = self.clock.now();
            // What came with the handshake, or with the read before.
            self.understand(exchange, now)?;
            if now >= end || exchange.is_done(now) {
                return Poll::Ready(Ok(()));
            }
            exchange.send_due(now, &mut self.out.bytes, &mut self.tally.lock());
            self.out.poll_write(&mut self.socket, cx)?;
            match self.inbox.poll_read(&mut self.socket, cx)? {
                Poll::Ready(0) => return Poll::Ready(Err("ended without a close frame".into())),
                Poll::Ready(_) => continue,
                Poll::Pending => {}
            }
            if exchange.is_held_back() && exchange.has_room(self.out.bytes.len()) {
                continue;
            }
            let wake = exchange.wake().map_or(end, |wake| wake.min(end));
            if self.alarm.poll_until(wake, cx)?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Takes all answers that are there.
    fn understand(&mut self, exchange: &mut Exchange, now: Time) -> Result<(), Failure> {
        if self.inbox.received().is_empty() {
            return Ok(());
        }
        let tally = &mut self.tally.lock();
        loop {
            let bytes = self.inbox.received();
            let size = match &mut self.dialect {
                Dialect::WebSocket(fragments) => {
                    let Some(frame) = Frame::parse(bytes)? else { return Ok(()) };
                    match fragments.take(&frame, bytes)? {
                        Incoming::Message { text, payload } => {
                            let answer = Answer::of_message(text, payload)
                                .ok_or(Broken::new("a binary message that is cut"))?;
                            exchange.answer(now, &answer, tally);
                        }
                        Incoming::Ping(payload) => {
                            frame::append(&mut self.out.bytes, frame::PONG, payload);
                        }
                        Incoming::Close(payload) => return Err(farewell(payload).into()),
                        Incoming::Nothing => {}
                    }
                    frame.payload.end
                }
                Dialect::Http => {
                    let Some(reply) = Reply::parse(bytes)? else { return Ok(()) };
                    let body = bytes.get(reply.body.clone()).unwrap_or_default();
                    let json = reply.json.unwrap_or(body.len());
                    let (json, data) =
                        body.split_at_checked(json).ok_or(Broken::new("an answer that is cut"))?;
                    exchange.answer(now, &Answer { json, data, status: Some(reply.status) }, tally);
                    if reply.last {
                        return Err("the server ends the connection".into());
                    }
                    reply.body.end
                }
            };
            tally.received_bytes += size as u64;
            self.inbox.start += size;
        }
    }

    /// Says goodbye, and waits for the server's, so that its places are free for the next step.
    pub async fn close(&mut self) {
        if matches!(self.dialect, Dialect::Http) {
            return;
        }
        frame::append(&mut self.out.bytes, frame::CLOSE, &1000u16.to_be_bytes());
        let _ = poll_fn(|cx| -> Poll<io::Result<()>> {
            loop {
                self.out.poll_write(&mut self.socket, cx)?;
                self.inbox.start = self.inbox.end;
                if std::task::ready!(self.inbox.poll_read(&mut self.socket, cx)?) == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await;
    }
}

fn farewell(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, reason)) => {
            let reason = String::from_utf8_lossy(reason);
            format!("closed with {} {reason}", u16::from_be_bytes(*code)).trim_end().to_owned()
        }
        None => "closed without a code".to_owned(),
    }
}
