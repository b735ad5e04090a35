//! Listening, accepting, and the end of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::drain::{self, Phase};
use super::http;
use super::listener::{self, Door, Guest};
use super::state::State;
use super::watched::{BadFile, LOOK_EVERY};
use crate::clock::Time;
use crate::error::Result;
use crate::metrics::Metrics;

/// Samples of histograms are folded this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often it is asked whether a run takes too long.
const WATCH: Duration = Duration::from_secs(1);

/// How long a collector is waited for at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// How long HTTP connections are kept once the server ends, so that a request which is on its way has an answer.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// A pause when no connection can be accepted (out of file descriptors, say), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}; choose another address with --listen or --metrics-listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    File(#[from] BadFile),
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    side: Option<TcpListener>,
    state: Arc<State>,
}

impl Server {
    pub async fn bind(address: SocketAddr, state: Arc<State>) -> Result<Self, ServerError> {
        Ok(Self { listener: listener::bind(address).await?, side: None, state })
    }

    /// Listens at a second address, for those who watch over the server; `/metrics` is only there from now on.
    pub async fn beside(self, address: SocketAddr) -> Result<Self, ServerError> {
        Ok(Self { side: Some(listener::bind(address).await?), ..self })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub fn side_address(&self) -> Option<SocketAddr> {
        self.side.as_ref()?.local_addr().ok()
    }

    /// Accepts connections until the server is told to end, then refuses them until those that are open have ended.
    pub async fn run(self) {
        let upkeep = tokio::spawn(upkeep(Arc::clone(&self.state.metrics)));
        let look = tokio::spawn(look(Arc::clone(&self.state)));
        let watch = tokio::spawn(watch(Arc::clone(&self.state)));
        let relay = tokio::spawn(Arc::clone(&self.state.relay).run());
        let mut phases = self.state.phases();
        self.accept(ends(&mut phases), true).await;
        drop(phases);
        let told = self.state.clock.now();
        self.drain().await;
        self.flush(told + self.state.grace()).await;
        upkeep.abort();
        look.abort();
        watch.abort();
        relay.abort();
    }

    /// Sends the spans that are left, before the server has to be gone.
    async fn flush(&self, end: Time) {
        let limit = FLUSH.min(end - self.state.clock.now());
        if let Some(traces) = self.state.traces.get().map(Arc::clone) {
            let _ = tokio::task::spawn_blocking(move || traces.flush(limit)).await;
        }
    }

    /// Accepts connections for as long as something else takes.
    async fn accept(&self, until: impl Future<Output = ()>, is_open: bool) {
        let mut until = std::pin::pin!(until);
        loop {
            let (door, accepted) = tokio::select! {
                next = self.next() => next,
                () = until.as_mut() => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    tracing::debug!(%peer, "connection");
                    let phases = is_open.then(|| self.state.phases());
                    tokio::spawn(connection(socket, peer, door, Arc::clone(&self.state), phases));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.state.metrics.server.accept_failed();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Whoever comes next, and to which door.
    async fn next(&self) -> (Door, std::io::Result<(TcpStream, SocketAddr)>) {
        match &self.side {
            None => (Door::Only, self.listener.accept().await),
            Some(side) => tokio::select! {
                accepted = self.listener.accept() => (Door::Main, accepted),
                accepted = side.accept() => (Door::Side, accepted),
            },
        }
    }

    /// Whoever comes meanwhile is refused by an answer, not by a closed port.
    async fn drain(&self) {
        let Self { state, .. } = self;
        let notice = drain::notice(state.grace());
        let end = async {
            if tokio::time::timeout(notice, state.all_have_ended()).await.is_ok() {
                return;
            }
            state.stop();
            if tokio::time::timeout(state.grace() - notice, state.all_have_ended()).await.is_err() {
                tracing::warn!(open = state.open(), "connections are cut off");
            }
        };
        self.accept(end, false).await;
    }
}

/// One that comes while the server ends has no phases to follow: it is refused and closed. So is one that has not said
/// by then what it is.
async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    door: Door,
    state: Arc<State>,
    mut phases: Option<watch::Receiver<Phase>>,
) {
    // Answers are small and complete when they are sent: waiting to join them costs only latency.
    let _ = socket.set_nodelay(true);
    let guest = {
        let mut guest = std::pin::pin!(listener::receive(socket, peer, door, &state));
        tokio::select! {
            biased;
            guest = guest.as_mut() => guest,
            () = ended(&mut phases) => {
                phases = None;
                guest.await
            }
        }
    };
    let timeout = state.request_timeout;
    let handle = |request| http::handle(Arc::clone(&state), peer, door, request);
    let refuse = |request| http::want_tls(Arc::clone(&state), request);
    match guest {
        Guest::Plain(socket) => serve(socket, service_fn(handle), timeout, phases).await,
        Guest::Tls(stream) => serve(*stream, service_fn(handle), timeout, phases).await,
        Guest::Unencrypted(socket) => serve(socket, service_fn(refuse), timeout, phases).await,
        Guest::Gone => {}
    }
}

/// Serves HTTP to the end of the connection, or until it is upgraded.
async fn serve<IO, S>(io: IO, service: S, timeout: Duration, mut phases: Option<watch::Receiver<Phase>>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = Full<Bytes>, Error = Infallible>,
{
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut http = std::pin::pin!(http);
    let result = tokio::select! {
        result = http.as_mut() => result,
        () = ended(&mut phases) => match tokio::time::timeout(LAST_REQUESTS, http.as_mut()).await {
            Ok(result) => result,
            Err(_) => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// [`ends`], for a connection; never for one that follows no phases.
async fn ended(phases: &mut Option<watch::Receiver<Phase>>) {
    match phases {
        Some(phases) => ends(phases).await,
        None => std::future::pending().await,
    }
}

async fn ends(phases: &mut watch::Receiver<Phase>) {
    let _ = phases.wait_for(|phase| *phase != Phase::Open).await;
}

async fn upkeep(metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.upkeep();
    }
}

async fn watch(state: Arc<State>) {
    loop {
        let due = state.clock.now() + WATCH;
        tokio::time::sleep(WATCH).await;
        let now = state.clock.now();
        state.metrics.server.lags(now - due);
        state.watch(now);
    }
}

async fn look(state: Arc<State>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let state = Arc::clone(&state);
        // Where secrets are mounted from afar, reading may take its time.
        let _ = tokio::task::spawn_blocking(move || state.look()).await;
    }
}
