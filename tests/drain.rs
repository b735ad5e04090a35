//! A drain over real sockets: the same in plain text, through TLS, and with keys.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use std::net::SocketAddr;

use support::{Certificate, Client, Engine, Fake, GOOD, OpCode, TestServer, is_good, tunnel};
use tempfile::TempDir;
use thalweg::checksum::sha256;
use thalweg::config::RawSettings;
use thalweg::registry::Registry;

fn open(address: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(address);
    let handshake = Client::handshake(path).replace("Host: test", "Host: test\r\nX-Api-Key: key");
    assert_eq!(client.ask(&handshake).status, 101);
    client
}

/// Drains a server that clients reach at the address that `reach` makes of its own.
fn check(settings: RawSettings, reach: impl Fn(SocketAddr) -> SocketAddr) {
    let mut server = TestServer::start(RawSettings { grace_period: Some(60), ..settings });
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 8, Engine::Doubles).served);
    server.state.serve(registry);
    let address = reach(server.address);

    let mut stream = open(address, "/v2/models/model/stream");
    assert_eq!(stream.receive().json()["type"], "session.created");
    let mut infer = open(address, "/v2/models/model/infer");
    infer.message(OpCode::Text, GOOD);
    assert!(is_good(&infer.receive().json()));
    let mut idle = Client::connect(address);
    assert_eq!(idle.ask("GET /health HTTP/1.1\r\n\r\n").status, 200);
    // They have not said all of what they are, and nobody waits for them.
    let silent = [(); 8].map(|()| Client::connect(server.address));
    let mut half = Client::connect(server.address);
    half.send(b"\x16\x03\x01");

    server.state.drain();
    let notice = stream.receive().json();
    assert_eq!((&notice["type"], &notice["time_left_ms"]), (&"going_away".into(), &55_000.into()));
    assert_eq!(infer.close_code(), 1001);
    assert!(infer.has_ended() && idle.has_ended());
    let mut late = Client::connect(address);
    let reply = late.ask("GET /health HTTP/1.1\r\n\r\n");
    assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
    assert_eq!(reply.json()["code"], "shutting_down");
    assert!(late.has_ended());
    let refused = Client::handshake("/v2/models/model/stream").replace("Host: test", "X-Api-Key: key");
    assert_eq!(Client::connect(address).ask(&refused).status, 503);
    // Who says only now what it is has an answer, too; a port of TLS has another for plain text.
    let status = if address == server.address { 503 } else { 400 };
    for mut client in silent {
        assert_eq!(client.ask("GET /health HTTP/1.1\r\n\r\n").status, status);
        assert!(client.has_ended());
    }

    // A stream goes on until there is no more time.
    stream.message(OpCode::Binary, [1, 2, 3, 4]);
    assert_eq!(stream.receive().json()["type"], "result");
    server.state.stop();
    assert_eq!(stream.close_code(), 1001);
    drop(stream);
    server.stop();
}

fn guarded(folder: &TempDir, settings: RawSettings) -> RawSettings {
    let path = folder.path().join("access.toml");
    std::fs::write(&path, format!("[[key]]\nname = 'k'\nsha256 = '{}'", sha256(b"key"))).unwrap();
    RawSettings { access_file: Some(path), ..settings }
}

#[test]
fn in_plain_text() {
    check(RawSettings::default(), |address| address);
}

#[test]
fn with_keys() {
    let folder = tempfile::tempdir().unwrap();
    check(guarded(&folder, RawSettings::default()), |address| address);
}

#[test]
fn through_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make();
    certificate.write(folder.path());
    check(Certificate::settings(folder.path()), |address| tunnel(address, &certificate));
}

#[test]
fn through_tls_with_keys() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make();
    certificate.write(folder.path());
    let settings = guarded(&folder, Certificate::settings(folder.path()));
    check(settings, |address| tunnel(address, &certificate));
}
