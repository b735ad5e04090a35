//! HTTP: metadata, health, metrics, inference, and the way to a WebSocket.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue, RETRY_AFTER, UPGRADE,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;

use super::endpoint::Endpoint;
use super::journal::REQUEST_ID;
use super::listener::Door;
use super::route::{ModelRoute, Route};
use super::state::State;
use super::visit::Visit;
use super::{admin, infer, upgrade};
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::protocol;
use crate::registry::{Registry, Served};
use crate::reply::Mailbox;

/// Where the JSON ends and the tensors begin, in a body with binary tensor data.
const HEADER_LENGTH: &str = "inference-header-content-length";

type Reply = Response<Full<Bytes>>;

/// Names and values of headers, in all; tokens of some platforms are larger than 32 KiB.
const MAX_HEADERS: usize = 64 << 10;

pub async fn handle(
    state: Arc<State>,
    peer: SocketAddr,
    door: Door,
    mut request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let path = request.uri().path().to_owned();
    let route = Route::parse(&path).filter(|route| door.leads_to(route));
    let visit = Visit::begin(&state, peer, route.as_ref(), &request);
    let id = visit.id.clone();
    // A WebSocket takes it along.
    let mut visit = Some(visit);
    let reply = match &route {
        _ if headers_size(request.headers()) > MAX_HEADERS => {
            let message = format!("the headers are larger than the limit of {MAX_HEADERS} bytes");
            Err(Refused::from(Error::new(Code::HeadersTooLarge, message)))
        }
        Some(route) => respond(&state, &mut visit, door, route, &mut request).await,
        None => Err(Refused::from(Error::new(Code::UnknownRoute, format!("nothing is served at '{path}'")))),
    };
    let label = route.as_ref().map_or("other", Route::label);
    let error = reply.as_ref().err().map(|refused| refused.error.clone());
    let mut reply = reply.unwrap_or_else(|refused| {
        state.metrics.http_error(label, refused.error.code);
        refused.reply(route.as_ref())
    });
    reply.headers_mut().insert(REQUEST_ID, id);
    if state.is_ending() && reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The next connection may lead to another server.
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    state.metrics.http_request(label, reply.status().as_u16());
    if let Some(visit) = visit {
        let bytes = reply.body().size_hint().lower();
        visit.answered(reply.status().as_u16(), usize::try_from(bytes).unwrap_or(usize::MAX), error.as_ref());
    }
    read_off(&state, request);
    Ok(reply)
}

/// As they stand in the request, roughly: a colon, a space and the end of the line are four bytes.
fn headers_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// Answers whoever speaks plain HTTP where TLS is spoken, and ends the connection.
pub async fn want_tls(state: Arc<State>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let message = "this port speaks TLS; connect to it with https:// or wss://";
    let mut reply = Refused::from(Error::new(Code::TlsRequired, message)).reply(None);
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    read_off(&state, request);
    Ok(reply)
}

/// Reads on what the client sends of a body that nobody wants, while it gets its answer: a socket that is
/// closed with unread bytes is reset, and the client may never see what was sent to it.
fn read_off(state: &State, request: Request<Incoming>) {
    // Who waits for "100 Continue" sends nothing before it has it.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return;
    }
    let mut body = request.into_body();
    let rest = async move { while let Some(Ok(_)) = body.frame().await {} };
    tokio::spawn(tokio::time::timeout(state.request_timeout, rest));
}

/// An error, and the id of the request that caused it.
struct Refused {
    error: Error,
    id: Option<Box<str>>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, id: None }
    }
}

impl Refused {
    fn reply(self, route: Option<&Route<'_>>) -> Reply {
        let mut body = BytesMut::new();
        protocol::encode_error(&mut body, &self.error, self.id.as_deref(), false);
        let mut reply = json_reply(body.freeze());
        let code = self.error.code;
        *reply.status_mut() = StatusCode::from_u16(code.http_status()).unwrap_or_default();
        let headers = reply.headers_mut();
        match code {
            Code::UpgradeRequired => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
            }
            Code::MethodNotAllowed => {
                let methods = route.map_or("GET, HEAD", Route::methods);
                headers.insert(ALLOW, HeaderValue::from_static(methods));
            }
            Code::Unauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"thalweg\""));
            }
            _ if matches!(code.http_status(), 429 | 503) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        reply
    }
}

async fn respond(
    state: &Arc<State>,
    visit: &mut Option<Visit>,
    door: Door,
    route: &Route<'_>,
    request: &mut Request<Incoming>,
) -> Result<Reply, Refused> {
    let pass = match &state.access {
        Some(access) if door != Door::Side && !route.is_open() => access.admit(request)?,
        _ => None,
    };
    if let (Some(visit), Some(pass)) = (visit.as_mut(), &pass) {
        visit.with_key(pass.name());
    }
    if upgrade::is_upgrade(request)
        && let Some(endpoint) = Endpoint::find(state, visit.as_mut(), route, request)?
    {
        let reply = endpoint.open(state, visit, pass, request)?;
        return Ok(reply.map(|_| Full::default()));
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match route {
        Route::Model { model, version, what: ModelRoute::Infer } if request.method() == Method::POST => {
            let served = Arc::clone(state.registry()?.get(model, version.as_deref())?);
            visit.iter_mut().for_each(|visit| visit.asks_for(&served));
            infer(state, visit, &served, request).await
        }
        Route::Root | Route::Model { what: ModelRoute::Stream, .. } => {
            let message = "this path is a WebSocket; connect to it with ws:// or wss://";
            Err(Error::new(Code::UpgradeRequired, message).into())
        }
        Route::Model { what: ModelRoute::Infer, .. } => {
            let message = "send an inference request with POST, or connect with ws:// or wss://";
            Err(Error::new(Code::MethodNotAllowed, message).into())
        }
        _ if !reads => Err(Error::new(Code::MethodNotAllowed, "this path is read with GET").into()),
        Route::Health => {
            state.ready()?;
            Ok(json_reply(Bytes::from_static(br#"{"health":"true"}"#)))
        }
        Route::Live => Ok(json_reply(Bytes::from_static(br#"{"live":true}"#))),
        Route::Ready => {
            state.ready()?;
            Ok(json_reply(Bytes::from_static(br#"{"ready":true}"#)))
        }
        Route::Server => Ok(value_reply(&admin::server_metadata())),
        Route::Metrics => {
            let mut reply = Response::new(Full::new(Bytes::from(state.exposition())));
            let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            reply.headers_mut().insert(CONTENT_TYPE, content_type);
            Ok(reply)
        }
        Route::Model { model, version, what } => {
            let registry = state.registry()?;
            let served = registry.get(model, version.as_deref())?;
            visit.iter_mut().for_each(|visit| visit.asks_for(served));
            if *what == ModelRoute::Ready && !served.is_ready() {
                let message = "an instance of the model has failed and is not back yet";
                return Err(Error::new(Code::ModelNotReady, message).into());
            }
            Ok(value_reply(&tell(registry, served, *what)))
        }
    }
}

fn tell(registry: &Registry, served: &Arc<Served>, what: ModelRoute) -> Value {
    match what {
        ModelRoute::Config => admin::model_config(served),
        ModelRoute::Stats => admin::model_stats(served),
        ModelRoute::Ready => serde_json::json!({ "name": served.name, "ready": true }),
        _ => admin::model_metadata(registry, served),
    }
}

async fn infer(
    state: &State,
    visit: &mut Option<Visit>,
    served: &Arc<Served>,
    request: &mut Request<Incoming>,
) -> Result<Reply, Refused> {
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        let message =
            format!("a body with Content-Encoding {encoding:?} is not understood; send it as it is");
        return Err(Error::new(Code::InvalidRequest, message).into());
    }
    let header_length = match request.headers().get(HEADER_LENGTH) {
        Some(value) => Some(value.to_str().ok().and_then(|value| value.parse().ok()).ok_or_else(|| {
            Error::new(Code::InvalidFraming, "Inference-Header-Content-Length is not a number")
        })?),
        None => None,
    };
    let arrived = state.clock.now();
    let body = body(state, request).await?;
    let mut span = visit.as_mut().and_then(|visit| visit.span.take());
    span.iter_mut().for_each(|span| span.stage("receive", state.clock.now()));
    let decoded = match header_length {
        Some(length) => protocol::decode_framed(body, length),
        None => protocol::decode_json(&body),
    };

    // Dropped with this future when the client hangs up, so that nobody works for it any more.
    let mailbox = Abandon(Mailbox::through(1, Arc::clone(&state.relay)), state.clock);
    span.iter_mut().for_each(|span| span.stage("decode", state.clock.now()));
    let mut pending = infer::Pending::new(served, arrived, true);
    pending.span = span;
    infer::submit(decoded, pending, state.clock, &mailbox.0);
    let mut ready = Vec::with_capacity(1);
    poll_fn(|cx| mailbox.0.poll_answers(cx, &mut ready)).await;
    let Some((mut pending, answer)) = ready.pop() else {
        return Err(Error::new(Code::Internal, "the answer was lost").into());
    };

    let mut body = BytesMut::new();
    let binary = pending.any_binary();
    let begun = state.clock.now();
    let header_length = pending.encode(answer, begun, |head, outputs| match binary {
        true => protocol::encode_framed(&mut body, head, outputs),
        false => protocol::encode_json(&mut body, head, outputs).map(|()| 0),
    });
    served.metrics.encoded(state.clock.now() - begun);
    if let (Some(visit), Some(mut span)) = (visit.as_mut(), pending.span.take()) {
        span.stage("encode", state.clock.now());
        visit.span = Some(span);
    }
    let header_length = header_length.map_err(|error| Refused { error, id: pending.id().map(Into::into) })?;
    let mut reply = json_reply(body.freeze());
    if binary {
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        reply.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(header_length));
    }
    Ok(reply)
}

/// Closes a mailbox when it goes.
struct Abandon(Arc<Mailbox<infer::Pending>>, Clock);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.close().for_each(|pending| pending.abandon(self.1.now()));
    }
}

async fn body(state: &State, request: &mut Request<Incoming>) -> Result<Bytes> {
    let limit = state.limits.max_message_size;
    let too_large = || {
        let message = format!("the body is larger than the limit of {limit} bytes");
        Err(Error::new(Code::MessageTooLarge, message))
    };
    if request.body().size_hint().lower() > limit as u64 {
        return too_large();
    }
    // Whoever waits for "100 Continue" has it with the first read.
    request.headers_mut().remove(EXPECT);
    let collected = Limited::new(request.body_mut(), limit).collect();
    match tokio::time::timeout(state.request_timeout, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
        Ok(Err(error)) => {
            Err(Error::new(Code::InvalidFraming, format!("the body could not be read: {error}")))
        }
        Err(_) => Err(Error::new(Code::InvalidFraming, "the body did not arrive in time")),
    }
}

fn json_reply(body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn value_reply(value: &Value) -> Reply {
    json_reply(Bytes::from(value.to_string()))
}
