//! Which request provokes which code.

use thalweg::error::Code;

use super::stage::Scene;
use super::support::{Client, GOOD, OpCode};

#[derive(Debug, Clone)]
pub enum Ask {
    /// A JSON request, sent by POST, as a text message, and as the header of a binary message.
    Infer { model: &'static str, json: String },
    /// A header of the length that is claimed, then tensors; sent by POST and as a binary message.
    Framed { model: &'static str, length: u32, rest: Vec<u8> },
    /// A message to `/stream`.
    Stream { model: &'static str, opcode: OpCode, message: Vec<u8> },
    /// A whole HTTP request.
    Http(String),
}

#[derive(Debug)]
pub struct Case {
    pub scene: Scene,
    pub ask: Ask,
    /// The id that the error echoes.
    pub id: Option<&'static str>,
}

/// A case in which the loaded server gets a request with fields beside its id.
pub fn infer(model: &'static str, fields: &str) -> Case {
    let json = format!(r#"{{"id":"q","inputs":{fields}}}"#);
    Case { scene: Scene::Loaded, ask: Ask::Infer { model, json }, id: Some("q") }
}

/// A request with one input `x`.
pub fn input(model: &'static str, shape: &str, data: &str) -> Case {
    infer(model, &format!(r#"[{{"name":"x","shape":{shape},"datatype":"FP32","data":{data}}}]"#))
}

/// A request whose id is too long to be kept, and so to be echoed.
pub fn long_id(length: usize) -> Case {
    let json = GOOD.replace("good", &"i".repeat(length));
    Case { scene: Scene::Loaded, ask: Ask::Infer { model: "poison", json }, id: None }
}

pub fn framed(length: u32, rest: &[u8]) -> Case {
    let ask = Ask::Framed { model: "poison", length, rest: rest.to_vec() };
    Case { scene: Scene::Loaded, ask, id: None }
}

/// A binary message whose header and tensors are what they claim; `id` is "q".
pub fn tensor(model: &'static str, name: &str, datatype: &str, shape: &str, size: u64, tail: &[u8]) -> Case {
    let header = format!(
        r#"{{"id":"q","inputs":[{{"name":"{name}","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
    );
    let length = u32::try_from(header.len()).unwrap();
    let ask = Ask::Framed { model, length, rest: [header.as_bytes(), tail].concat() };
    Case { scene: Scene::Loaded, ask, id: Some("q") }
}

pub fn stream(model: &'static str, message: &[u8]) -> Case {
    let ask = Ask::Stream { model, opcode: OpCode::Binary, message: message.to_vec() };
    Case { scene: Scene::Loaded, ask, id: None }
}

pub fn control(message: &[u8]) -> Case {
    let ask = Ask::Stream { model: "accumulator", opcode: OpCode::Text, message: message.to_vec() };
    Case { scene: Scene::Loaded, ask, id: None }
}

pub fn http(request: &str) -> Case {
    let request = format!("{request} HTTP/1.1\r\nHost: test\r\n\r\n");
    Case { scene: Scene::Loaded, ask: Ask::Http(request), id: None }
}

/// A handshake with one part of it replaced.
pub fn handshake(path: &str, part: &str, by: &str) -> Case {
    let handshake = Client::handshake(path);
    assert!(handshake.contains(part), "{part}");
    Case { scene: Scene::Loaded, ask: Ask::Http(handshake.replace(part, by)), id: None }
}

pub fn upgrade(path: &str) -> Case {
    handshake(path, "", "")
}

pub fn post(path: &str, body: &str) -> Case {
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
pub fn each_surface(scene: Scene) -> Vec<Case> {
    vec![input("model", "[1,4]", "[1,2,3,4]").when(scene), stream("model", b"abcd").when(scene)]
}

/// How to provoke a code. There is no other arm, so that a new code needs a case to compile.
pub fn cases(code: Code) -> Vec<Case> {
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
            long_id(1025),
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
            infer("poison", &X.replace('x', &"z".repeat(10_000))),
            infer("poison", r#"[{"name":"z","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]"#),
            infer("poison", &format!("[{0},{0}]", &X[1..X.len() - 1])),
        ],
        Code::MissingInput => vec![infer("poison", "[]")],
        Code::UnknownOutput => {
            let long = format!(r#""outputs":[{{"name":"{}"}}]"#, "z".repeat(10_000));
            vec![with(r#""outputs":[{"name":"z"}]"#), with(&long)]
        }
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
        Code::UnknownControl => vec![
            control(b"{\"type\":\"stop\"}"),
            control(b"{\"type\":1}"),
            control(b"flush"),
            control(b""),
        ],
        Code::UnknownSequence => ["7", r#""seven""#]
            .map(|id| {
                let step = format!(r#"{X},"parameters":{{"sequence_id":{id},"sequence_end":true}}"#);
                infer("accumulator", &step)
            })
            .into(),
        Code::StateLost => {
            let step = format!(r#"{X},"parameters":{{"sequence_id":7}}"#);
            vec![infer("accumulator", &step).when(Scene::Lost)]
        }
        Code::StreamsFull => {
            ["/v2/models/one_stream/stream", "/?model=one_stream"].map(|path| upgrade(path).when(Scene::Streaming)).into()
        }
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
        Code::TlsRequired => {
            [http("GET /health"), upgrade("/"), post("/v2/models/model/infer", GOOD)]
                .map(|case| case.when(Scene::Encrypted))
                .into()
        }
        Code::Unauthenticated => {
            let asks = ["/v2", "/v2/models/model", "/v2/models/nobody"].map(|path| http(&format!("GET {path}")));
            let sockets = ["/", "/v2/models/model/infer", "/v2/models/model/stream?access_token=good"].map(upgrade);
            let with = |header: &str| handshake("/", "Host: test", header);
            let wrong = ["X-Api-Key: bad", "Authorization: Bearer", "Authorization: Basic good"].map(with);
            let all = asks.into_iter().chain(sockets).chain(wrong);
            all.chain([post("/v2/models/model/infer", GOOD)]).map(|case| case.when(Scene::Guarded)).collect()
        }
        Code::OriginNotAllowed => {
            let by = "X-Api-Key: good\r\nOrigin: https://evil.example";
            vec![handshake("/v2/models/model/infer", "Host: test", by).when(Scene::Guarded)]
        }
        Code::RateLimited => {
            let by = "X-Api-Key: good";
            vec![handshake("/v2/models/model/infer", "Host: test", by).when(Scene::Guarded)]
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
        Code::TooManyConnections => crowded(Scene::CrowdedAddress),
        Code::ConnectionsFull => crowded(Scene::Crowded),
        Code::HeadersTooLarge => {
            let large = format!("Host: test\r\nX-Token: {}\r\n", "t".repeat(64 << 10));
            vec![
                handshake("/v2/models/poison/infer", "Host: test\r\n", &large),
                handshake("/nowhere", "Host: test\r\n", &large),
            ]
        }
        Code::InferenceFailed => vec![input("poison", "[1,4]", "[1,2,3,666]"), stream("poison", b"a")],
        Code::Internal => each_surface(Scene::Dying),
        Code::QueueFull => each_surface(Scene::QueueFull),
        Code::MemoryFull => each_surface(Scene::MemoryFull),
        Code::RunTimedOut => each_surface(Scene::Stalled),
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

/// WebSockets that find no place.
fn crowded(scene: Scene) -> Vec<Case> {
    ["/v2/models/model/infer", "/?model=model"].map(|path| upgrade(path).when(scene)).into()
}

/// Where a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Http,
    Text,
    Binary,
    Stream,
}

impl Ask {
    pub fn surfaces(&self) -> &'static [Surface] {
        match self {
            Self::Infer { .. } => &[Surface::Http, Surface::Text, Surface::Binary],
            Self::Framed { .. } => &[Surface::Http, Surface::Binary],
            Self::Stream { .. } => &[Surface::Stream],
            Self::Http(_) => &[Surface::Http],
        }
    }
}
