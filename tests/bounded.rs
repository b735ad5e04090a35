//! Whatever messages claim, the server's memory follows what they are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use support::{Client, Engine, Fake, GOOD, OpCode, TestServer, is_good};
use thalweg::config::{ByteSize, RawSettings};
use thalweg::registry::Registry;

/// Bytes of memory that this process has reserved, and has in use; one test is alone in it, beside it the server.
fn memory() -> [usize; 2] {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mut pages = statm.split(' ').map(|pages| pages.parse::<usize>().unwrap() * 4096);
    [pages.next().unwrap(), pages.next().unwrap()]
}

/// What a frame may claim here.
const LARGEST: usize = 64 << 20;

fn server() -> TestServer {
    let server = TestServer::start(RawSettings {
        max_message_size: Some(ByteSize(LARGEST)),
        ..RawSettings::default()
    });
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 4096, Engine::Doubles).served);
    server.state.serve(registry);
    server
}

/// The header of a masked frame, final or not, that claims a length.
fn frame_header(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127], &length.to_be_bytes()[..], &[0; 4]].concat()
}

/// Messages of which each claims gigabytes, and has a few hundred bytes.
fn claims() -> Vec<(OpCode, Vec<u8>)> {
    let input = |shape: &str, rest: &str| {
        format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":{shape},{rest}}}]}}"#).into_bytes()
    };
    let framed = |length: u32, rest: &[u8]| [&length.to_le_bytes(), rest].concat();
    let sized = |shape: &str, size: &str| {
        let header = input(shape, &format!(r#""parameters":{{"binary_data_size":{size}}}"#));
        framed(u32::try_from(header.len()).unwrap(), &[&header[..], &[0; 16]].concat())
    };
    vec![
        (OpCode::Text, input("[1000000000,4]", r#""data":[1,2,3,4]"#)),
        (OpCode::Text, input("[4,1000000000]", r#""data":[[1],[2],[3],[4]]"#)),
        (OpCode::Text, input("[9223372036854775807,9223372036854775807]", r#""data":[]"#)),
        (OpCode::Text, input(&format!("[{}]", ["1000"; 100].join(",")), r#""data":[1]"#)),
        (OpCode::Text, input("[1,4]", &format!(r#""data":{}"#, "[".repeat(400)))),
        (OpCode::Binary, framed(u32::MAX, b"{}")),
        (OpCode::Binary, sized("[1000000000,4]", "16000000000")),
        (OpCode::Binary, sized("[1,4]", "18446744073709551615")),
    ]
}

#[test]
fn a_thousand_absurd_claims_take_no_memory() {
    // What buffers, threads and the allocator may keep; one claim that is believed takes far more.
    const IN_USE: usize = 64 << 20;
    // Half of what the claims come to; an allocator reserves 64 MiB for each thread.
    const RESERVED: usize = 3 << 30;
    let server = server();
    let mut client = Client::open(server.address, "/v2/models/model/infer");
    let before = memory();
    for (opcode, message) in claims().iter().cycle().take(1000) {
        client.message(*opcode, message);
        let answer = client.receive().json();
        assert!(answer["code"].is_string(), "{answer}");
    }
    client.message(OpCode::Text, GOOD);
    assert!(is_good(&client.receive().json()));

    // Frames that claim as much as may be, or more, on connections that stay open.
    let open: Vec<Client> = (0..200)
        .map(|at| {
            let mut client = Client::open(server.address, "/v2/models/model/infer");
            match at % 4 {
                // Half of them, so that there is something to reserve.
                _ if at < 100 => client.send([&frame_header(0x82, LARGEST as u64)[..], b"x"].concat()),
                0 => client.send([&frame_header(0x82, LARGEST as u64)[..], b"x"].concat()),
                1 => client.send([&frame_header(0x02, 16)[..], &[b' '; 16]].concat()),
                2 => client.send(frame_header(0x82, u64::MAX >> 1)),
                _ => client.send(frame_header(0x00, 1 << 40)),
            }
            if at >= 100 && at % 4 == 2 {
                assert_eq!(client.receive().json()["code"], "message_too_large");
            }
            client
        })
        .collect();
    client.message(OpCode::Text, GOOD);
    assert!(is_good(&client.receive().json()));
    let [reserved, in_use] = memory();
    let grown = [reserved.saturating_sub(before[0]), in_use.saturating_sub(before[1])];
    let [reserved, in_use] = grown.map(|bytes| bytes >> 20);
    let open = open.len();
    assert!(grown[1] < IN_USE, "{in_use} MiB more in use with {open} connections open");
    assert!(grown[0] < RESERVED, "{reserved} MiB more reserved with {open} connections open");
}
