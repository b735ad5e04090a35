//! A server that sends every message back, over the same handshake and the same connections as the real one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use thalweg::clock::Time;
use thalweg::metrics::Metrics;
use thalweg::net::connection::{self, Endpoint, Limits};
use thalweg::net::drain::Phase;
use thalweg::net::keepalive::Keepalive;
use thalweg::net::patience::Patience;
use thalweg::net::socket::append_frame;
use thalweg::net::upgrade::{self, Halves};
use thalweg::reply::{Answer, Mailbox, Wakes};
use thalweg::tensor::Rows;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the server has by default.
const LIMITS: Limits = Limits {
    max_message_size: 16 << 20,
    max_frame_size: 64 << 10,
    window: 128,
    keepalive: Keepalive { interval: Duration::from_secs(15), idle: Duration::ZERO },
    patience: Patience { read: Duration::from_secs(60), write: Duration::from_secs(60), age: Duration::ZERO },
};

struct Echo;

impl Endpoint for Echo {
    type Context = (OpCode, Bytes);

    fn greet(&self, _: &mut BytesMut) {}

    fn receive(&self, text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Self::Context>>) {
        let opcode = if text { OpCode::Text } else { OpCode::Binary };
        mailbox.issue((opcode, payload)).answer(Ok(Rows::none()), &mut Wakes::default());
    }

    fn is_sequential(&self) -> bool {
        false
    }

    fn unasked(&self) -> Self::Context {
        (OpCode::Text, Bytes::new())
    }

    fn encode(&self, (opcode, payload): Self::Context, answer: Answer, _: Time, out: &mut BytesMut) {
        if answer.is_ok() {
            let Ok(()) = append_frame(out, opcode, |out| {
                out.extend_from_slice(&payload);
                Ok::<_, Infallible>(())
            });
        }
    }

    fn abandon(&self, _: Self::Context) {}
}

/// Listens on a free port for as long as the runtime lives.
pub async fn listen() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr();
    let metrics = Metrics::new().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(accept(socket, Arc::clone(&metrics)));
        }
    });
    address
}

async fn accept(socket: TcpStream, metrics: Arc<Metrics>) {
    socket.set_nodelay(true).unwrap();
    let service = service_fn(move |request| echo(request, Arc::clone(&metrics)));
    // Who leaves in its handshake is of no interest here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await;
}

async fn echo(
    mut request: Request<Incoming>,
    metrics: Arc<Metrics>,
) -> Result<Response<Empty<Bytes>>, thalweg::error::Error> {
    let (response, upgrade) = upgrade::accept(&mut request)?;
    tokio::spawn(async move {
        let Some(Halves::Plain(read, write)) = upgrade::halves(upgrade).await else { return };
        let (_stop, stopping) = watch::channel(Phase::Open);
        connection::serve(read, write, &Echo, LIMITS, &metrics, stopping, &Arc::default()).await;
    });
    Ok(response)
}
