//! The WebSocket that a request asks for: which endpoint of which model, and the way there.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::SEC_WEBSOCKET_PROTOCOL;
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::access::{self, Metered, Pass};
use super::connection;
use super::drain::Phase;
use super::infer::InferEndpoint;
use super::route::{ModelRoute, Route};
use super::state::State;
use super::stream::{ByteEndpoint, Choices, SignalEndpoint, Source};
use super::upgrade::{self, Halves};
use super::visit::Visit;
use crate::error::{Code, Error, Result};
use crate::registry::Stream;

/// A WebSocket endpoint that a request asks for.
pub enum Endpoint {
    Infer(InferEndpoint),
    Bytes(ByteEndpoint),
    Signal(Box<SignalEndpoint>),
}

impl Endpoint {
    /// `None` if the route is no WebSocket; the request is then answered as plain HTTP.
    pub fn find<B>(
        state: &State,
        mut visit: Option<&mut Visit>,
        route: &Route<'_>,
        request: &Request<B>,
    ) -> Result<Option<Self>> {
        let query = request.uri().query().unwrap_or_default();
        let value = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(key, value)| (key == name).then_some(value))
        };
        let (served, streams) = match route {
            Route::Root => match value("model") {
                Some(model) => (state.registry()?.get(&model, None)?, true),
                None => (state.registry()?.default_model()?, true),
            },
            Route::Model { model, version, what: what @ (ModelRoute::Infer | ModelRoute::Stream) } => {
                (state.registry()?.get(model, version.as_deref())?, *what == ModelRoute::Stream)
            }
            _ => return Ok(None),
        };
        let (served, clock) = (Arc::clone(served), state.clock);
        visit.iter_mut().for_each(|visit| visit.asks_for(&served));
        let talk = visit.and_then(|visit| visit.talk(if streams { "step" } else { "infer" }));
        Ok(Some(if streams {
            let output = value("output");
            let choices = Choices {
                greeting: value("greeting").is_none_or(|value| value != "false"),
                binary: output.as_deref() == Some("binary"),
                events_only: output.as_deref() == Some("events"),
            };
            let limits = state.limits;
            match served.stream.clone() {
                Some(Stream::Bytes(stream)) => {
                    Self::Bytes(ByteEndpoint::new(served, stream, choices, limits, clock).traced(talk))
                }
                Some(Stream::Signal(stream)) => {
                    let source = Source::choose(&stream, value("encoding"), value("sample_rate"))?;
                    let endpoint = SignalEndpoint::new(served, stream, source, choices, limits, clock)?;
                    Self::Signal(Box::new(endpoint.traced(talk)))
                }
                None => {
                    let message =
                        format!("model '{}' has no [stream] in its model.toml; use /infer", served.name);
                    return Err(Error::new(Code::StreamUnsupported, message));
                }
            }
        } else {
            Self::Infer(InferEndpoint::new(served, clock).traced(talk))
        }))
    }

    /// Answers the handshake and leaves the connection to a task of its own.
    pub fn open(
        self,
        state: &Arc<State>,
        visit: &mut Option<Visit>,
        pass: Option<Pass>,
        request: &mut Request<Incoming>,
    ) -> Result<Response<Empty<Bytes>>> {
        let subprotocol = access::subprotocol(request.headers())?;
        let (mut reply, upgrade) = upgrade::accept(request)?;
        if let Some(chosen) = subprotocol {
            reply.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        let place = visit.as_ref().map(|visit| state.crowd.enter(visit.address())).transpose()?;
        let pass = pass.map(Pass::open).transpose()?;
        let Some(visit) = visit.take() else { return Err(Error::new(Code::Internal, "nobody asked")) };
        let state = Arc::clone(state);
        // Taken here, so that the server waits for this connection from now on.
        let stop = state.phases();
        tokio::spawn(async move {
            let _place = place;
            match upgrade::halves(upgrade).await {
                Some(Halves::Plain(read, write)) => self.serve(read, write, pass, visit, &state, stop).await,
                Some(Halves::Tls(read, write)) => self.serve(read, write, pass, visit, &state, stop).await,
                None => {}
            }
        });
        Ok(reply)
    }

    async fn serve<R, W>(
        self,
        read: R,
        write: W,
        pass: Option<Pass>,
        visit: Visit,
        state: &State,
        stop: watch::Receiver<Phase>,
    ) where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let State { limits, metrics, relay, .. } = state;
        let limits = *limits;
        let code = match self {
            Self::Infer(endpoint) => {
                let open = metrics.connection_opened("infer");
                let endpoint = Metered::new(&endpoint, pass, &visit);
                let code = connection::serve(read, write, &endpoint, limits, metrics, stop, relay).await;
                open.close(code);
                code
            }
            Self::Bytes(endpoint) => {
                let open = metrics.connection_opened("stream");
                let endpoint = Metered::new(&endpoint, pass, &visit);
                let code = connection::serve(read, write, &endpoint, limits, metrics, stop, relay).await;
                open.close(code);
                code
            }
            Self::Signal(endpoint) => {
                let open = metrics.connection_opened("stream");
                let endpoint = Metered::new(&*endpoint, pass, &visit);
                let code = connection::serve(read, write, &endpoint, limits, metrics, stop, relay).await;
                open.close(code);
                code
            }
        };
        visit.closed(code);
    }
}
