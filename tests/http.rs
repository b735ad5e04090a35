//! HTTP as clients send it that were written by others: early answers, half-sent bodies, old versions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use support::{Client, Engine, Fake, GOOD, OpCode, Reply, TestServer, is_good};
use thalweg::config::{ByteSize, RawSettings};
use thalweg::registry::Registry;

const INFER: &str = "/v2/models/model/infer";
const NAMES: [&str; 2] = ["model", "höhe/ 1"];

fn server(settings: RawSettings) -> TestServer {
    let server = TestServer::start(settings);
    let mut registry = Registry::default();
    for name in NAMES {
        registry.insert(Fake::start(&server.state, name, 8, Engine::Doubles).served);
    }
    server.state.serve(registry);
    server
}

fn client() -> (TestServer, Client) {
    let server = server(RawSettings::default());
    let client = Client::connect(server.address);
    (server, client)
}

fn good(client: &mut Client) {
    let answer = client.post(INFER, "", GOOD.as_bytes()).json();
    assert!(is_good(&answer), "{answer}");
}

fn code(reply: &Reply) -> String {
    reply.json()["code"].as_str().unwrap().to_owned()
}

/// 20 MiB in chunks, and without the end of the body.
fn chunks() -> Vec<u8> {
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    chunk.repeat(20)
}

#[test]
fn a_client_that_is_still_sending_has_its_answer() {
    let server = server(RawSettings::default());
    let (length, many) = (20 << 20, vec![b' '; 20 << 20]);
    let head = |path: &str, how: &str| format!("POST {path} HTTP/1.1\r\nHost: test\r\n{how}\r\n\r\n");
    let by_length = format!("Content-Length: {length}");
    let by_chunks = "Transfer-Encoding: chunked";
    let end = b"0\r\n\r\n";
    for (path, how, body, expected) in [
        (INFER, &*by_length, many.clone(), "message_too_large"),
        (INFER, by_chunks, [&chunks()[..], end].concat(), "message_too_large"),
        ("/v2/models/nobody/infer", &*by_length, many.clone(), "unknown_model"),
        ("/nowhere", by_chunks, [&chunks()[..], end].concat(), "unknown_route"),
        ("/health", &*by_length, many.clone(), "method_not_allowed"),
    ] {
        // Sends all of it before it reads a byte.
        let mut client = Client::connect(server.address);
        client.send(head(path, how));
        client.send(&body);
        assert_eq!(code(&client.reply(true)), expected, "{path} {how}");
        good(&mut client);
    }
}

#[test]
fn a_body_that_is_said_to_be_too_large_is_refused_before_it_comes() {
    let (_server, mut client) = client();
    for length in ["16777217", "4611686018427387904"] {
        let mut client = Client::connect(_server.address);
        client.send(format!("POST {INFER} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"));
        assert_eq!(code(&client.reply(true)), "message_too_large");
    }
    // This one asks first, and sends nothing once it has its answer.
    client.send(format!("POST {INFER} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 16777217\r\n\r\n"));
    assert_eq!(code(&client.reply(true)), "message_too_large");
    assert!(client.has_ended());
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let (_server, mut client) = client();
    let length = GOOD.len();
    client.send(format!("POST {INFER} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"));
    assert_eq!(client.reply(false).status, 100);
    client.send(GOOD);
    assert!(is_good(&client.reply(true).json()));
    client
        .send(format!("POST {INFER} HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(client.reply(false).status, 100);
    client.send([&chunks()[..], b"0\r\n\r\n"].concat());
    assert_eq!(code(&client.reply(true)), "message_too_large");
    good(&mut client);
}

#[test]
fn head_is_get_without_a_body() {
    let (_server, mut client) = client();
    for path in ["/health", "/v2", "/v2/models/model", "/metrics"] {
        let got = client.ask(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        let head = client.ask(&format!("HEAD {path} HTTP/1.1\r\n\r\n"));
        assert_eq!((head.status, got.status), (200, 200), "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
        assert!(head.header("content-length").is_some(), "{path}");
    }
    assert_eq!(client.ask(&format!("HEAD {INFER} HTTP/1.1\r\n\r\n")).status, 405);
    assert_eq!(client.ask("HEAD / HTTP/1.1\r\n\r\n").status, 426);
    good(&mut client);
}

#[test]
fn http_1_0_keeps_the_connection_if_asked() {
    let (server, mut client) = client();
    for _ in 0..2 {
        let reply = client.ask("GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")));
    }
    let mut other = Client::connect(server.address);
    assert_eq!(other.ask("GET /v2 HTTP/1.0\r\n\r\n").status, 200);
    assert!(other.has_ended());
}

#[test]
fn offers_of_other_protocols_are_passed_over() {
    let (server, mut client) = client();
    // As Java's client and `curl --http2` do with every request.
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let reply = client.post(INFER, offer, GOOD.as_bytes());
    assert!(is_good(&reply.json()), "{reply:?}");
    let both = Client::handshake(INFER).replace("Upgrade: websocket", "Upgrade: h2c, WebSocket");
    let mut socket = Client::connect(server.address);
    assert_eq!(socket.ask(&both).status, 101);
    socket.message(OpCode::Text, GOOD);
    assert!(is_good(&socket.receive().json()));
}

#[test]
fn frames_may_come_with_the_handshake() {
    let (_server, mut client) = client();
    let frame = support::frame(OpCode::Text, GOOD.as_bytes());
    client.send([Client::handshake(INFER).as_bytes(), &frame].concat());
    assert_eq!(client.reply(false).status, 101);
    assert!(is_good(&client.receive().json()));
}

#[test]
fn a_body_in_a_handshake_is_not_taken_for_frames() {
    let server = server(RawSettings::default());
    let frame = support::frame(OpCode::Text, GOOD.as_bytes());
    let length = format!("Content-Length: {}", frame.len());
    for how in [&*length, "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(server.address);
        let head = Client::handshake(INFER).replace("Host: test", how);
        client.send([head.as_bytes(), &frame].concat());
        let reply = client.reply(true);
        assert_eq!((reply.status, code(&reply)), (400, "invalid_upgrade".to_owned()));
    }
}

#[test]
fn names_are_percent_encoded_and_queries_may_be_odd() {
    let (server, mut client) = client();
    for path in ["/v2/models/h%C3%B6he%2f%201", "/v2/models/%68%c3%b6he%2F%201?a&&=b=c&%zz%ff"] {
        let reply = client.ask(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert_eq!(reply.json()["name"], NAMES[1], "{path}");
    }
    for (query, greets) in [
        ("?model=h%C3%B6he%2F+1", true),
        ("?&&model=model&model=nobody&%ff=%ff", true),
        ("?model=model&greeting=false", false),
        ("?greeting=%66alse&output=bin&model=model", false),
    ] {
        let mut socket = Client::open(server.address, &format!("/{query}"));
        socket.message(OpCode::Text, "abcd");
        let kinds: Vec<_> =
            (0..=usize::from(greets)).map(|_| socket.receive().json()["type"].clone()).collect();
        assert_eq!(kinds, if greets { &["session.created", "result"][..] } else { &["result"] }, "{query}");
    }
}

#[test]
fn methods_that_a_path_allows_are_told() {
    let (_server, mut client) = client();
    for (request, allow) in [
        (format!("PUT {INFER}"), "GET, POST"),
        ("DELETE /v2".to_owned(), "GET, HEAD"),
        ("OPTIONS /v2/models/model".to_owned(), "GET, HEAD"),
    ] {
        let reply = client.ask(&format!("{request} HTTP/1.1\r\n\r\n"));
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{request}");
    }
}

#[test]
fn what_is_no_http_ends_its_connection_only() {
    let (server, mut good_client) = client();
    for garbage in ["\x06\x03\x01\x02\0\x01\0\r\n\r\n", "GET /v2 HTTP/9.9\r\n\r\n", "GET\r\n\r\n"] {
        let mut client = Client::connect(server.address);
        client.send(garbage);
        assert_eq!(client.reply(true).status, 400, "{garbage:?}");
        assert!(client.has_ended());
        good(&mut good_client);
    }
}

#[test]
fn a_limit_is_kept_to_the_byte() {
    let limit = GOOD.len();
    let settings = RawSettings { max_message_size: Some(ByteSize(limit)), ..RawSettings::default() };
    let server = server(settings);
    let mut client = Client::connect(server.address);
    good(&mut client);
    assert_eq!(code(&client.post(INFER, "", format!("{GOOD} ").as_bytes())), "message_too_large");
    let mut socket = Client::open(server.address, INFER);
    socket.message(OpCode::Text, GOOD);
    assert!(is_good(&socket.receive().json()));
    socket.message(OpCode::Text, format!("{GOOD} "));
    assert_eq!(socket.receive().json()["code"], "message_too_large");
    assert_eq!(socket.close_code(), 1009);
}

#[test]
fn whoever_asks_while_the_server_ends_has_an_answer() {
    let (server, mut kept) = client();
    let [mut fresh, mut silent] = [0; 2].map(|_| Client::connect(server.address));
    good(&mut kept);
    good(&mut silent);
    server.state.drain();
    for client in [&mut kept, &mut fresh, &mut Client::connect(server.address)] {
        let reply = client.post(INFER, "", GOOD.as_bytes());
        assert_eq!((reply.status, &*code(&reply)), (503, "shutting_down"));
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(client.has_ended());
    }
    let mut live = Client::connect(server.address);
    assert_eq!(live.ask("GET /v2/health/live HTTP/1.1\r\n\r\n").header("connection"), Some("close"));
    assert!(silent.has_ended());
}
