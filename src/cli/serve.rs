//! `thalweg serve`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, descriptors, log, runtime};
use crate::clock::Clock;
use crate::config::{RawSettings, Settings};
use crate::metrics::Metrics;
use crate::net::{Server, State};
use crate::registry::{Loader, Registry, RegistryError};
use crate::trace::{Otlp, Traces};

#[derive(Args)]
pub struct Serve {
    /// A TOML file of settings; flags and variables go before it
    #[arg(long, env = "THALWEG_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: RawSettings,
}

impl Serve {
    pub fn run(self) -> Result<(), Failure> {
        RawSettings::check_environment()?;
        let file = self.config.as_deref().map(RawSettings::read).transpose()?.unwrap_or_default();
        let settings = self.settings.or(file).validate()?;
        let log = log::start(&settings)?;
        descriptors::raise(settings.max_connections);
        let served = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads)
            .enable_all()
            .thread_name("thalweg-net")
            .build()?
            .block_on(serve(settings));
        log.end();
        served
    }
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let clock = Clock::start();
    let metrics = Metrics::new()?;
    let state = State::new(&settings, clock, Arc::clone(&metrics))?;
    if !settings.otlp_endpoint.is_empty() {
        let (endpoint, service) = (settings.otlp_endpoint.clone(), settings.otlp_service_name.clone());
        let otlp = Otlp { endpoint, service, ratio: settings.trace_ratio };
        state.trace(Traces::start(&otlp, clock, &metrics)?);
    }
    let server = Server::bind(settings.listen, Arc::clone(&state)).await?;
    let server = match settings.metrics_listen.0 {
        Some(address) => server.beside(address).await?,
        None => server,
    };
    let address = server.address()?;
    // Whoever starts the server with port 0 reads the port here.
    println!("listening on {address}");
    if let Some(address) = server.side_address() {
        println!("metrics on {address}");
    }
    let server = tokio::spawn(server.run());

    let loader_state = Arc::clone(&state);
    let load = move || -> Result<Registry, Loading> {
        let (runtime, gpus) = runtime::load(&settings, &metrics)?;
        let memory = loader_state.memory.clone();
        let loader = Loader { runtime, metrics, clock, memory, gpus };
        Ok(loader.load(&settings.model_repository, &settings.default_model)?)
    };
    let registry = tokio::task::spawn_blocking(load).await??;
    tracing::info!(%address, models = registry.all().count(), "ready");
    state.serve(registry);

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("closing: nothing new is taken, and what is open may end");
    state.drain();
    tokio::select! {
        ended = server => Ok(ended?),
        _ = terminate.recv() => Err(Failure::from("ended at once, since a second signal came")),
        _ = interrupt.recv() => Err(Failure::from("ended at once, since a second signal came")),
    }
}

#[derive(Debug, thiserror::Error)]
enum Loading {
    #[error(transparent)]
    Runtime(#[from] crate::engine::onnx::LoadError),
    #[error(transparent)]
    Models(#[from] RegistryError),
}
