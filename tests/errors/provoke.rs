//! Asking over a socket, and judging what comes back.

use serde_json::{Value, json};
use thalweg::error::Code;

use super::cases::{Ask, Case, Surface};
use super::stage::{Scene, Stage};
use super::support::{Client, GOOD, OpCode, Reply};

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
    assert_eq!(reply.header("retry-after").is_some(), [429, 503].contains(&reply.status));
    assert_eq!(reply.header("www-authenticate").is_some(), reply.status == 401);
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
        ("accumulator", _) => {
            let begins = r#""parameters":{"sequence_id":9,"sequence_start":true},"inputs""#;
            (GOOD.replace(r#""inputs""#, begins), json!([1.0, 2.0, 3.0, 4.0]))
        }
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
pub fn provoke(stage: &mut Stage, surface: Surface, code: Code, case: &Case) {
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
        (Ask::Stream { model, opcode, message }, _) => {
            let mut client = Client::open(address, &format!("/v2/models/{model}/stream"));
            assert_eq!(client.receive().json()["type"], "session.created");
            client.message(*opcode, message);
            check_socket_error(&mut client, code, case.id, surface);
            if ends {
                return check_end(&mut client);
            }
            stage.release();
            match *model {
                "accumulator" => {
                    client.message(OpCode::Binary, [1.0f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat())
                }
                _ => client.message(OpCode::Text, [1, 2, 3, 4]),
            }
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
pub struct Note<'a>(pub Code, pub Surface, pub &'a Case);

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(code, surface, case) = self;
            eprintln!("while {code:?} was to be provoked on {surface:?} by {case:?}");
        }
    }
}
