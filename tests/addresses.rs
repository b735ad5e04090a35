//! Two addresses: what is served at which, with TLS and keys at one of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};

use expect_test::expect;
use support::{Certificate, Client, Engine, Fake, TestServer, tunnel};
use thalweg::checksum::sha256;
use thalweg::config::{OptionalAddress, RawSettings};
use thalweg::registry::Registry;

const PATHS: [&str; 9] = [
    "/health",
    "/v2/health/live",
    "/v2/health/ready",
    "/metrics",
    "/v2",
    "/v2/models/model",
    "/v2/models/model/ready",
    "/v2/models/model/config",
    "/v2/models/model/stats",
];
const SOCKETS: [&str; 3] = ["/v2/models/model/infer", "/v2/models/model/stream", "/?model=model"];

fn server(settings: RawSettings) -> TestServer {
    let server = TestServer::start(settings);
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 8, Engine::Doubles).served);
    server.state.serve(registry);
    server
}

/// What is answered with which status.
fn statuses(address: SocketAddr) -> String {
    let gets = PATHS.map(|path| (path, format!("GET {path} HTTP/1.1\r\n\r\n")));
    let sockets = SOCKETS.map(|path| (path, Client::handshake(path)));
    let mut told = BTreeMap::<u16, Vec<&str>>::new();
    for (path, request) in gets.into_iter().chain(sockets) {
        told.entry(Client::connect(address).ask(&request).status).or_default().push(path);
    }
    let post = Client::connect(address).post(SOCKETS[0], "", support::GOOD.as_bytes());
    told.entry(post.status).or_default().push("POST");
    let lines = told.iter().map(|(status, paths)| format!("{status}: {}", paths.join(" ")));
    lines.collect::<Vec<_>>().join("\n")
}

fn beside(settings: RawSettings) -> RawSettings {
    RawSettings { metrics_listen: Some(OptionalAddress(Some(([127, 0, 0, 1], 0).into()))), ..settings }
}

#[test]
fn each_address_serves_what_it_is_for() {
    let only = server(RawSettings::default());
    expect![[r#"
        101: /v2/models/model/infer /v2/models/model/stream /?model=model
        200: /health /v2/health/live /v2/health/ready /metrics /v2 /v2/models/model /v2/models/model/ready /v2/models/model/config /v2/models/model/stats POST"#]].assert_eq(&statuses(only.address));
    assert_eq!(only.side_address, None);

    let mut both = server(beside(RawSettings::default()));
    let side = both.side_address.unwrap();
    expect![[r#"
        101: /v2/models/model/infer /v2/models/model/stream /?model=model
        200: /health /v2/health/live /v2/health/ready /v2 /v2/models/model /v2/models/model/ready /v2/models/model/config /v2/models/model/stats POST
        404: /metrics"#]].assert_eq(&statuses(both.address));
    expect![[r#"
        200: /health /v2/health/live /v2/health/ready /metrics /v2 /v2/models/model /v2/models/model/ready /v2/models/model/config /v2/models/model/stats
        404: /v2/models/model/infer /v2/models/model/stream /?model=model POST"#]].assert_eq(&statuses(side));
    both.stop();
    assert!([both.address, side].iter().all(|address| TcpStream::connect(address).is_err()));
}

#[test]
fn the_side_address_is_plain_and_asks_for_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make();
    certificate.write(folder.path());
    let access = folder.path().join("access.toml");
    std::fs::write(&access, format!("[[key]]\nname = 'k'\nsha256 = '{}'", sha256(b"key"))).unwrap();
    let settings = RawSettings { access_file: Some(access), ..Certificate::settings(folder.path()) };
    let server = server(beside(settings));
    expect![[r#"
        200: /health /v2/health/live /v2/health/ready
        401: /v2 /v2/models/model /v2/models/model/ready /v2/models/model/config /v2/models/model/stats /v2/models/model/infer /v2/models/model/stream /?model=model POST
        404: /metrics"#]].assert_eq(&statuses(tunnel(server.address, &certificate)));
    expect![[r#"
        200: /health /v2/health/live /v2/health/ready /metrics /v2 /v2/models/model /v2/models/model/ready /v2/models/model/config /v2/models/model/stats
        404: /v2/models/model/infer /v2/models/model/stream /?model=model POST"#]].assert_eq(&statuses(server.side_address.unwrap()));
}
