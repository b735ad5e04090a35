//! The server as `thalweg serve` puts it together, on a port that is free.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use thalweg::clock::Clock;
use thalweg::config::{RawSettings, Settings};
use thalweg::engine::onnx::OnnxRuntime;
use thalweg::lane::Cores;
use thalweg::metrics::Metrics;
use thalweg::net::{Server, State};
use thalweg::registry::file::InstanceKind;
use thalweg::registry::{Gpus, Loader, Registry};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// A server, which ends with this value.
pub struct TestServer {
    pub address: SocketAddr,
    /// If `metrics_listen` is set.
    pub side_address: Option<SocketAddr>,
    pub state: Arc<State>,
    settings: Settings,
    running: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl TestServer {
    /// Listens; nothing is served yet.
    pub fn start(settings: RawSettings) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let threads = settings.threads.or(Some(2));
        let settings = RawSettings { listen: Some(any_port), threads, ..settings }.validate().unwrap();
        let state = State::new(&settings, Clock::start(), Metrics::new().unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads)
            .enable_all()
            .build()
            .unwrap();
        let bind = async {
            let server = Server::bind(settings.listen, Arc::clone(&state)).await?;
            match settings.metrics_listen.0 {
                Some(address) => server.beside(address).await,
                None => Ok(server),
            }
        };
        let server = runtime.block_on(bind).unwrap();
        let (address, side_address) = (server.address().unwrap(), server.side_address());
        let running = Some(runtime.spawn(server.run()));
        Self { address, side_address, state, settings, running, runtime: Some(runtime) }
    }

    /// Loads the models of a folder with ONNX Runtime.
    pub fn load(&self, repository: PathBuf) -> Registry {
        static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
        let library = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("runtime/libonnxruntime.so.1.32.0");
        let runtime = RUNTIME.get_or_init(|| OnnxRuntime::load(&library).unwrap()).clone();
        let State { metrics, clock, memory, .. } = &*self.state;
        let nowhere = PathBuf::new;
        let gpus = Gpus::new(InstanceKind::Cpu, nowhere(), nowhere(), Arc::clone(metrics));
        let (metrics, cores) = (Arc::clone(metrics), Cores::of_this_machine());
        let loader = Loader { gpus, runtime, metrics, clock: *clock, memory: memory.clone(), cores };
        loader.load(&[repository], "").unwrap()
    }

    /// Has the watchdog look as it would in an hour.
    pub fn watch(&self) {
        self.state.watch(self.state.clock.now() + Duration::from_secs(3600));
    }

    /// Waits until every model is at work.
    pub fn wait_until_ready(&self) {
        let end = self.state.clock.now() + Duration::from_secs(60);
        while let Err(why) = self.state.ready() {
            assert!(self.state.clock.now() < end, "{why}");
            std::thread::yield_now();
        }
    }

    /// Stops, and waits until the server has let its connections end.
    pub fn stop(&mut self) {
        self.state.stop();
        if let (Some(runtime), Some(running)) = (&self.runtime, self.running.take()) {
            runtime.block_on(running).unwrap();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.state.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
