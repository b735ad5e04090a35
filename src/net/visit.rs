//! One visitor, as the log and the trace tell of it: an HTTP request, or a WebSocket from its handshake to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hyper::body::Body;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use tracing::{Level, enabled};

use super::route::Route;
use super::state::State;
use crate::clock::Time;
use crate::error::{Code, Error, excerpt};
use crate::registry::Served;
use crate::trace::{Parent, Span, Talk};

/// What `--log` calls the lines of requests and connections.
const ACCESS: &str = "thalweg::access";

/// What it calls those of single messages, which nobody gets who does not ask for them.
const MESSAGE: &str = "thalweg::message";

/// Tells of itself when it is dropped.
pub struct Visit {
    state: Arc<State>,
    pub id: HeaderValue,
    peer: SocketAddr,
    method: Method,
    path: Box<str>,
    route: &'static str,
    /// Asked every few seconds by those who watch over the server.
    is_probe: bool,
    arrived: Time,
    parent: Option<Parent>,
    pub span: Option<Box<Span>>,
    model: Option<Arc<Served>>,
    key: Option<Box<str>>,
    end: End,
    pub received: Tally,
    pub sent: Tally,
}

enum End {
    /// The client did not wait for it.
    Left,
    Answered {
        status: u16,
        code: Option<Code>,
    },
    Closed(u16),
}

/// Messages and their bytes. Only the task of the connection counts.
#[derive(Default)]
pub struct Tally {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    pub fn count(&self, messages: u64, bytes: usize) {
        let add = |sum: &AtomicU64, more: u64| sum.store(sum.load(Relaxed) + more, Relaxed);
        add(&self.messages, messages);
        add(&self.bytes, bytes as u64);
    }
}

impl Visit {
    pub fn begin<B: Body>(
        state: &Arc<State>,
        peer: SocketAddr,
        route: Option<&Route<'_>>,
        request: &Request<B>,
    ) -> Self {
        let headers = request.headers();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let arrived = state.clock.now();
        let parent = header("traceparent").and_then(|parent| Parent::parse(parent, header("tracestate")));
        let is_probe = route.is_some_and(Route::is_open);
        let (method, label) = (request.method().clone(), route.map_or("other", Route::label));
        let traces = state.traces.get().filter(|_| !is_probe);
        let id = state.journal.id(headers);
        let span = traces.and_then(|traces| {
            let mut span = traces.begin(|| format!("{method} {label}"), parent.as_ref(), arrived)?;
            span.set("http.request.method", method.to_string());
            span.set("http.route", label);
            span.set("url.path", short(request.uri().path()).to_owned());
            span.set("url.scheme", if state.tls.is_some() { "https" } else { "http" });
            span.set("client.address", peer.ip().to_string());
            span.set("client.port", i64::from(peer.port()));
            span.set("network.protocol.name", "http");
            span.set("network.protocol.version", "1.1");
            if let Some(agent) = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()) {
                span.set("user_agent.original", short(agent).to_owned());
            }
            span.set("thalweg.request.id", text(&id).to_owned());
            Some(span)
        });
        let path = excerpt(request.uri().path()).into();
        let visit = Self {
            state: Arc::clone(state),
            id,
            peer,
            method,
            path,
            route: label,
            is_probe,
            arrived,
            parent,
            span,
            model: None,
            key: None,
            end: End::Left,
            received: Tally::default(),
            sent: Tally::default(),
        };
        visit.received.count(0, usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX));
        visit
    }

    pub fn address(&self) -> IpAddr {
        self.peer.ip()
    }

    pub fn with_key(&mut self, name: &str) {
        self.key = Some(name.into());
    }

    pub fn asks_for(&mut self, served: &Arc<Served>) {
        if let Some(span) = &mut self.span {
            span.set("thalweg.model.name", served.name.clone());
            span.set("thalweg.model.version", served.version_text.clone());
        }
        self.model = Some(Arc::clone(served));
    }

    /// What its messages need in order to be traced, if any may be.
    pub fn talk(&self, what: &'static str) -> Option<Box<Talk>> {
        let (traces, served) = (self.state.traces.get()?, self.model.as_ref()?);
        let talk = traces
            .talk(format!("{what} {}", served.name), self.parent.as_ref(), self.span.as_deref())
            .with("network.protocol.name", "websocket")
            .with("client.address", self.peer.ip().to_string())
            .with("thalweg.model.name", served.name.clone())
            .with("thalweg.model.version", served.version_text.clone())
            .with("thalweg.request.id", text(&self.id).to_owned());
        Some(Box::new(talk))
    }

    /// A request over HTTP has its answer, or was refused with an error.
    pub fn answered(mut self, status: u16, bytes: usize, error: Option<&Error>) {
        self.sent.count(0, bytes);
        if let Some(error) = error {
            self.fault(error, None);
            if let Some(span) = &mut self.span {
                span.failed(error);
            }
        }
        self.end = End::Answered { status, code: error.map(|error| error.code) };
    }

    pub fn closed(mut self, code: u16) {
        self.end = End::Closed(code);
    }

    /// A message is about to have this answer; `id` is that of the client's request.
    pub fn message(&self, id: Option<&str>, error: Option<&Error>) {
        if let Some(error) = error {
            self.fault(error, id);
        }
        if enabled!(target: MESSAGE, Level::DEBUG) {
            let (request_id, code) = (text(&self.id), error.map_or("ok", |error| error.code.as_str()));
            tracing::debug!(target: MESSAGE, request_id, id, code, "message");
        }
    }

    /// An error that is the server's has a line of its own; others are the client's, or of the load.
    fn fault(&self, error: &Error, id: Option<&str>) {
        use Code::{InferenceFailed, Internal, RunTimedOut, StateLost};
        if !matches!(error.code, InferenceFailed | Internal | RunTimedOut | StateLost) {
            return;
        }
        let Some(left_out) = self.state.journal.faults.take(self.state.clock.now()) else { return };
        tracing::error!(
            request_id = text(&self.id),
            trace_id = self.trace_id(),
            id,
            route = self.route,
            model = self.model(),
            code = error.code.as_str(),
            error = &*error.message,
            left_out = (left_out > 0).then_some(left_out),
            "a request failed in the server"
        );
    }

    fn model(&self) -> Option<&str> {
        self.model.as_ref().map(|served| &*served.name)
    }

    fn trace_id(&self) -> Option<String> {
        let of_span = self.span.as_ref().map(|span| span.trace_id());
        of_span.or_else(|| self.parent.as_ref().map(Parent::trace_id))
    }

    fn tell(&self, now: Time) {
        let enabled = match self.is_probe {
            true => enabled!(target: ACCESS, Level::DEBUG),
            false => enabled!(target: ACCESS, Level::INFO),
        };
        let Some(left_out) = enabled.then(|| self.state.journal.lines.take(now)).flatten() else { return };
        let (status, code, close_code) = match self.end {
            End::Left => (None, Some("client_left"), None),
            End::Answered { status, code } => (Some(status), code.map(Code::as_str), None),
            End::Closed(code) => (Some(101), None, Some(code)),
        };
        let is_socket = close_code.is_some();
        let messages = |tally: &Tally| is_socket.then(|| tally.messages.load(Relaxed));
        #[allow(
            clippy::cast_precision_loss,
            reason = "2^53 ns are months, and nobody counts their nanoseconds"
        )]
        let duration_ms = (now - self.arrived).as_micros() as f64 / 1000.0;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: ACCESS,
                    request_id = text(&self.id),
                    trace_id = self.trace_id(),
                    peer = %self.peer,
                    key = self.key.as_deref(),
                    method = self.method.as_str(),
                    route = self.route,
                    path = (status == Some(404)).then_some(&*self.path),
                    model = self.model(),
                    status,
                    code,
                    close_code,
                    messages_received = messages(&self.received),
                    messages_sent = messages(&self.sent),
                    bytes_received = self.received.bytes.load(Relaxed),
                    bytes_sent = self.sent.bytes.load(Relaxed),
                    duration_ms,
                    left_out = (left_out > 0).then_some(left_out),
                    "{}", if is_socket { "connection" } else { "request" }
                )
            };
        }
        if self.is_probe { line!(debug) } else { line!(info) }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = self.state.clock.now();
        self.tell(now);
        let Some(mut span) = self.span.take() else { return };
        match self.end {
            End::Left => return span.left(now),
            End::Answered { status, .. } => span.set("http.response.status_code", i64::from(status)),
            End::Closed(code) => {
                let count = |sum: &AtomicU64| i64::try_from(sum.load(Relaxed)).unwrap_or(i64::MAX);
                span.set("http.response.status_code", 101);
                span.set("thalweg.close.code", i64::from(code));
                span.set("thalweg.messages.received", count(&self.received.messages));
                span.set("thalweg.messages.sent", count(&self.sent.messages));
            }
        }
        span.finish(now);
    }
}

/// So much of a client's text as a span keeps.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(256)).unwrap_or(text)
}

fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}
