//! Each error code has a request that provokes it over a real socket, on each surface where it can occur.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use support::{Client, Engine, Fake, GOOD, Gate, OpCode, Reply, TestServer, is_good, repository};
use tempfile::TempDir;
use thalweg::config::{ByteSize, RawSettings};
use thalweg::error::Code;
use thalweg::registry::Registry;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROTOCOL.md");

/// In which state of the server a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// Real models, loaded.
    Loaded,
    /// The models are not loaded yet.
    Loading,
    /// Told to stop when half of the request has arrived.
    Stopping,
    /// Messages hold 1 KiB.
    Small,
    /// A request runs and another fills the queue.
    QueueFull,
    /// A request runs whose payload fills the memory for requests.
    MemoryFull,
    /// The model's only instance dies of the next request.
    Dying,
    /// The model's only instance has died.
    Dead,
}

#[derive(Debug, Clone)]
enum Ask {
    /// A JSON request, sent by POST, as a text message, and as the header of a binary message.
    Infer { model: &'static str, json: String },
    /// A header of the length that is claimed, then tensors; sent by POST and as a binary message.
    Framed { model: &'static str, length: u32, rest: Vec<u8> },
    /// A message to `/stream`.
    Stream { model: &'static str, message: Vec<u8> },
    /// A whole HTTP request.
    Http(String),
}

#[derive(Debug)]
struct Case {
    scene: Scene,
    ask: Ask,
    /// The id that the error echoes.
    id: Option<&'static str>,
}

/// A case in which the loaded server gets a request with fields beside its id.
fn infer(model: &'static str, fields: &str) -> Case {
    let json = format!(r#"{{"id":"q","inputs":{fields}}}"#);
    Case { scene: Scene::Loaded, ask: Ask::Infer { model, json }, id: Some("q") }
}

/// A request with one input `x`.
fn input(model: &'static str, shape: &str, data: &str) -> Case {
    infer(model, &format!(r#"[{{"name":"x","shape":{shape},"datatype":"FP32","data":{data}}}]"#))
}

fn framed(length: u32, rest: &[u8]) -> Case {
    let ask = Ask::Framed { model: "poison", length, rest: rest.to_vec() };
    Case { scene: Scene::Loaded, ask, id: None }
}

/// A binary message whose header and tensors are what they claim; `id` is "q".
fn tensor(model: &'static str, name: &str, datatype: &str, shape: &str, size: u64, tail: &[u8]) -> Case {
    let header = format!(
        r#"{{"id":"q","inputs":[{{"name":"{name}","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
    );
    let length = u32::try_from(header.len()).unwrap();
    let ask = Ask::Framed { model, length, rest: [header.as_bytes(), tail].concat() };
    Case { scene: Scene::Loaded, ask, id: Some("q") }
}

fn stream(model: &'static str, message: &[u8]) -> Case {
    Case { scene: Scene::Loaded, ask: Ask::Stream { model, message: message.to_vec() }, id: None }
}

fn http(request: &str) -> Case {
    let request = format!("{request} HTTP/1.1\r\nHost: test\r\n\r\n");
    Case { scene: Scene::Loaded, ask: Ask::Http(request), id: None }
}

/// A handshake with one part of it replaced.
fn handshake(path: &str, part: &str, by: &str) -> Case {
    let handshake = Client::handshake(path);
    assert!(handshake.contains(part), "{part}");
    Case { scene: Scene::Loaded, ask: Ask::Http(handshake.replace(part, by)), id: None }
}

fn upgrade(path: &str) -> Case {
    handshake(path, "", "")
}

fn post(path: &str, body: &str) -> Case {
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Case { scene: Scene::Loaded, ask: Ask::Http(request), id: None }
}

impl Case {
    fn when(self, scene: Scene) -> Self {
        Self { scene, ..self }
    }

    fn anonymous(self) -> Self {
        Self { id: None, ..self }
    }
}

/// A good request to a model, and a good message to its stream.
fn each_surface(scene: Scene) -> Vec<Case> {
    vec![input("model", "[1,4]", "[1,2,3,4]").when(scene), stream("model", b"abcd").when(scene)]
}

/// How to provoke a code. There is no other arm, so that a new code needs a case to compile.
fn cases(code: Code) -> Vec<Case> {
    const X: &str = r#"[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]"#;
    let with = |fields: &str| infer("poison", &format!("{X},{fields}"));
    match code {
        Code::InvalidJson => vec![
            input("poison", "[1,4]", "[1,2,3,NaN]"),
            input("poison", "[1,4]", "[1,2,3,-Infinity]"),
            infer("poison", "["),
            infer("dynamic_text", r#"[{"name":"text","shape":[1,1],"datatype":"BYTES","data":["\ud800"]}]"#),
        ],
        Code::JsonTooDeep => vec![
            input("poison", "[1,4]", &format!("{}{}", "[".repeat(200), "]".repeat(200))),
            with(&format!(r#""x":{}{}"#, "[".repeat(200), "]".repeat(200))),
            with(&format!(r#""x":{}1{}"#, r#"{"x":"#.repeat(200), "}".repeat(200))),
        ],
        Code::InvalidRequest => vec![
            infer("poison", "null"),
            infer("poison", "7"),
            infer("poison", r#"[{"name":"x","shape":[1,4],"datatype":"FP32"}]"#),
            input("poison", "[1,4]", r#"["1",2,3,4]"#),
            input("poison", "[-1]", "[1]"),
            with(r#""id":"twice""#),
            Case {
                ask: Ask::Http(
                    "POST /v2/models/poison/infer HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
                        .to_owned(),
                ),
                ..http("")
            },
        ],
        Code::InvalidFraming => vec![
            framed(1000, b"{}"),
            framed(u32::MAX, b""),
            tensor("poison", "x", "FP32", "[1,4]", 16, &[0; 15]),
            tensor("poison", "x", "FP32", "[1,4]", 16, &[0; 17]),
            tensor("poison", "x", "FP32", "[1,4]", u64::MAX, &[0; 16]),
            tensor("dynamic_text", "text", "BYTES", "[1,1]", 4, b"\xff\xff\xff\xff"),
        ],
        Code::UnsupportedParameter => vec![
            with(r#""parameters":{"sequence_id":7}"#),
            with(r#""parameters":{"priority":3}"#),
            infer(
                "poison",
                r#"[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}]"#,
            ),
        ],
        Code::UnknownInput => vec![
            infer("poison", r#"[{"name":"z","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]"#),
            infer("poison", &format!("[{0},{0}]", &X[1..X.len() - 1])),
        ],
        Code::MissingInput => vec![infer("poison", "[]")],
        Code::UnknownOutput => vec![with(r#""outputs":[{"name":"z"}]"#)],
        Code::WrongDatatype => vec![
            infer("poison", r#"[{"name":"x","shape":[1,4],"datatype":"INT32","data":[1,2,3,4]}]"#),
            infer("poison", r#"[{"name":"x","shape":[1,4],"datatype":"FP4","data":[1,2,3,4]}]"#),
        ],
        Code::WrongShape => vec![
            input("poison", "[1,5]", "[1,2,3,4,5]"),
            input("poison", "[4]", "[1,2,3,4]"),
            input("poison", "[0,4]", "[]"),
            input("poison", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4]", "[1,2,3,4]"),
        ],
        Code::ShapeOverflow => vec![
            input("poison", "[4294967296,4294967296]", "[1]"),
            input("poison", "[18446744073709551615]", "[1]"),
            tensor("poison", "x", "FP32", "[9223372036854775807,3]", 4, &[0; 4]),
        ],
        Code::WrongElementCount => vec![
            input("poison", "[1,4]", "[1,2,3]"),
            input("poison", "[1,4]", "[1,2,3,4,5]"),
            input("poison", "[1000000000,1000000]", "[1]"),
            tensor("poison", "x", "FP32", "[1,4]", 12, &[0; 12]),
        ],
        Code::ValueOutOfRange => vec![
            input("poison", "[1,4]", "[1,2,3,1e39]"),
            tensor("identity_bool", "INPUT0", "BOOL", "[1,1]", 1, &[2]),
        ],
        Code::BatchTooLarge => vec![input("poison", "[65,4]", &format!("[{}]", ["0"; 65 * 4].join(",")))],
        Code::NotRepresentable => vec![
            infer(
                "nan",
                r#"[{"name":"x","shape":[1,4],"datatype":"FP32","data":[0,1,2,3]}],"outputs":[{"name":"y","parameters":{"binary_data":false}}]"#,
            ),
            stream("nan", b"\0abc"),
        ],
        Code::StreamUnsupported => {
            vec![upgrade("/v2/models/identity_fp32/stream"), upgrade("/?model=identity_fp32")]
        }
        Code::InvalidUpgrade => {
            let bad = |part, by| handshake("/v2/models/poison/infer", part, by);
            vec![
                bad("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
                bad("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
                bad("Connection: Upgrade", "Connection: close"),
                bad("HTTP/1.1", "HTTP/1.0"),
                bad("Host: test\r\n", "Content-Length: 5\r\n"),
            ]
        }
        Code::UnknownRoute => vec![
            http("GET /nowhere"),
            http("GET /v2/models/%ff"),
            http("GET /v2/models//infer"),
            upgrade("/v2/models/poison/strem"),
            post("/v2/models/poison/infer/", GOOD),
        ],
        Code::UnknownModel => vec![
            http("GET /v2/models/nobody"),
            http("GET /v2/models/%2e%2e%2fpoison/ready"),
            post("/v2/models/nobody/infer", GOOD),
            upgrade("/v2/models/nobody/infer"),
            upgrade("/v2/models/nobody/stream"),
            upgrade("/"),
            upgrade("/?model=nobody"),
            upgrade("/?model=%ff&&==&model=poison"),
        ],
        Code::UnknownVersion => vec![
            http("GET /v2/models/poison/versions/2"),
            http("GET /v2/models/poison/versions/one"),
            post("/v2/models/poison/versions/99999999999999999999/infer", GOOD),
            upgrade("/v2/models/poison/versions/2/stream"),
        ],
        Code::MethodNotAllowed => vec![
            http("GET /v2/models/poison/infer"),
            http("DELETE /v2"),
            post("/health", ""),
            handshake("/v2/models/poison/stream", "GET", "POST"),
        ],
        Code::MessageTooLarge => {
            let long = format!("[{}]", ["1"; 600].join(","));
            let messages = [input("model", "[1,4]", &long), stream("model", &[b'a'; 1025])];
            messages.map(|case| case.when(Scene::Small).anonymous()).into()
        }
        Code::UpgradeRequired => vec![
            http("GET /"),
            http("GET /v2/models/poison/stream"),
            post("/v2/models/poison/stream", GOOD),
            handshake("/v2/models/poison/stream", "websocket", "h2c"),
            handshake("/v2/models/poison/infer", "Version: 13", "Version: 8"),
        ],
        Code::InferenceFailed => vec![input("poison", "[1,4]", "[1,2,3,666]"), stream("poison", b"a")],
        Code::Internal => each_surface(Scene::Dying),
        Code::QueueFull => each_surface(Scene::QueueFull),
        Code::MemoryFull => each_surface(Scene::MemoryFull),
        Code::ModelNotReady => {
            let paths = ["/health", "/v2/health/ready", "/v2/models/poison", "/v2/models/poison/ready"];
            let reads = paths.map(|path| http(&format!("GET {path}")));
            let sockets = ["/", "/v2/models/poison/infer", "/v2/models/poison/stream"].map(upgrade);
            let loading = reads.into_iter().chain(sockets).chain([post("/v2/models/poison/infer", GOOD)]);
            let dead = [http("GET /v2/models/model/ready").when(Scene::Dead)];
            let dead = dead.into_iter().chain(each_surface(Scene::Dead));
            loading.map(|case| case.when(Scene::Loading)).chain(dead).collect()
        }
        Code::ShuttingDown => vec![
            http("GET /health"),
            http("GET /v2/models/model"),
            post("/v2/models/model/infer", GOOD),
            upgrade("/v2/models/model/infer"),
            upgrade("/v2/models/model/stream"),
            upgrade("/"),
        ]
        .into_iter()
        .map(|case| case.when(Scene::Stopping))
        .collect(),
        Code::DeadlineExceeded => vec![
            with(r#""parameters":{"timeout":1}"#),
            input("late", "[1,4]", "[1,2,3,4]"),
            stream("late", b"abcd"),
        ],
    }
}

/// A server in the state of a scene; what it waits for is let go with [`Stage::release`].
struct Stage {
    server: TestServer,
    gate: Option<Gate>,
    /// The request that a gate holds, and the one behind it.
    waiting: Option<(Client, usize)>,
    /// Dies of the first request.
    lane: Option<std::thread::JoinHandle<()>>,
    _models: Option<TempDir>,
}

impl Stage {
    fn set(scene: Scene) -> Self {
        let small = RawSettings {
            // One thread, so that what arrives first is also seen first.
            threads: Some(1),
            max_message_size: Some(ByteSize(1 << 10)),
            max_request_memory: Some(ByteSize(1 << 10)),
            ..RawSettings::default()
        };
        let settings = if scene == Scene::Loaded { RawSettings::default() } else { small };
        let server = TestServer::start(settings);
        let mut stage = Self { server, gate: None, waiting: None, lane: None, _models: None };
        let engine = match scene {
            Scene::Loading => return stage,
            Scene::Loaded => {
                let models = repository();
                stage.server.state.serve(stage.server.load(models.path().to_owned()));
                stage._models = Some(models);
                return stage;
            }
            Scene::QueueFull | Scene::MemoryFull => {
                let (engine, gate) = Engine::gated();
                stage.gate = Some(gate);
                engine
            }
            Scene::Dying | Scene::Dead => Engine::Panics,
            Scene::Stopping | Scene::Small => Engine::Doubles,
        };
        let fake = Fake::start(&stage.server.state, "model", 1, engine);
        let mut registry = Registry::default();
        registry.insert(fake.served);
        stage.server.state.serve(registry);
        stage.lane = Some(fake.lane);
        match scene {
            Scene::QueueFull => stage.occupy(&[GOOD, GOOD]),
            Scene::MemoryFull => stage.occupy(&[&full_of_zeros()]),
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
        let producer = &registry.get("model", None).unwrap().producer;
        while producer.depth() != depth {
            std::thread::yield_now();
        }
    }

    /// Lets go what waits, and sees that it was answered.
    fn release(&mut self) {
        self.gate = None;
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

/// Where a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    Http,
    Text,
    Binary,
    Stream,
}

impl Ask {
    fn surfaces(&self) -> &'static [Surface] {
        match self {
            Self::Infer { .. } => &[Surface::Http, Surface::Text, Surface::Binary],
            Self::Framed { .. } => &[Surface::Http, Surface::Binary],
            Self::Stream { .. } => &[Surface::Stream],
            Self::Http(_) => &[Surface::Http],
        }
    }
}

/// What an error says of itself, wherever it is told.
fn check_error(answer: &Value, code: Code, id: Option<&str>, surface: Surface) {
    assert_eq!(answer["code"], code.as_str());
    assert_eq!(answer["retryable"], code.retryable());
    assert_eq!(answer["id"].as_str(), id);
    assert_eq!(answer["type"] == "error", surface == Surface::Stream);
    assert!(answer["error"].as_str().is_some_and(|text| (4..1000).contains(&text.len())));
}

fn check_reply(reply: &Reply, code: Code, id: Option<&str>) {
    assert_eq!(reply.status, code.http_status());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("retry-after").is_some(), reply.status == 503);
    assert_eq!(reply.header("allow").is_some(), reply.status == 405);
    check_error(&reply.json(), code, id, Surface::Http);
}

/// A request that is right, and what comes of it: an output's data, or a code where a model has no better.
fn good(model: &str, scene: Scene) -> (String, Value) {
    let json = |name: &str, datatype: &str, shape: &str, data: &str| {
        format!(
            r#"{{"id":"good","inputs":[{{"name":"{name}","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#
        )
    };
    let doubled = json!([2.0, 4.0, 6.0, 8.0]);
    match (model, scene) {
        (_, Scene::Dying | Scene::Dead) => (GOOD.to_owned(), json!("model_not_ready")),
        ("poison" | "model", _) => (GOOD.to_owned(), doubled),
        ("nan", _) => (GOOD.to_owned(), json!([1.0, 1.0, 1.0, 1.0])),
        ("late", _) => (GOOD.to_owned(), json!("deadline_exceeded")),
        ("identity_bool", _) => (json("INPUT0", "BOOL", "[1,1]", "[true]"), json!([true])),
        ("dynamic_text", _) => (json("text", "BYTES", "[1,1]", r#"["ä"]"#), json!(["ä"])),
        _ => panic!("what is a good request to {model}?"),
    }
}

fn check_good(answer: &Value, expected: &Value) {
    let got = if expected.is_string() { &answer["code"] } else { &answer["outputs"][0]["data"] };
    assert_eq!((got, &answer["id"]), (expected, &json!("good")), "{answer}");
}

/// Asks, checks the error, and then that the connection is as good as before.
fn provoke(stage: &mut Stage, surface: Surface, code: Code, case: &Case) {
    let address = stage.server.address;
    let ends = code == Code::MessageTooLarge;
    match (&case.ask, surface) {
        (Ask::Http(request), _) => {
            let mut client = Client::connect(address);
            if case.scene == Scene::Stopping {
                let (first, rest) = request.split_at(10);
                client.send(first);
                // Once these are answered, the first half has been read, too.
                let mut other = Client::connect(address);
                for _ in 0..3 {
                    assert_eq!(other.ask("GET /health HTTP/1.1\r\n\r\n").status, 200);
                }
                stage.server.state.stop();
                client.send(rest);
            } else {
                client.send(request);
            }
            check_reply(&client.reply(true), code, case.id);
        }
        (Ask::Infer { .. } | Ask::Framed { .. }, Surface::Http) => {
            let mut client = Client::connect(address);
            let (model, length, body) = match &case.ask {
                Ask::Infer { model, json } => (model, String::new(), json.as_bytes()),
                Ask::Framed { model, length, rest } => {
                    (model, format!("Inference-Header-Content-Length: {length}\r\n"), &rest[..])
                }
                _ => unreachable!(),
            };
            let path = format!("/v2/models/{model}/infer");
            check_reply(&client.post(&path, &length, body), code, case.id);
            stage.release();
            let (request, expected) = good(model, case.scene);
            check_good(&client.post(&path, "", request.as_bytes()).json(), &expected);
        }
        (Ask::Infer { .. } | Ask::Framed { .. }, _) => {
            let (model, opcode, message) = match (&case.ask, surface) {
                (Ask::Infer { model, json }, Surface::Text) => {
                    (model, OpCode::Text, json.clone().into_bytes())
                }
                (Ask::Infer { model, json }, _) => {
                    let length = u32::try_from(json.len()).unwrap();
                    (model, OpCode::Binary, [&length.to_le_bytes(), json.as_bytes()].concat())
                }
                (Ask::Framed { model, length, rest }, _) => {
                    (model, OpCode::Binary, [&length.to_le_bytes(), &rest[..]].concat())
                }
                _ => unreachable!(),
            };
            let mut client = Client::open(address, &format!("/v2/models/{model}/infer"));
            client.message(opcode, message);
            check_socket_error(&mut client, code, case.id, surface);
            if ends {
                return check_end(&mut client);
            }
            stage.release();
            let (request, expected) = good(model, case.scene);
            client.message(OpCode::Text, request);
            check_good(&client.receive().json(), &expected);
        }
        (Ask::Stream { model, message }, _) => {
            let mut client = Client::open(address, &format!("/v2/models/{model}/stream"));
            assert_eq!(client.receive().json()["type"], "session.created");
            client.message(OpCode::Binary, message);
            check_socket_error(&mut client, code, case.id, surface);
            if ends {
                return check_end(&mut client);
            }
            stage.release();
            client.message(OpCode::Text, [1, 2, 3, 4]);
            let (mut answer, (_, expected)) = (client.receive().json(), good(model, case.scene));
            assert_eq!(answer["type"], if expected.is_string() { "error" } else { "result" });
            answer["id"] = json!("good");
            check_good(&answer, &expected);
        }
    }
}

/// An error on a socket is text, whatever the request was.
fn check_socket_error(client: &mut Client, code: Code, id: Option<&str>, surface: Surface) {
    let message = client.receive();
    assert_eq!(message.opcode, OpCode::Text);
    check_error(&message.json(), code, id, surface);
}

fn check_end(client: &mut Client) {
    assert_eq!(client.close_code(), 1009);
    assert!(client.has_ended());
}

/// Says which case it was that failed.
struct Note<'a>(Code, Surface, &'a Case);

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(code, surface, case) = self;
            eprintln!("while {code:?} was to be provoked on {surface:?} by {case:?}");
        }
    }
}

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
    let depth = server.state.registry().unwrap().get("model", None).unwrap().producer.depth();
    assert!(depth < 2, "{depth} requests wait of a window of 2, one of which runs");
    drop(gate);
    for _ in 0..16 {
        assert!(is_good(&client.receive().json()));
    }
}

#[test]
fn the_document_has_the_table_of_codes() {
    let rows = Code::ALL.iter().map(|code| {
        let retry = if code.retryable() { "yes" } else { "no" };
        format!("| `{}` | {} | {retry} | {} |\n", code.as_str(), code.http_status(), code.meaning().trim())
    });
    let head = "| Code | HTTP status | Retryable | Meaning |\n|---|---|---|---|\n";
    let table = head.to_owned() + &rows.collect::<String>();
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    assert!(document.contains(&format!("\n{table}\n")), "the table in docs/PROTOCOL.md should be\n\n{table}");
}

/// The bytes of the hex dumps in a text.
fn dumps(text: &str) -> Vec<Vec<u8>> {
    let blocks = text.split("```hex\n").skip(1).filter_map(|block| block.split("```").next());
    let line = |line: &str| {
        let hex = line.get(6..53).unwrap_or_default().to_owned();
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>()
    };
    blocks.map(|block| block.lines().flat_map(line).collect()).collect()
}

#[test]
fn the_document_s_example_is_right() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let [request, answer] = &dumps(&document)[..] else { panic!("two dumps") };
    let stage = Stage::set(Scene::Small);
    let mut client = Client::open(stage.server.address, "/v2/models/model/infer");
    client.message(OpCode::Binary, request);
    let message = client.receive();
    assert_eq!(message.opcode, OpCode::Binary);
    assert_eq!(String::from_utf8_lossy(&message.payload), String::from_utf8_lossy(answer));
}
