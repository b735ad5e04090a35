//! TLS over real sockets: the same server behind it, certificates that change, and clients that confuse the ports.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use expect_test::{Expect, expect};
use support::{Certificate, Client, Engine, Fake, GOOD, OpCode, TestServer, is_good, shake_hands, tunnel};
use tempfile::TempDir;
use thalweg::clock::Clock;
use thalweg::config::RawSettings;
use thalweg::metrics::Metrics;
use thalweg::net::State;
use thalweg::registry::Registry;
use tokio_rustls::rustls::ClientConfig;

const INFER: &str = "/v2/models/model/infer";

fn server(settings: RawSettings) -> TestServer {
    let server = TestServer::start(settings);
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 8, Engine::Doubles).served);
    server.state.serve(registry);
    server
}

fn encrypted() -> (TempDir, Certificate, TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make();
    certificate.write(folder.path());
    let server = server(Certificate::settings(folder.path()));
    (folder, certificate, server)
}

fn ask(client: &mut Client) {
    client.message(OpCode::Text, GOOD);
    let answer = client.receive().json();
    assert!(is_good(&answer), "{answer}");
}

/// How a handshake ends: the version and protocol, or why it failed.
fn handshake(address: SocketAddr, config: ClientConfig) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(shake_hands(address, config)) {
        Err(error) => error.to_string(),
        Ok(stream) => {
            let connection = stream.get_ref().1;
            let protocol = connection.alpn_protocol().map(String::from_utf8_lossy);
            format!("{:?} {:?}", connection.protocol_version().unwrap(), protocol.unwrap_or_default())
        }
    }
}

fn failures(server: &TestServer) -> String {
    let text = server.state.exposition();
    let lines = text.lines().filter_map(|line| line.strip_prefix("thalweg_tls_failed_total"));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.join(" ")
}

/// The server counts a handshake when it is through with it, and that may be after the client.
fn wait_for_failures(server: &TestServer, expected: &str) {
    let mut looks = std::iter::repeat_with(|| {
        std::thread::yield_now();
        failures(server)
    });
    assert!(looks.by_ref().take(1_000_000).any(|seen| seen == expected), "{}", failures(server));
}

#[test]
fn http_and_websocket_are_served_through_tls() {
    let (_folder, certificate, mut server) = encrypted();
    let address = tunnel(server.address, &certificate);
    let mut client = Client::connect(address);
    for _ in 0..2 {
        assert!(is_good(&client.post(INFER, "", GOOD.as_bytes()).json()));
    }
    // Frames that come in one record with the handshake wait for it.
    let mut eager = Client::connect(address);
    eager
        .send([Client::handshake(INFER).as_bytes(), &support::frame(OpCode::Text, GOOD.as_bytes())].concat());
    assert_eq!(eager.reply(false).status, 101);
    assert!(is_good(&eager.receive().json()));
    // A message of many records.
    let rows = 8;
    let many =
        format!("[{}]", vec!["1.0000000000000000000000000000000000000000000000000"; rows * 4].join(","));
    let padding = " ".repeat(1 << 20);
    let request = format!(
        r#"{{"id":"large",{padding}"inputs":[{{"name":"x","shape":[{rows},4],"datatype":"FP32","data":{many}}}]}}"#
    );
    eager.message(OpCode::Text, &request);
    let answer = eager.receive().json();
    assert_eq!(answer["outputs"][0]["data"].as_array().map(Vec::len), Some(rows * 4), "{answer}");

    let mut closing = Client::open(address, INFER);
    closing.message(OpCode::Close, 1000_u16.to_be_bytes());
    assert_eq!(closing.close_code(), 1000);
    assert!(closing.has_ended());
    server.state.stop();
    assert_eq!(eager.close_code(), 1001);
    drop(eager);
    server.stop();
}

#[test]
fn a_new_certificate_takes_over_and_connections_stay() {
    let (folder, old, server) = encrypted();
    let mut before = Client::open(tunnel(server.address, &old), INFER);
    ask(&mut before);
    let look_twice = || (0..2).for_each(|_| server.state.look());

    // One that is no good changes nothing.
    std::fs::write(folder.path().join("tls.crt"), "nonsense").unwrap();
    look_twice();
    ask(&mut Client::open(tunnel(server.address, &old), INFER));

    let new = Certificate::make();
    new.write(folder.path());
    look_twice();
    ask(&mut Client::open(tunnel(server.address, &new), INFER));
    assert!(handshake(server.address, old.trusting()).contains("certificate"));
    ask(&mut before);
}

#[test]
fn handshakes_end_as_they_should() {
    let (_folder, certificate, server) = encrypted();
    let with = |protocols: &[&str]| {
        let mut config = certificate.trusting();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let check = |config, expect: Expect| expect.assert_eq(&handshake(server.address, config));
    check(with(&[]), expect![[r#"TLSv1_3 """#]]);
    check(with(&["h2", "http/1.1"]), expect![[r#"TLSv1_3 "http/1.1""#]]);
    check(with(&["h2"]), expect!["received fatal alert: NoApplicationProtocol"]);
    check(Certificate::make().trusting(), expect!["invalid peer certificate: BadSignature"]);
    let expected = r#"{reason="incompatible"} 1 {reason="refused"} 1"#;
    wait_for_failures(&server, expected);
}

#[test]
fn a_client_that_does_not_shake_hands_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    Certificate::make().write(folder.path());
    let settings = RawSettings { request_timeout: Some(1), ..Certificate::settings(folder.path()) };
    let server = server(settings);
    let mut silent = Client::connect(server.address);
    let mut half = Client::connect(server.address);
    half.send(b"\x16\x03\x01");
    let mut gone = Client::connect(server.address);
    gone.send(b"\x16\x03\x01");
    drop(gone);
    let mut noise = Client::connect(server.address);
    noise.send([0xff; 64]);
    // None of them is waited for without end.
    assert!(silent.has_ended() && half.has_ended());
    let expected = r#"{reason="gone"} 1 {reason="invalid"} 1 {reason="timeout"} 1"#;
    wait_for_failures(&server, expected);
}

#[test]
fn plain_http_at_the_port_of_tls_is_told_so() {
    let (_folder, _, server) = encrypted();
    for request in [
        "GET /health HTTP/1.1\r\n\r\n".to_owned(),
        Client::handshake(INFER),
        format!("POST {INFER} HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n{}", " ".repeat(2_000_000)),
    ] {
        let mut client = Client::connect(server.address);
        let reply = client.ask(&request);
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")));
        let message = "this port speaks TLS; connect to it with https:// or wss://";
        assert_eq!(reply.json()["error"], message);
        assert!(client.has_ended());
    }
    expect![[r#"{reason="plain_http"} 3"#]].assert_eq(&failures(&server));
}

#[test]
fn tls_at_a_plain_port_has_an_alert() {
    let server = server(RawSettings::default());
    let certificate = Certificate::make();
    expect!["received fatal alert: HandshakeFailure"]
        .assert_eq(&handshake(server.address, certificate.trusting()));
    expect![[r#"{reason="plain_port"} 1"#]].assert_eq(&failures(&server));
}

#[test]
fn a_server_does_not_start_without_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Certificate::settings(folder.path()).validate().unwrap();
    let start = || {
        State::new(&settings, Clock::start(), Metrics::new().unwrap()).map(|state| Arc::strong_count(&state))
    };
    let why = start().unwrap_err().to_string().replace(&folder.path().display().to_string(), "…");
    expect!["…/tls.crt: cannot be read: No such file or directory (os error 2)"].assert_eq(&why);
    Certificate::make().write(folder.path());
    assert_eq!(start().ok(), Some(1));
}
