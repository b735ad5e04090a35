//! Keys and origins over real sockets: where a key may stand, what it may do, and files that change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use expect_test::{Expect, expect};
use support::{Client, Engine, Fake, GOOD, OpCode, Reply, TestServer, is_good};
use tempfile::TempDir;
use thalweg::checksum::sha256;
use thalweg::config::RawSettings;
use thalweg::registry::Registry;

const INFER: &str = "/v2/models/model/infer";

/// In base64url it has a letter of that alphabet alone.
const KEY: &str = "the key?of tests";
const EXPIRED: &str = "the key of yesterday";

fn entry(name: &str, key: &str, terms: &str) -> String {
    format!("[[key]]\nname = '{name}'\nsha256 = '{}'\n{terms}\n", sha256(key.as_bytes()))
}

struct Guarded {
    server: TestServer,
    folder: TempDir,
}

impl Guarded {
    fn by(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.toml");
        std::fs::write(&path, file).unwrap();
        let server = TestServer::start(RawSettings { access_file: Some(path), ..RawSettings::default() });
        let mut registry = Registry::default();
        registry.insert(Fake::start(&server.state, "model", 8, Engine::Doubles).served);
        server.state.serve(registry);
        Self { server, folder }
    }

    fn change(&self, file: &str) {
        std::fs::write(self.folder.path().join("access.toml"), file).unwrap();
        (0..2).for_each(|_| self.server.state.look());
    }

    fn ask(&self, request: &str, header: &str) -> Reply {
        Client::connect(self.server.address).ask(&with(request, header))
    }

    /// An open WebSocket, or why not.
    fn open(&self, path: &str, header: &str) -> Result<Client, Reply> {
        let mut client = Client::connect(self.server.address);
        let reply = client.ask(&with(&Client::handshake(path), header));
        if reply.status == 101 { Ok(client) } else { Err(reply) }
    }

    fn counts(&self, name: &str) -> String {
        let text = self.server.state.exposition();
        let mut lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(name)).collect();
        lines.sort_unstable();
        lines.join(" ")
    }
}

fn with(request: &str, header: &str) -> String {
    let line = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    request.replacen("\r\n", &format!("\r\n{line}"), 1)
}

fn bearer() -> String {
    format!("Authorization: Bearer {KEY}")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n\r\n")
}

fn show(reply: &Reply) -> String {
    let json = reply.json();
    let told = [&json["code"], &json["error"]].map(|text| text.as_str().unwrap_or_default().to_owned());
    format!("{} {} {:?}", reply.status, told.join(": "), reply.header("www-authenticate"))
}

#[test]
fn a_key_may_stand_in_headers_and_in_a_subprotocol() {
    let old = entry("old", EXPIRED, "expires = 2001-01-01T00:00:00Z");
    let guarded = Guarded::by(&(entry("tests", KEY, "") + &old));
    for header in
        ["Authorization: Bearer", "authorization: bearer", "X-Auth-Token:", "X-Apig-AppCode:", "x-api-key:"]
    {
        let header = format!("{header} {KEY}");
        assert_eq!(guarded.ask(&get("/v2"), &header).status, 200, "{header}");
        let mut client = guarded.open(INFER, &header).unwrap();
        client.message(OpCode::Text, GOOD);
        assert!(is_good(&client.receive().json()));
        let post = format!("POST {INFER} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{GOOD}", GOOD.len());
        assert!(is_good(&guarded.ask(&post, &header).json()));
    }
    let offer = "Sec-WebSocket-Protocol: thalweg, thalweg.key.dGhlIGtleT9vZiB0ZXN0cw";
    let reply = Client::connect(guarded.server.address).ask(&with(&Client::handshake(INFER), offer));
    assert_eq!((reply.status, reply.header("sec-websocket-protocol")), (101, Some("thalweg")));
    let reply = guarded.open(INFER, &offer.replace("thalweg, ", "")).err().unwrap();
    assert_eq!(reply.json()["code"], "invalid_upgrade");

    let check =
        |request: &str, header: &str, expect: Expect| expect.assert_eq(&show(&guarded.ask(request, header)));
    check(
        &get("/v2"),
        "",
        expect![[
            r#"401 unauthenticated: a key is needed, as `Authorization: Bearer KEY` Some("Bearer realm=\"thalweg\"")"#
        ]],
    );
    check(
        &Client::handshake(INFER),
        "",
        expect![[
            r#"401 unauthenticated: a key is needed, as `Authorization: Bearer KEY` Some("Bearer realm=\"thalweg\"")"#
        ]],
    );
    check(
        &Client::handshake(INFER),
        &format!("X-Api-Key: {KEY}x"),
        expect![[r#"401 unauthenticated: the key is not valid Some("Bearer realm=\"thalweg\"")"#]],
    );
    check(
        &Client::handshake(INFER),
        &format!("X-Api-Key: {EXPIRED}"),
        expect![[r#"401 unauthenticated: the key is not valid Some("Bearer realm=\"thalweg\"")"#]],
    );
    check(
        &get(&format!("/v2?access_token={}", KEY.replace(' ', "+"))),
        "",
        expect![[
            r#"401 unauthenticated: a key is needed, as `Authorization: Bearer KEY` Some("Bearer realm=\"thalweg\"")"#
        ]],
    );
    for path in ["/health", "/v2/health/live", "/v2/health/ready", "/metrics"] {
        assert_eq!(guarded.ask(&get(path), "").status, 200, "{path}");
    }

    expect![[r#"{reason="no_key"} 3 {reason="unknown_key"} 1"#]]
        .assert_eq(&guarded.counts("thalweg_access_refused_total"));
    expect![[r#"{key="old",outcome="admitted"} 0 {key="old",outcome="expired"} 1 {key="tests",outcome="admitted"} 22"#]].assert_eq(&guarded.counts("thalweg_key_requests_total"));
    assert!([KEY, EXPIRED].iter().all(|key| !guarded.server.state.exposition().contains(key)));
}

#[test]
fn a_key_may_stand_in_the_query_where_it_is_allowed() {
    let guarded = Guarded::by(&(entry("tests", KEY, "") + "[browser]\nallow_query = true"));
    let path = format!("{INFER}?access_token={}", KEY.replace(' ', "+").replace('?', "%3F"));
    guarded.open(&path, "").unwrap();
    assert_eq!(guarded.open(&path[..path.len() - 1], "").err().unwrap().status, 401);
}

#[test]
fn a_key_has_as_many_requests_a_second_as_it_may() {
    let guarded = Guarded::by(&entry("slow", KEY, "requests_per_second = 2"));
    let mut client = guarded.open(INFER, &bearer()).unwrap();
    client.send(support::frame(OpCode::Text, GOOD.as_bytes()).repeat(100));
    let answers: Vec<_> = (0..100).map(|_| client.receive().json()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer["code"] == "rate_limited").collect();
    // The handshake was one request of two. The rest have a second each, or nearly all are refused.
    assert!(is_good(&answers[0]) && refused.len() > 50, "{}", refused.len());
    assert_eq!(refused[0]["retryable"], true);
    assert_eq!(answers.iter().filter(|answer| is_good(answer)).count() + refused.len(), 100);

    let replies: Vec<_> = (0..20).map(|_| guarded.ask(&get("/v2"), &bearer())).collect();
    let reply = replies.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!((reply.header("retry-after"), &reply.json()["code"]), (Some("1"), &"rate_limited".into()));
}

#[test]
fn a_key_has_as_many_sockets_as_it_may() {
    let guarded = Guarded::by(&entry("two", KEY, "max_connections = 2"));
    let [first, _second] = [(); 2].map(|()| guarded.open(INFER, &bearer()).unwrap());
    let reply = guarded.open(INFER, &bearer()).err().unwrap();
    assert_eq!((reply.status, &reply.json()["code"]), (429, &"rate_limited".into()));
    assert_eq!(guarded.ask(&get("/v2"), &bearer()).status, 200);
    assert_eq!(guarded.counts("thalweg_key_connections"), r#"{key="two"} 2"#);
    // A handshake that fails takes no place.
    for _ in 0..3 {
        let broken = Client::handshake(INFER).replace("Version: 13", "Version: 12");
        assert_eq!(guarded.ask(&broken, &bearer()).status, 426);
    }
    drop(first);
    assert!((0..10_000).any(|_| guarded.open(INFER, &bearer()).is_ok()), "its place is free again");
}

#[test]
fn open_sockets_follow_the_file() {
    let guarded = Guarded::by(&entry("tests", KEY, ""));
    let mut client = guarded.open(INFER, &bearer()).unwrap();
    let mut ask = || {
        client.message(OpCode::Text, GOOD);
        client.receive().json()
    };
    assert!(is_good(&ask()));
    guarded.change("nonsense");
    assert!(is_good(&ask()));
    guarded.change(&entry("tests", KEY, "max_connections = 1"));
    assert!(is_good(&ask()));
    assert_eq!(guarded.open(INFER, &bearer()).err().unwrap().status, 429, "the open one is counted");
    guarded.change(&entry("tests", KEY, "expires = 2001-01-01T00:00:00Z"));
    assert_eq!(ask()["code"], "unauthenticated");
    guarded.change(&entry("tests", KEY, ""));
    assert!(is_good(&ask()));
    guarded.change(&entry("tests", "another key", ""));
    assert_eq!(ask()["code"], "unauthenticated");
    assert_eq!(guarded.open(INFER, &bearer()).err().unwrap().status, 401);
    guarded.open(INFER, "X-Api-Key: another key").unwrap();
}

#[test]
fn pages_of_other_origins_may_not_connect() {
    let origins =
        "anonymous = true\n[browser]\nallowed_origins = ['https://app.example', 'http://localhost:3000']";
    let guarded = Guarded::by(origins);
    for origin in ["Origin: https://app.example", "Origin: http://LOCALHOST:3000", ""] {
        guarded.open(INFER, origin).unwrap();
    }
    for origin in ["https://app.example.evil", "http://app.example", "https://app.example:444", "null", ""] {
        let reply = guarded.open(INFER, &format!("Origin: {origin}")).err().unwrap();
        assert_eq!((reply.status, &reply.json()["code"]), (403, &"origin_not_allowed".into()), "{origin}");
    }
    let twice = "Origin: https://app.example\r\nOrigin: https://evil.example";
    assert_eq!(guarded.open(INFER, twice).err().unwrap().status, 403);
    // What is no WebSocket is between the browser and its own rules.
    assert_eq!(guarded.ask(&get("/v2"), "Origin: https://evil.example").status, 200);
    // Nothing is asked of anybody where nothing is said.
    let guarded = Guarded::by(&entry("tests", KEY, ""));
    guarded.open(INFER, &format!("{}\r\nOrigin: https://evil.example", bearer())).unwrap();
}

#[test]
fn who_has_no_key_may_come_in_where_it_says_so() {
    let guarded =
        Guarded::by(&("anonymous = true\n".to_owned() + &entry("tests", KEY, "max_connections = 1")));
    let _all = [(); 2].map(|()| guarded.open(INFER, "").unwrap());
    let _one = guarded.open(INFER, &bearer()).unwrap();
    assert_eq!(guarded.open(INFER, &bearer()).err().unwrap().status, 429);
    assert_eq!(guarded.open(INFER, "X-Api-Key: wrong").err().unwrap().status, 401);
}
