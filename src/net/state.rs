//! What all connections of a server share: its limits, its models once they are loaded, and how far it is in its life.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::access::Access;
use super::connection::Limits;
use super::crowd::Crowd;
use super::drain::{self, Phase};
use super::journal::Journal;
use super::keepalive::Keepalive;
use super::patience::Patience;
use super::tls::Tls;
use super::watched::BadFile;
use crate::clock::{Clock, Time};
use crate::config::Settings;
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;
use crate::queue::Memory;
use crate::registry::Registry;
use crate::reply::Relay;
use crate::trace::Traces;

pub struct State {
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub memory: Memory,
    pub limits: Limits,
    /// Wakes the connections of a batch.
    pub relay: Arc<Relay>,
    pub crowd: Arc<Crowd>,
    pub request_timeout: Duration,
    /// What proves the server to its clients, if it is to speak TLS.
    pub tls: Option<Tls>,
    grace: Duration,
    /// How long a model's run may take; zero is for ever.
    run_timeout: Duration,
    /// Who may use the server, if not everybody.
    pub access: Option<Access>,
    pub journal: Journal,
    /// Who gives out spans, if there is a collector to get them.
    pub traces: OnceLock<Arc<Traces>>,
    /// Set once all models are loaded.
    registry: OnceLock<Registry>,
    phase: watch::Sender<Phase>,
}

impl State {
    pub fn new(settings: &Settings, clock: Clock, metrics: Arc<Metrics>) -> Result<Arc<Self>, BadFile> {
        let tls = settings.tls().map(|(certificate, key)| Tls::new(certificate, key, Arc::clone(&metrics)));
        let tls = tls.transpose()?;
        metrics.limits(settings.max_connections, settings.max_request_memory.0);
        let access =
            settings.access().map(|path| Access::new(path, clock, Arc::clone(&metrics))).transpose()?;
        Ok(Arc::new(Self {
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
            relay: Arc::default(),
            crowd: Crowd::new(settings.max_connections, settings.max_connections_per_address),
            request_timeout: settings.request_timeout(),
            tls,
            grace: Duration::from_secs(settings.grace_period),
            run_timeout: Duration::from_secs(settings.run_timeout),
            access,
            journal: Journal::new(settings.access_log),
            traces: OnceLock::new(),
            registry: OnceLock::new(),
            phase: watch::Sender::new(Phase::Open),
        }))
    }

    /// Looks whether files have changed that the server was given; it reads them, and so may block.
    pub fn look(&self) {
        self.tls.iter().for_each(Tls::look);
        self.access.iter().for_each(Access::look);
    }

    /// Gives up the runs that take too long, and answers their requests.
    pub fn watch(&self, now: Time) {
        if self.run_timeout > Duration::ZERO {
            let models = self.registry.get().into_iter().flat_map(Registry::all);
            models.for_each(|served| served.give_up_runs(now, self.run_timeout));
        }
    }

    /// The models, once they are loaded and until the server stops.
    pub fn registry(&self) -> Result<&Registry> {
        if self.is_ending() {
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

    /// Whether the server is on its way to its end.
    pub fn is_ending(&self) -> bool {
        *self.phase.borrow() != Phase::Open
    }

    /// From now on requests are traced.
    pub fn trace(&self, traces: Arc<Traces>) {
        let _ = self.traces.set(traces);
    }

    /// From now on the server is ready.
    pub fn serve(&self, registry: Registry) {
        let _ = self.registry.set(registry);
    }

    /// How long connections may take to end once the server is told to.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Takes nothing new from now on, and gives streams so much time to move.
    pub fn drain(&self) {
        self.metrics.server.drains(self.clock.date() + self.grace.as_secs());
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

    /// How many hold what `phases` gave out.
    pub fn open(&self) -> usize {
        self.phase.receiver_count()
    }

    /// Waits until nobody holds what `phases` gave out.
    pub async fn all_have_ended(&self) {
        self.phase.closed().await;
    }

    /// The metrics, with those that are read rather than counted.
    pub fn exposition(&self) -> String {
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        let gauge = |value: usize| value as f64;
        self.metrics.net.memory.set(gauge(self.memory.used()));
        self.metrics.server.ready(self.ready().is_ok());
        for served in self.registry.get().into_iter().flat_map(Registry::all) {
            served.metrics.queue_depth.set(gauge(served.depth()));
            served.metrics.queue_depth_limit.set(gauge(served.places()));
            served.metrics.ready.set(f64::from(u8::from(served.is_ready())));
            served.metrics.lanes.set(gauge(served.lanes()));
            if let Some(streams) = &served.streams {
                served.metrics.streams(gauge(streams.open_count()), gauge(streams.capacity()));
            }
        }
        self.metrics.render()
    }
}
