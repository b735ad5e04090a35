//! Each error code has a request that provokes it over a real socket, on each surface where it can occur.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may")]

mod cases;
mod document;
mod provoke;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use cases::cases;
use provoke::{Note, provoke};
use serde_json::json;
use stage::{Scene, Stage};
use support::{Client, Engine, Fake, GOOD, OpCode, TestServer, is_good};
use thalweg::config::RawSettings;
use thalweg::error::Code;
use thalweg::registry::Registry;

#[test]
fn every_code_is_provoked_over_a_socket() {
    let mut loaded = Stage::set(Scene::Loaded);
    for &code in Code::ALL {
        let cases = cases(code);
        assert!(!cases.is_empty(), "nothing provokes {code:?}");
        for case in &cases {
            for &surface in case.ask.surfaces() {
                let _note = Note(code, surface, case);
                match case.scene {
                    Scene::Loaded => provoke(&mut loaded, surface, code, case),
                    scene => provoke(&mut Stage::set(scene), surface, code, case),
                }
            }
        }
    }
}

#[test]
fn errors_of_one_client_do_not_touch_the_answers_of_others() {
    let mut loaded = Stage::set(Scene::Loaded);
    let (address, done) = (loaded.server.address, AtomicBool::new(false));
    std::thread::scope(|scope| {
        for good_client in 0..4 {
            let done = &done;
            scope.spawn(move || {
                let mut client = Client::open(address, "/v2/models/poison/infer");
                let mut rounds = 0;
                while rounds == 0 || !done.load(Ordering::Relaxed) {
                    client.send(support::frame(OpCode::Text, GOOD.as_bytes()).repeat(8));
                    for _ in 0..8 {
                        let answer = client.receive().json();
                        assert!(is_good(&answer), "client {good_client}: {answer}");
                    }
                    rounds += 1;
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for &code in Code::ALL {
                for case in cases(code).iter().filter(|case| case.scene == Scene::Loaded) {
                    for &surface in case.ask.surfaces() {
                        let _note = Note(code, surface, case);
                        provoke(&mut loaded, surface, code, case);
                    }
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn a_flood_fills_the_queue_and_each_request_has_one_answer() {
    let loaded = Stage::set(Scene::Loaded);
    let mut client = Client::open(loaded.server.address, "/v2/models/slow/infer");
    let request = |id: usize| GOOD.replace("good", &id.to_string());
    let flood: Vec<u8> =
        (0..64).flat_map(|id| support::frame(OpCode::Text, request(id).as_bytes())).collect();
    client.send(flood);
    let mut refused = 0;
    for id in 0..64 {
        let answer = client.receive().json();
        assert_eq!(answer["id"], id.to_string(), "{answer}");
        match answer["code"].as_str() {
            None => assert_eq!(answer["outputs"][0]["data"], json!([1.0, 2.0, 3.0, 4.0])),
            Some("queue_full") => refused += 1,
            Some(_) => panic!("{answer}"),
        }
    }
    // A run takes many times longer than reading 64 requests, of which five find room.
    assert!((1..=63).contains(&refused), "{refused}");
}

#[test]
fn a_socket_has_the_answers_it_is_owed_before_the_server_goes() {
    let mut stage = Stage::set(Scene::QueueFull);
    let address = stage.server.address;
    let (mut client, count) = stage.waiting.take().unwrap();
    stage.server.state.stop();
    stage.gate = None;
    for _ in 0..count {
        assert!(is_good(&client.receive().json()));
    }
    assert_eq!(client.close_code(), 1001);
    assert!(client.has_ended());
    drop(client);
    stage.server.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_client_that_closes_has_the_answers_it_is_owed() {
    let mut stage = Stage::set(Scene::QueueFull);
    let (mut client, count) = stage.waiting.take().unwrap();
    client.message(OpCode::Close, 3000_u16.to_be_bytes());
    stage.gate = None;
    for _ in 0..count {
        assert!(is_good(&client.receive().json()));
    }
    assert_eq!(client.close_code(), 3000);
    assert!(client.has_ended());
}

#[test]
fn a_full_window_holds_its_own_client_back_only() {
    let settings = RawSettings { max_requests_per_connection: Some(2), ..RawSettings::default() };
    let server = TestServer::start(settings);
    let (engine, gate) = Engine::gated();
    let mut registry = Registry::default();
    for (name, engine) in [("model", engine), ("other", Engine::Doubles)] {
        registry.insert(Fake::start(&server.state, name, 64, engine).served);
    }
    server.state.serve(registry);
    let mut client = Client::open(server.address, "/v2/models/model/infer");
    client.send(support::frame(OpCode::Text, GOOD.as_bytes()).repeat(16));
    gate.wait_for_run();
    let mut other = Client::open(server.address, "/v2/models/other/infer");
    for _ in 0..100 {
        other.message(OpCode::Text, GOOD);
        assert!(is_good(&other.receive().json()));
    }
    let depth = server.state.registry().unwrap().get("model", None).unwrap().depth();
    assert!(depth < 2, "{depth} requests wait of a window of 2, one of which runs");
    drop(gate);
    for _ in 0..16 {
        assert!(is_good(&client.receive().json()));
    }
}
