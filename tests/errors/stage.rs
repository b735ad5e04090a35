//! A server in the state that an error needs.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use thalweg::config::{ByteSize, RawSettings};
use thalweg::registry::Registry;

use super::support::{Certificate, Client, Engine, Fake, GOOD, Gate, OpCode, TestServer, repository};

/// In which state of the server a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Real models, loaded.
    Loaded,
    /// Real models, and a stream that takes the only slot of one.
    Streaming,
    /// Real models, and sequence 7 of one, whose first step was too late.
    Lost,
    /// The models are not loaded yet.
    Loading,
    /// Told to stop when half of the request has arrived.
    Stopping,
    /// The only WebSocket that there may be is open.
    Crowded,
    /// The only WebSocket that an address may have is open.
    CrowdedAddress,
    /// TLS is spoken.
    Encrypted,
    /// A key is needed; that of the name `good` has the only WebSocket that it may have.
    Guarded,
    /// Messages hold 1 KiB.
    Small,
    /// A request runs and another fills the queue.
    QueueFull,
    /// A request runs whose payload fills the memory for requests.
    MemoryFull,
    /// The next run stalls, and is given up.
    Stalled,
    /// The model's only instance dies of the next request.
    Dying,
    /// The model's only instance has died.
    Dead,
}

/// A server in the state of a scene; what it waits for is let go with [`Stage::release`].
pub struct Stage {
    pub server: TestServer,
    pub gate: Option<Gate>,
    /// The request that a gate holds, and the one behind it.
    pub waiting: Option<(Client, usize)>,
    /// Dies of the first request.
    lane: Option<std::thread::JoinHandle<()>>,
    /// Gives up the first run.
    watchdog: Option<std::thread::JoinHandle<()>>,
    _folder: TempDir,
}

impl Stage {
    pub fn set(scene: Scene) -> Self {
        let small = RawSettings {
            // One thread, so that what arrives first is also seen first.
            threads: Some(1),
            max_message_size: Some(ByteSize(1 << 10)),
            max_request_memory: Some(ByteSize(1 << 10)),
            ..RawSettings::default()
        };
        let small = match scene {
            Scene::Crowded => RawSettings { max_connections: Some(1), ..small },
            Scene::CrowdedAddress => RawSettings { max_connections_per_address: Some(1), ..small },
            _ => small,
        };
        let settings = if matches!(scene, Scene::Loaded | Scene::Streaming | Scene::Lost) {
            RawSettings::default()
        } else {
            small
        };
        let folder = tempfile::tempdir().unwrap();
        let settings = match scene {
            Scene::Encrypted => {
                Certificate::make().write(folder.path());
                Certificate::settings(folder.path())
            }
            Scene::Guarded => {
                let path = folder.path().join("access.toml");
                let sha256 = thalweg::checksum::sha256(b"good");
                let key = format!("[[key]]\nname = 'good'\nmax_connections = 1\nsha256 = '{sha256}'");
                let origins = "[browser]\nallowed_origins = ['https://app.example']";
                std::fs::write(&path, format!("{key}\n{origins}")).unwrap();
                RawSettings { access_file: Some(path), ..settings }
            }
            _ => settings,
        };
        let server = TestServer::start(settings);
        let mut stage =
            Self { server, gate: None, waiting: None, lane: None, watchdog: None, _folder: folder };
        let engine = match scene {
            Scene::Loading => return stage,
            Scene::Loaded | Scene::Streaming | Scene::Lost => {
                let models = repository();
                stage.server.state.serve(stage.server.load(models.path().to_owned()));
                stage._folder = models;
                if scene == Scene::Streaming {
                    let mut client = Client::open(stage.server.address, "/v2/models/one_stream/stream");
                    assert_eq!(client.receive().json()["type"], "session.created");
                    stage.waiting = Some((client, 0));
                }
                if scene == Scene::Lost {
                    let start =
                        r#""parameters":{"sequence_id":7,"sequence_start":true,"timeout":1},"inputs""#;
                    let start = GOOD.replace(r#""inputs""#, start);
                    let mut client = Client::connect(stage.server.address);
                    let reply = client.post("/v2/models/accumulator/infer", "", start.as_bytes());
                    assert_eq!(reply.json()["code"], "deadline_exceeded");
                }
                return stage;
            }
            Scene::QueueFull | Scene::MemoryFull | Scene::Stalled => {
                let (engine, gate) = Engine::gated();
                stage.gate = Some(gate);
                engine
            }
            Scene::Dying | Scene::Dead => Engine::Panics,
            Scene::Stopping
            | Scene::Small
            | Scene::Crowded
            | Scene::CrowdedAddress
            | Scene::Encrypted
            | Scene::Guarded => Engine::Doubles,
        };
        let fake = Fake::start(&stage.server.state, "model", 1, engine);
        let mut registry = Registry::default();
        registry.insert(fake.served);
        stage.server.state.serve(registry);
        stage.lane = Some(fake.lane);
        match scene {
            Scene::QueueFull => stage.occupy(&[GOOD, GOOD]),
            Scene::Stalled => {
                let state = Arc::clone(&stage.server.state);
                let watch = move || state.watch(state.clock.now() + Duration::from_secs(3600));
                stage.watchdog = stage.gate.as_ref().map(|gate| gate.at_run(watch));
            }
            Scene::MemoryFull => stage.occupy(&[&full_of_zeros()]),
            Scene::Crowded | Scene::CrowdedAddress => {
                stage.waiting = Some((Client::open(stage.server.address, "/v2/models/model/infer"), 0));
            }
            Scene::Guarded => {
                let mut client = Client::connect(stage.server.address);
                let handshake = Client::handshake("/v2/models/model/infer");
                assert_eq!(client.ask(&handshake.replace("Host: test", "X-Api-Key: good")).status, 101);
                stage.waiting = Some((client, 0));
            }
            Scene::Dead => {
                let mut client = Client::connect(stage.server.address);
                let reply = client.post("/v2/models/model/infer", "", GOOD.as_bytes());
                assert_eq!(reply.json()["code"], "internal");
                let _ = stage.lane.take().map(std::thread::JoinHandle::join);
            }
            _ => {}
        }
        stage
    }

    /// Lets one request run, up to the gate, and others wait behind it.
    fn occupy(&mut self, requests: &[&str]) {
        let mut client = Client::open(self.server.address, "/v2/models/model/infer");
        for (index, request) in requests.iter().enumerate() {
            client.message(OpCode::Text, request);
            match &self.gate {
                Some(gate) if index == 0 => gate.wait_for_run(),
                _ => self.wait_for_depth(index),
            }
        }
        self.waiting = Some((client, requests.len()));
    }

    fn wait_for_depth(&self, depth: usize) {
        let registry = self.server.state.registry().unwrap();
        let producer = registry.get("model", None).unwrap();
        while producer.depth() != depth {
            std::thread::yield_now();
        }
    }

    /// Lets go what waits, and sees that it was answered.
    pub fn release(&mut self) {
        self.gate = None;
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.join().unwrap();
            self.server.wait_until_ready();
        }
        if let Some((mut client, count)) = self.waiting.take() {
            for _ in 0..count {
                let answer = client.receive().json();
                assert!(answer["outputs"].is_array(), "{answer}");
            }
        }
    }
}

/// A request whose payload takes 1 KiB.
fn full_of_zeros() -> String {
    let zeros = format!("[{}]", ["0"; 256].join(","));
    format!(r#"{{"inputs":[{{"name":"x","shape":[64,4],"datatype":"FP32","data":{zeros}}}]}}"#)
}
