//! One WebSocket connection: a reading and a writing half, in one task.
//!
//! The reader turns messages into requests and stops when the window of unanswered ones is full. The writer
//! takes all answers that are ready, encodes them into one buffer and sends it with one system call. They
//! meet in the mailbox. Both are polled by one task, so that a batch of answers costs one wake.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::control::{Asked, Control, End};
use super::drain::{self, Phase};
use super::hold::Hold;
use super::keepalive::Keepalive;
use super::parting::{self, Rest};
use super::patience::Patience;
use super::socket::{
    Counted, Event, MessageReader, Violation, append_close, append_control, close, split_frames,
};
use super::timer::Timer;
use crate::clock::Time;
use crate::error::{Code, Error};
use crate::metrics::Metrics;
use crate::reply::{Answer, Enough, Mailbox, Relay};

/// Encoded answers are sent once there are so many bytes of them, or no more answers.
const SEND_AT: usize = 64 << 10;

/// A buffer that one large answer has grown is not kept beyond this.
const KEEP_BUFFER: usize = 256 << 10;

/// What one endpoint makes of messages and answers.
pub trait Endpoint: Send + Sync {
    /// What is kept with each request until its answer is encoded.
    type Context: Send + 'static;

    /// What the server says before anything is asked.
    fn greet(&self, out: &mut BytesMut);

    /// Takes a message in, by issuing a ticket and seeing to it that it is answered.
    fn receive(&self, text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Self::Context>>);

    /// Makes one more request of what has been received; asked before anything more is read.
    fn resume(&self, _mailbox: &Arc<Mailbox<Self::Context>>) -> Resume {
        Resume::Read
    }

    /// Whether the connection has a state of its own, so that its client may choose when to move.
    fn is_stream(&self) -> bool {
        false
    }

    /// Whether a request runs only when the one before it has been answered.
    fn is_sequential(&self) -> bool;

    /// What to keep with an error that no request caused.
    fn unasked(&self) -> Self::Context;

    /// The id that the client gave the request.
    fn id<'c>(&self, _context: &'c Self::Context) -> Option<&'c str> {
        None
    }

    /// Appends the frame that answers a request; `now` is when those that leave with it began to be encoded.
    fn encode(&self, context: Self::Context, answer: Answer, now: Time, out: &mut BytesMut);

    /// The moment, for [`Endpoint::encode`] and [`Endpoint::encoded`].
    fn now(&self) -> Time {
        Time::default()
    }

    /// Answers that leave together have been encoded, from that moment on.
    fn encoded(&self, _begun: Time) {}

    /// Tells the client that it will be let go unless it sends something.
    fn warn(&self, _left: Duration, _out: &mut BytesMut) {}

    /// The client left without this answer.
    fn abandon(&self, context: Self::Context);
}

/// What an endpoint wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Another message.
    Read,
    /// To be asked again: it has made a request, and may make more.
    Again,
    /// The end of the connection, once all that is owed has been sent.
    Close,
}

/// The bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_message_size: usize,
    /// Messages of ours beyond it leave in fragments; 0: they never do.
    pub max_frame_size: usize,
    pub window: usize,
    pub keepalive: Keepalive,
    pub patience: Patience,
}

/// Serves a connection to its end and returns the close code it ended with.
pub async fn serve<R, W, E>(
    read: R,
    mut write: W,
    endpoint: &E,
    limits: Limits,
    metrics: &Metrics,
    phases: watch::Receiver<Phase>,
    relay: &Arc<Relay>,
) -> u16
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    E: Endpoint,
{
    // Held to the end: the server waits until the client has our close frame, too.
    let open = phases.clone();
    let mailbox = Mailbox::through(limits.window, Arc::clone(relay));
    let control = Control::new();
    let mut ready = VecDeque::new();
    let mut messages = MessageReader::new(Counted::new(read, &control.reads), limits.max_message_size);
    let end = {
        let mut reader = pin!(read_half(&mut messages, endpoint, &mailbox, &control, metrics));
        let mut writer =
            pin!(write_half(&mut write, endpoint, limits, &mailbox, &control, metrics, &mut ready));
        let mut leaving = pin!(drain::follow(phases, endpoint.is_stream(), &control));
        let (mut follows, mut leaves) = (false, false);
        let mut timer = Timer::new(&limits);
        let mut end = None;
        let mut poll = |cx: &mut Context<'_>| {
            if end.is_none() {
                // Before the reader, which is told by it. Once it waits for the next phase, asking for that is cheaper.
                let waits = follows && matches!(open.has_changed(), Ok(false));
                if !leaves && !waits {
                    (follows, leaves) = (true, leaving.as_mut().poll(cx).is_ready());
                }
                end = match reader.as_mut().poll(cx) {
                    Poll::Ready(end) => Some(end),
                    Poll::Pending => timer.poll(cx, &control, metrics),
                };
                match end {
                    Some(End::Gone) => return Poll::Ready(End::Gone),
                    Some(End::Close { .. }) => {
                        // What is owed still leaves, but only as long as the client takes it.
                        control.listen(false);
                        mailbox.finish();
                    }
                    None => {}
                }
            } else if timer.poll(cx, &control, metrics) == Some(End::Gone) {
                return Poll::Ready(End::Gone);
            }
            match writer.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(end.unwrap_or(End::Gone)),
                Poll::Ready(Err(_)) => Poll::Ready(End::Gone),
                Poll::Pending => {
                    // What the writer has begun to send just now has its time from now on.
                    if timer.lags(&control) {
                        cx.waker().wake_by_ref();
                    }
                    Poll::Pending
                }
            }
        };
        // A fault in what one client's messages lead to ends that client's connection, and says so.
        poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| poll(cx))).unwrap_or_else(|_| {
                tracing::error!("a connection failed; the panic is above");
                let reason = "the server failed on this connection";
                Poll::Ready(End::Close { code: close::INTERNAL, reason, rest: Rest::Anything })
            })
        })
        .await
    };
    mailbox
        .close()
        .chain(ready.into_iter().map(|(context, _)| context))
        .for_each(|context| endpoint.abandon(context));
    match end {
        End::Gone => close::ABNORMAL,
        End::Close { code, reason, rest } => {
            let mut close = BytesMut::new();
            append_close(&mut close, code, reason);
            parting::part(&mut write, &mut messages, &close, rest).await;
            code
        }
    }
}

async fn read_half<R: AsyncRead + Unpin, E: Endpoint>(
    messages: &mut MessageReader<R>,
    endpoint: &E,
    mailbox: &Arc<Mailbox<E::Context>>,
    control: &Control,
    metrics: &Metrics,
) -> End {
    loop {
        control.listen(false);
        poll_fn(|cx| mailbox.poll_room(cx)).await;
        control.listen(true);
        match endpoint.resume(mailbox) {
            Resume::Read => {}
            Resume::Again => continue,
            Resume::Close => {
                return End::Close { code: close::NORMAL, reason: "", rest: Rest::ItsClose };
            }
        }
        let event = loop {
            match messages.received().transpose() {
                Some(event) => break event,
                None => control.begin_message(messages.begun()),
            }
            let mut filled = pin!(messages.fill());
            let filled = poll_fn(|cx| match control.is_leaving() {
                true => Poll::Ready(None),
                false => filled.as_mut().poll(cx).map(Some),
            });
            match filled.await {
                Some(Ok(())) => {}
                Some(Err(gone)) => break Err(gone),
                None => {
                    let reason = "the server is closing";
                    return End::Close { code: close::GOING_AWAY, reason, rest: Rest::ItsClose };
                }
            }
        };
        match event {
            Ok(Event::Message { text, payload }) => {
                metrics.net.received.count(1, payload.len());
                control.messages.add(1);
                endpoint.receive(text, payload, mailbox);
            }
            Ok(Event::Ping(payload)) => control.ask(|asked| asked.pong(payload)),
            Ok(Event::Pong) => {}
            Ok(Event::Close(code)) => {
                let code = code.unwrap_or(close::NORMAL);
                return End::Close { code, reason: "", rest: Rest::Nothing };
            }
            Err(Violation::Protocol(code, reason)) => {
                if code == close::TOO_BIG {
                    let limit = messages.limit();
                    let message = format!("the message is larger than the limit of {limit} bytes");
                    mailbox.issue(endpoint.unasked()).refuse(Error::new(Code::MessageTooLarge, message));
                }
                return End::Close { code, reason, rest: Rest::Anything };
            }
            Err(Violation::Gone) => return End::Gone,
        }
    }
}

async fn write_half<W: AsyncWrite + Unpin, E: Endpoint>(
    write: &mut W,
    endpoint: &E,
    limits: Limits,
    mailbox: &Mailbox<E::Context>,
    control: &Control,
    metrics: &Metrics,
    ready: &mut VecDeque<(E::Context, Answer)>,
) -> std::io::Result<()> {
    let write = &mut Counted::new(write, &control.writes);
    let mut out = BytesMut::new();
    let mut hold = Hold::default();
    endpoint.greet(&mut out);
    send(write, &mut out, control).await?;
    loop {
        let turn = poll_fn(|cx| {
            if let Some(Asked { pongs, ping, warning }) = control.asked() {
                pongs.iter().for_each(|payload| append_control(&mut out, OpCode::Pong, &[payload]));
                if ping {
                    append_control(&mut out, OpCode::Ping, &[]);
                }
                if let Some(left) = warning {
                    endpoint.warn(left, &mut out);
                }
                return Poll::Ready(Turn::Send);
            }
            if !ready.is_empty() {
                return Poll::Ready(Turn::Encode);
            }
            loop {
                match mailbox.poll_answers(cx, ready) {
                    Poll::Ready(true) => return Poll::Ready(Turn::Encode),
                    Poll::Ready(false) => return Poll::Ready(Turn::End),
                    Poll::Pending => ready!(hold.poll_over(cx)),
                }
                mailbox.wait_for(Enough::default());
            }
        })
        .await;
        match turn {
            Turn::End => return Ok(()),
            Turn::Send => {}
            Turn::Encode => {
                let begun = endpoint.now();
                while out.len() < SEND_AT
                    && let Some((context, answer)) = ready.pop_front()
                {
                    let before = out.len();
                    endpoint.encode(context, answer, begun, &mut out);
                    split_frames(&mut out, before, limits.max_frame_size);
                    // An endpoint may have nothing to say: a stream of events, where there is none.
                    let length = out.len() - before;
                    metrics.net.sent.count(u64::from(length > 0), length);
                }
                endpoint.encoded(begun);
            }
        }
        send(write, &mut out, control).await?;
        if turn == Turn::Encode && endpoint.is_sequential() {
            mailbox.wait_for(hold.next(mailbox.owed()));
        }
    }
}

/// What a writer does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Encode,
    Send,
    End,
}

async fn send(
    write: &mut (impl AsyncWrite + Unpin),
    out: &mut BytesMut,
    control: &Control,
) -> std::io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    control.begin_send();
    write.write_all(out).await?;
    // TLS keeps what the socket has no room for.
    write.flush().await?;
    control.end_send();
    if out.capacity() > KEEP_BUFFER {
        *out = BytesMut::new();
    }
    out.clear();
    Ok(())
}
