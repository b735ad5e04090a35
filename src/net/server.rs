//! Listening, accepting, and the end of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::Limits;
use super::crowd::Crowd;
use super::drain::{self, Phase};
use super::http;
use super::keepalive::Keepalive;
use super::patience::Patience;
use crate::clock::Clock;
use crate::config::Settings;
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;
use crate::queue::Memory;
use crate::registry::Registry;

/// Samples of histograms are folded this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// A pause when no connection can be accepted (out of file descriptors, say), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// What all connections share.
pub struct State {
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub memory: Memory,
    pub limits: Limits,
    pub crowd: Arc<Crowd>,
    pub request_timeout: Duration,
    /// How long connections may take to end once the server is told to.
    grace: Duration,
    /// Set once all models are loaded.
    registry: OnceLock<Registry>,
    phase: watch::Sender<Phase>,
}

impl State {
    pub fn new(settings: &Settings, clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            metrics,
            memory: Memory::new(settings.max_request_memory.0),
            limits: Limits {
                max_message_size: settings.max_message_size.0,
                max_frame_size: settings.max_frame_size.0,
                window: settings.max_requests_per_connection,
                keepalive: Keepalive {
                    interval: Duration::from_secs(settings.ping_interval),
                    idle: Duration::from_secs(settings.idle_timeout),
                },
                patience: Patience {
                    read: Duration::from_secs(settings.read_timeout),
                    write: Duration::from_secs(settings.write_timeout),
                    age: Duration::from_secs(settings.max_connection_age),
                },
            },
            crowd: Crowd::new(settings.max_connections, settings.max_connections_per_address),
            request_timeout: settings.request_timeout(),
            grace: Duration::from_secs(settings.grace_period),
            registry: OnceLock::new(),
            phase: watch::Sender::new(Phase::Open),
        })
    }

    /// The models, once they are loaded and until the server stops.
    pub fn registry(&self) -> Result<&Registry> {
        if *self.phase.borrow() != Phase::Open {
            return Err(Error::new(Code::ShuttingDown, "the server is closing"));
        }
        self.registry.get().ok_or_else(|| Error::new(Code::ModelNotReady, "the models are still loading"))
    }

    /// Whether all models are at work.
    pub fn ready(&self) -> Result<()> {
        match self.registry()?.all().find(|served| !served.is_ready()) {
            Some(served) => {
                let message =
                    format!("an instance of model '{}' has failed and is not back yet", served.name);
                Err(Error::new(Code::ModelNotReady, message))
            }
            None => Ok(()),
        }
    }

    /// From now on the server is ready.
    pub fn serve(&self, registry: Registry) {
        let _ = self.registry.set(registry);
    }

    /// Takes nothing new from now on, and gives streams so much time to move.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining(drain::notice(self.grace)));
    }

    /// Tells every connection to end.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Closing);
    }

    /// Tells how far the server is on its way to its end; connections hold one as long as they live.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// The metrics, with those that are read rather than counted.
    pub fn exposition(&self) -> String {
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        let gauge = |value: usize| value as f64;
        self.metrics.net.memory.set(gauge(self.memory.used()));
        for served in self.registry.get().into_iter().flat_map(Registry::all) {
            served.metrics.queue_depth.set(gauge(served.depth()));
            served.metrics.lanes.set(gauge(served.lanes()));
            if let Some(streams) = &served.streams {
                served.metrics.streams(gauge(streams.open_count()), gauge(streams.capacity()));
            }
        }
        self.metrics.render()
    }
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    state: Arc<State>,
}

impl Server {
    pub async fn bind(address: SocketAddr, state: Arc<State>) -> Result<Self, ServerError> {
        let listener =
            TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })?;
        Ok(Self { listener, state })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts connections until the server is told to end, then refuses them until those that are open have ended.
    pub async fn run(self) {
        let upkeep = tokio::spawn(upkeep(Arc::clone(&self.state.metrics)));
        let mut phases = self.state.phases();
        self.accept(ends(&mut phases), true).await;
        drop(phases);
        self.drain().await;
        upkeep.abort();
    }

    /// Accepts connections for as long as something else takes.
    async fn accept(&self, until: impl Future<Output = ()>, is_open: bool) {
        let mut until = std::pin::pin!(until);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = until.as_mut() => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    tracing::debug!(%peer, "connection");
                    let phases = is_open.then(|| self.state.phases());
                    tokio::spawn(connection(socket, peer.ip(), Arc::clone(&self.state), phases));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Whoever comes meanwhile is refused by an answer, not by a closed port.
    async fn drain(&self) {
        let Self { state, .. } = self;
        let notice = drain::notice(state.grace);
        let end = async {
            if tokio::time::timeout(notice, state.phase.closed()).await.is_ok() {
                return;
            }
            state.stop();
            if tokio::time::timeout(state.grace - notice, state.phase.closed()).await.is_err() {
                tracing::warn!(open = state.phase.receiver_count(), "connections are cut off");
            }
        };
        self.accept(end, false).await;
    }
}

/// One that comes while the server ends has no phases to follow: it is refused and closed.
async fn connection(
    socket: TcpStream,
    peer: IpAddr,
    state: Arc<State>,
    phases: Option<watch::Receiver<Phase>>,
) {
    // Answers are small and complete when they are sent: waiting to join them costs only latency.
    let _ = socket.set_nodelay(true);
    let timeout = state.request_timeout;
    let service = service_fn(move |request| http::handle(Arc::clone(&state), peer, request));
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut http = std::pin::pin!(http);
    let result = match phases {
        None => http.await,
        Some(mut phases) => tokio::select! {
            result = http.as_mut() => result,
            () = ends(&mut phases) => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        },
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
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
