//! Thousands of streams that open, step, reset, flood, die and come back, over sockets and in two lanes: each has
//! a running sum of its own, and no slot is lost.
//!
//! `THALWEG_SEED=7 cargo test --test streams` has the same clients do the same again. How threads interleave is
//! not in the seed's hands, so a failure may need several runs to show itself once more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod life;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use life::{Counts, Life, Model};
use support::{Client, TestServer};
use tempfile::TempDir;
use thalweg::config::RawSettings;
use thalweg::registry::Served;

const SEEDS: u64 = 10;
const CLIENTS: usize = 12;
/// Streams that each client opens, or tries to, one after the other.
const LIVES: usize = 30;
/// Of each of two models: less than there are clients, so that upgrades are refused.
const CAPACITY: usize = 5;
/// Waiting so long is a failure, and costs nothing otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

const MADE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/repository");

/// The accumulators with two lanes each, and windows of four numbers.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let axis_1 =
        "inputs.state.batch_axis = 1\noutputs = { y = { batch_axis = 1 }, state_out = { batch_axis = 1 } }";
    for (name, axes) in [("accumulator", ""), ("accumulator_axis1", axis_1)] {
        let toml = format!(
            "max_batch_size = 64\n{axes}
            instance_group = [{{ kind = 'cpu', count = 2 }}]
            [sequence_batching]
            max_candidate_sequences = {CAPACITY}
            state = [{{ input_name = 'state', output_name = 'state_out' }}]
            [stream.signal]
            encodings = ['f32le']
            sample_rate = 1000
            window = 4"
        );
        let version = folder.path().join(name).join("1");
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(folder.path().join(name).join("model.toml"), toml).unwrap();
        let model = Path::new(MADE).join(name).join("1/model.onnx");
        let copied = std::fs::copy(&model, version.join("model.onnx"));
        copied.unwrap_or_else(|error| panic!("{}: {error}; `make test-models` makes it", model.display()));
    }
    folder
}

#[test]
fn every_stream_has_a_sum_of_its_own() {
    let folder = repository();
    let server = TestServer::start(RawSettings {
        // Floods are to fill it.
        max_requests_per_connection: Some(8),
        ping_interval: Some(0),
        ..RawSettings::default()
    });
    let registry = server.load(folder.path().to_owned());
    server.state.serve(registry);
    let models = [("accumulator", 1), ("accumulator_axis1", 2)]
        .map(|(name, copies)| Model::new(name, copies, CAPACITY));

    #[allow(clippy::disallowed_methods, reason = "the seed to do again")]
    let chosen = std::env::var("THALWEG_SEED").ok();
    if let Some(seed) = chosen {
        run(&server, &models, seed.parse().expect("THALWEG_SEED is a number"));
        return;
    }
    let mut total = Counts::default();
    for seed in 0..SEEDS {
        match catch_unwind(AssertUnwindSafe(|| run(&server, &models, seed))) {
            Ok(counts) => total += counts,
            Err(_) => panic!("seed {seed}; to do it again: THALWEG_SEED={seed} cargo test --test streams"),
        }
    }
    // Clients that do nothing find no fault.
    let Counts { opened, refused, answers, resets, owed_to_the_dead } = total;
    assert!(opened > 1500 && refused > 100 && answers > 5_000, "{total:?}");
    assert!(resets > 500 && owed_to_the_dead > 1000, "{total:?}");
}

fn run(server: &TestServer, models: &[Model], seed: u64) -> Counts {
    let mut random = Rng::with_seed(seed);
    let counts = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut random = random.fork();
                scope.spawn(move || {
                    let mut counts = Counts::default();
                    for _ in 0..LIVES {
                        let model = &models[random.usize(..models.len())];
                        if let Some(mut life) = Life::open(server.address, model, &mut counts) {
                            life.live(&mut random, &mut counts);
                        }
                    }
                    counts
                })
            })
            .collect();
        let mut total = Counts::default();
        // All of them, so that a panic in one does not leave others at work.
        let ended: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        ended.into_iter().for_each(|counts| total += counts.unwrap());
        total
    });
    for model in models {
        no_slot_is_lost(server, model);
    }
    counts
}

/// With all clients gone every slot is free, each once, and nobody's state is in it.
fn no_slot_is_lost(server: &TestServer, model: &Model) {
    let served = Arc::clone(server.state.registry().unwrap().get(model.name, None).unwrap());
    let streams = served.streams.as_ref().unwrap();
    until(server, || open(&served) == 0, "streams are still open");
    until(server, || served.depth() == 0, "steps of nobody still wait");

    let mut counts = Counts::default();
    let mut lives: Vec<_> =
        (0..streams.capacity()).map(|_| Life::open(server.address, model, &mut counts).unwrap()).collect();
    for life in &mut lives {
        life.step(&[1.0; 8]);
    }
    lives.iter_mut().for_each(Life::take_all);
    assert!(Life::open(server.address, model, &mut counts).is_none(), "one more than the capacity");
    drop(lives.pop());
    until(server, || open(&served) < streams.capacity(), "the slot is not free");
    let mut heir = Life::open(server.address, model, &mut counts).unwrap();
    heir.step(&[1.0; 4]);
    heir.take_all();
    drop((heir, lives));
    until(server, || open(&served) == 0, "streams are still open");
}

fn open(served: &Served) -> usize {
    served.streams.as_ref().unwrap().open_count()
}

fn until(server: &TestServer, holds: impl Fn() -> bool, otherwise: &str) {
    let clock = server.state.clock;
    let start = clock.now();
    while !holds() {
        assert!(clock.now() - start < PATIENCE, "{otherwise}");
        thread::yield_now();
    }
}

/// A client that has asked for a stream, and what it was answered.
fn ask(address: std::net::SocketAddr, path: &str) -> (Client, support::Reply) {
    let mut client = Client::connect(address);
    let reply = client.ask(&Client::handshake(path));
    (client, reply)
}
