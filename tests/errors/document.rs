//! What `docs/PROTOCOL.md` says is what the server does.

use thalweg::error::Code;

use super::stage::{Scene, Stage};
use super::support::{Client, OpCode};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROTOCOL.md");

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
