//! Streams of a signal: messages are pieces of it, cut anywhere, and its windows are the steps of a stream.
//!
//! A stream has one step in flight. Its further windows wait, in order and no more than the
//! connection's window; then the socket is read no further. So a stream that floods has one place in the
//! lane's queue, like every other, and takes its turns.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use parking_lot::Mutex;
use serde_json::json;
use smallvec::{SmallVec, smallvec};

use super::command::Command;
use super::source::Source;
use super::steps::Steps;
use super::{Choices, greet, scores, text, views, warn};
use crate::clock::{Clock, Time};
use crate::error::{Code, Error, Result};
use crate::metrics::Outcome;
use crate::net::connection::{Endpoint, Limits, Resume};
use crate::net::infer::append_error;
use crate::net::socket::append_frame;
use crate::protocol::{self, Happened, ResponseHead, Span};
use crate::queue::Draft;
use crate::registry::{Served, SignalStream, Telling};
use crate::reply::{Answer, Mailbox, Wakes};
use crate::signal::{Encoding, Event, Events, Framer, Window};
use crate::streams::Seat;
use crate::tensor::{Payload, Rows};
use crate::trace::{self, Talk};

pub struct SignalEndpoint {
    served: Arc<Served>,
    stream: SignalStream,
    source: Source,
    window_encoding: Encoding,
    choices: Choices,
    limits: Limits,
    clock: Clock,
    state: Mutex<State>,
    queue: Steps,
    talk: Option<Box<Talk>>,
}

/// What changes from message to message; both halves of the connection touch it.
struct State {
    /// The stream's row of the lane's state, where the model keeps any.
    seat: Option<Seat>,
    framer: Framer,
    steps: u64,
    events: Option<Events>,
    /// A control message that was carried out, to be told behind the windows before it.
    done: Option<Done>,
    /// The client asked to close, and the signal has been flushed.
    closing: bool,
}

/// What a control message did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Flushed,
    Reset,
}

/// What is kept with each answer that is owed.
pub enum Owed {
    Step {
        seq: u64,
        window: (u64, u64),
        arrived: Time,
        span: Option<Box<trace::Span>>,
    },
    /// A control message was carried out.
    Done(Done),
    /// A message could not be understood.
    Refused,
}

impl SignalEndpoint {
    pub fn new(
        served: Arc<Served>,
        stream: SignalStream,
        source: Source,
        choices: Choices,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self> {
        if !served.is_open() {
            return Err(Error::new(Code::ModelNotReady, "an instance of the model has ended or hangs"));
        }
        let framer = source.framer(&stream)?;
        let window_encoding = source.window_encoding(&stream);
        let seat = match &served.streams {
            Some(streams) => Some(served.open_stream(clock.now()).ok_or_else(|| {
                let message = format!("all {} streams of the model are taken", streams.capacity());
                Error::new(Code::StreamsFull, message)
            })?),
            None => None,
        };
        let events = match &served.output {
            Some(Telling::Events(rule)) => Some(Events::new(&rule.hysteresis, stream.sample_rate)?),
            _ => None,
        };
        let queue = Steps::new(Arc::clone(&served), seat.as_ref().map_or(0, Seat::lane), clock);
        let state = Mutex::new(State { seat, framer, steps: 0, events, done: None, closing: false });
        Ok(Self { served, stream, source, window_encoding, choices, limits, clock, state, queue, talk: None })
    }

    /// Traces the steps that are sampled, if there are traces.
    #[must_use]
    pub fn traced(self, talk: Option<Box<Talk>>) -> Self {
        Self { talk, ..self }
    }

    /// Carries out a text message.
    fn control(&self, message: &[u8], mailbox: &Arc<Mailbox<Owed>>) {
        let mut state = self.state.lock();
        let done = match Command::read(message) {
            // A sample that is cut in the middle cannot be completed, and is dropped.
            Some(Command::Flush) => state.framer.flush().map(|_| Done::Flushed),
            Some(Command::Reset) => {
                state.reset();
                Ok(Done::Reset)
            }
            Some(Command::Close) => {
                state.closing = true;
                state.framer.flush().map(|_| Done::Flushed)
            }
            None => {
                let message = r#"a text message is {"type":"flush"}, {"type":"reset"} or {"type":"close"}"#;
                Err(Error::new(Code::UnknownControl, message))
            }
        };
        drop(state);
        match done {
            // The answer's turn comes behind the windows that are still to be taken.
            Ok(done) => self.state.lock().done = Some(done),
            Err(error) => mailbox.issue(Owed::Refused).refuse(error),
        }
    }

    fn step(&self, state: &mut State, window: Window, mailbox: &Arc<Mailbox<Owed>>) {
        let arrived = self.clock.now();
        let span = self.talk.as_ref().and_then(|talk| super::begin(talk, state.steps, arrived));
        let window_of = (window.start, window.end);
        let owed = Owed::Step { seq: state.steps, window: window_of, arrived, span };
        state.steps += 1;
        let draft = Draft {
            payloads: smallvec![Payload::Signal(self.window_encoding, window.row)],
            rows: 1,
            key: self.stream.key.clone(),
            slot: state.seat.as_ref().map(Seat::slot),
            priority: self.served.level(0).unwrap_or(0),
            enqueued: arrived,
            deadline: None,
        };
        self.queue.push(draft, mailbox.issue(owed));
    }

    fn write(&self, seq: u64, window: (u64, u64), rows: &Rows, out: &mut BytesMut) -> Result<()> {
        let (start_ms, end_ms) = (self.ms(window.0), self.ms(window.1));
        let span = Span { start_ms, end_ms };
        if self.choices.binary {
            let Served { name, version_text, .. } = &*self.served;
            let id = seq.to_string();
            let head = ResponseHead { model: name, version: version_text, id: Some(&id) };
            let views = views(&self.served, rows);
            return append_frame(out, OpCode::Binary, |out| protocol::encode_binary(out, &head, &views));
        }
        let rule = match &self.served.output {
            Some(Telling::Events(rule)) => rule,
            Some(Telling::Classes(labels)) => {
                let scores = scores(rows, labels.output)?;
                return text(out, |out| {
                    protocol::encode_told(out, seq, Some(span), &labels.tell(&scores));
                });
            }
            None => {
                let views = views(&self.served, rows);
                return append_frame(out, OpCode::Text, |out| {
                    protocol::encode_result(out, seq, Some(span), &views)
                });
            }
        };
        let probability = scores(rows, rule.output)?.first().copied().unwrap_or(f32::NAN);
        let told = |events: &mut Events| events.step(probability, window.0..window.1);
        let told = self.state.lock().events.as_mut().map(told).unwrap_or_default();
        let happened = self.happened(&rule.name, &told);
        if self.choices.events_only && happened.is_empty() {
            return Ok(());
        }
        text(out, |out| protocol::encode_happened(out, seq, span, probability, &happened))
    }

    /// Tells that a control message was carried out: the end of a signal ends what was still going on.
    fn write_done(&self, done: Done, out: &mut BytesMut) -> Result<()> {
        let mut state = self.state.lock();
        let ended = match (done, &mut state.events) {
            (Done::Flushed, Some(events)) => events.finish(),
            (Done::Reset, Some(events)) => {
                events.reset();
                SmallVec::new()
            }
            (_, None) => SmallVec::new(),
        };
        let name = match &self.served.output {
            Some(Telling::Events(rule)) => &*rule.name,
            _ => "",
        };
        let what = if done == Done::Flushed { "flushed" } else { "reset" };
        text(out, |out| protocol::encode_done(out, what, &self.happened(name, &ended)))
    }

    fn happened<'a>(&self, name: &'a str, events: &[Event]) -> SmallVec<[Happened<'a>; 2]> {
        let happened = events.iter().map(|event| match *event {
            Event::Start { at } => Happened { name, what: "start", at_ms: self.ms(at) },
            Event::End { at } => Happened { name, what: "end", at_ms: self.ms(at) },
        });
        happened.collect()
    }

    #[allow(clippy::cast_precision_loss, reason = "2^53 samples are millennia")]
    fn ms(&self, sample: u64) -> f64 {
        sample as f64 * 1000.0 / f64::from(self.stream.sample_rate)
    }
}

impl State {
    /// The signal begins anew; steps that wait belong to what came before.
    fn reset(&mut self) {
        self.framer.reset();
        if let Some(seat) = &mut self.seat {
            seat.reset();
        }
    }
}

impl Endpoint for SignalEndpoint {
    type Context = Owed;

    fn greet(&self, out: &mut BytesMut) {
        let input = json!({
            "encoding": self.source.encoding().as_str(),
            "encodings": self.stream.encodings,
            "sample_rate": self.source.sample_rate(),
            "channels": 1,
            "window": self.stream.frames.window(),
            "hop": self.stream.frames.hop(),
            "messages": "binary messages are the signal, cut anywhere; each window has one result",
        });
        greet(&self.served, self.choices, self.limits, input, &["flush", "reset", "close"], out);
    }

    fn receive(&self, text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Owed>>) {
        if text {
            return self.control(&payload, mailbox);
        }
        let pushed = self.state.lock().framer.push(payload);
        if let Err(error) = pushed {
            mailbox.issue(Owed::Refused).refuse(error);
        }
    }

    fn resume(&self, mailbox: &Arc<Mailbox<Owed>>) -> Resume {
        let mut state = self.state.lock();
        if let Some(window) = state.framer.next() {
            self.step(&mut state, window, mailbox);
            return Resume::Again;
        }
        match state.done.take() {
            Some(done) => {
                drop(state);
                mailbox.issue(Owed::Done(done)).answer(Ok(Rows::none()), &mut Wakes::default());
                Resume::Again
            }
            None if state.closing => Resume::Close,
            None => Resume::Read,
        }
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn is_sequential(&self) -> bool {
        true
    }

    fn unasked(&self) -> Owed {
        Owed::Refused
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn encoded(&self, begun: Time) {
        self.served.metrics.encoded(self.clock.now() - begun);
    }

    fn encode(&self, owed: Owed, answer: Answer, now: Time, out: &mut BytesMut) {
        let Owed::Step { seq, window, arrived, mut span } = owed else {
            return match (owed, answer) {
                (Owed::Done(done), Ok(_)) => {
                    let Ok(()) = self.write_done(done, out) else { return };
                }
                (_, Err(error)) => append_error(out, &error, None, true),
                _ => {}
            };
        };
        self.queue.taken();
        span.iter_mut().for_each(|span| super::ran(span, &answer, now));
        let result = answer.and_then(|rows| self.write(seq, window, &rows, out));
        let outcome = result.as_ref().map_or_else(|error| Outcome::Error(error.code), |()| Outcome::Success);
        self.served.metrics.answered(outcome, now - arrived);
        if let Err(error) = &result {
            append_error(out, error, None, true);
        }
        if let Some(span) = span {
            span.encoded(result.as_ref().err(), self.clock.now());
        }
    }

    fn warn(&self, left: Duration, out: &mut BytesMut) {
        warn(left, out);
    }

    fn abandon(&self, owed: Owed) {
        if let Owed::Step { span, .. } = owed {
            self.served.metrics.answered(Outcome::Cancelled, Duration::ZERO);
            if let Some(span) = span {
                span.left(self.clock.now());
            }
        }
    }
}
