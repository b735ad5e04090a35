//! `thalweg serve`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, descriptors, log, repositories, runtime};
use crate::clock::Clock;
use crate::config::{RawSettings, Settings};
use crate::lane::Cores;
use crate::metrics::Metrics;
use crate::net::{Server, State};
use crate::registry::{Loader, Registry};
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
        let cores = Cores::of_this_machine();
        let others = Arc::clone(&cores);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads)
            .enable_all()
            .thread_name("thalweg-net")
            .on_thread_park(move || others.give_way())
            .build()?;
        let ended = runtime.block_on(serve(settings, cores));
        // A fetch that is under way is not waited for.
        runtime.shutdown_background();
        log.end();
        ended
    }
}

async fn serve(settings: Settings, cores: Arc<Cores>) -> Result<(), Failure> {
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
    let load = move || -> Result<Registry, String> {
        load(&settings, metrics, clock, &loader_state, cores).map_err(|failure| failure.to_string())
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // As process 1 of a container it would not be ended by a signal that nobody waits for.
    let registry = tokio::select! {
        loaded = tokio::task::spawn_blocking(load) => loaded??,
        _ = terminate.recv() => return early(),
        _ = interrupt.recv() => return early(),
    };
    tracing::info!(%address, models = registry.all().count(), "ready");
    state.serve(registry);

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

/// Everything that is served, or a sentence: nothing is served before all is here and loaded.
fn load(
    settings: &Settings,
    metrics: Arc<Metrics>,
    clock: Clock,
    state: &State,
    cores: Arc<Cores>,
) -> Result<Registry, Failure> {
    let (runtime, gpus) = runtime::load(settings, &metrics)?;
    let repositories = repositories::bring(settings)?;
    let loader = Loader { runtime, metrics, clock, memory: state.memory.clone(), cores, gpus };
    Ok(loader.load(&repositories.folders, &settings.default_model)?)
}

/// Told to end before anything was served.
fn early() -> Result<(), Failure> {
    tracing::info!("ended before the models were loaded");
    Ok(())
}
