//! What a WebSocket client may do and what not, over a bare socket: which libraries do not let one do, and the
//! Autobahn suite does not try.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod support;

use std::io::ErrorKind;

use support::{Client, Engine, Fake, GOOD, OpCode, TestServer, frame, is_good};
use thalweg::config::{ByteSize, RawSettings};
use thalweg::registry::Registry;

const INFER: &str = "/v2/models/model/infer";

fn server(settings: RawSettings) -> TestServer {
    let server = TestServer::start(settings);
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 256, Engine::Doubles).served);
    server.state.serve(registry);
    server
}

fn small() -> RawSettings {
    RawSettings { max_message_size: Some(ByteSize(1000)), ..RawSettings::default() }
}

/// A frame whose first byte is given, masked with zeros.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(OpCode::Text, payload);
    frame[0] = first;
    frame
}

/// The head alone of a frame that claims a length.
fn claim(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff], &length.to_be_bytes()[..], &[0; 4]].concat()
}

#[test]
fn each_violation_has_its_close_code_and_one_close_frame() {
    let server = server(small());
    // It goes on all the while.
    let mut other = Client::open(server.address, INFER);
    let text = |payload: &[u8]| raw(0x81, payload);
    for (what, bytes, code) in [
        ("not masked", vec![0x81, 2, b'{', b'}'], 1002),
        ("not masked, and large", vec![0x82, 126, 0x03, 0xe8], 1002),
        ("reserved bit 1", raw(0xc1, b""), 1002),
        ("reserved bit 2", raw(0xa1, b""), 1002),
        ("reserved bit 3", raw(0x91, b""), 1002),
        ("reserved data opcode", raw(0x83, b""), 1002),
        ("reserved control opcode", raw(0x8f, b""), 1002),
        ("fragmented ping", raw(0x09, b"p"), 1002),
        ("fragmented pong", raw(0x0a, b"p"), 1002),
        ("fragmented close", raw(0x08, b"\x03\xe8"), 1002),
        ("long ping", raw(0x89, &[0; 126]), 1002),
        ("long pong, of which only the head comes", vec![0x8a, 0xfe, 0, 126], 1002),
        ("long close", raw(0x88, &[&b"\x03\xe8"[..], &[b'x'; 124]].concat()), 1002),
        ("continuation of nothing", raw(0x80, b"x"), 1002),
        ("continuation of a whole message", [text(GOOD.as_bytes()), raw(0x80, b"x")].concat(), 1002),
        ("second beginning", [raw(0x01, b"a"), raw(0x01, b"b")].concat(), 1002),
        ("whole message inside another", [raw(0x01, b"a"), raw(0x82, b"b")].concat(), 1002),
        ("length written in two bytes more", [&[0x81, 0xfe, 0, 1, 0, 0, 0, 0][..], b"x"].concat(), 1002),
        ("length beyond 63 bits", claim(0x82, 1 << 63), 1002),
        ("half a close code", raw(0x88, b"\x03"), 1002),
        ("close code 0", raw(0x88, &0u16.to_be_bytes()), 1002),
        ("close code 999", raw(0x88, &999u16.to_be_bytes()), 1002),
        ("close code 1005", raw(0x88, &1005u16.to_be_bytes()), 1002),
        ("close code 1006", raw(0x88, &1006u16.to_be_bytes()), 1002),
        ("close code 1015", raw(0x88, &1015u16.to_be_bytes()), 1002),
        ("close code 5000", raw(0x88, &5000u16.to_be_bytes()), 1002),
        ("close reason", raw(0x88, b"\x03\xe8\xff"), 1007),
        ("text", text(b"\xff"), 1007),
        ("text that ends in a character", text(b"\xc3"), 1007),
        ("fragments that end in a character", [raw(0x01, b"a"), raw(0x80, b"\xc3")].concat(), 1007),
        (
            "character that is wrong in the next fragment",
            [raw(0x01, b"\xc3"), raw(0x00, b"a")].concat(),
            1007,
        ),
        ("fragment that can become no text", raw(0x01, b"\xed\xa0"), 1007),
    ] {
        let mut client = Client::open(server.address, INFER);
        // What comes behind it is not looked at.
        client.send([&bytes[..], &text(GOOD.as_bytes())].concat());
        let mut message = client.receive();
        if message.opcode != OpCode::Close {
            assert!(is_good(&message.json()), "{what}");
            message = client.receive();
        }
        assert_eq!(message.opcode, OpCode::Close, "{what}");
        let (told, reason) = message.payload.split_first_chunk().unwrap();
        assert_eq!(u16::from_be_bytes(*told), code, "{what}");
        assert!(!reason.is_empty() && reason.len() <= 123 && reason.is_ascii(), "{what}: {reason:?}");
        assert!(client.has_ended(), "{what}");
        other.message(OpCode::Text, GOOD);
        assert!(is_good(&other.receive().json()), "{what}");
    }
}

#[test]
fn a_message_beyond_the_limit_is_refused_by_its_head() {
    let server = server(small());
    for (what, bytes) in [
        ("whole", claim(0x82, 1 << 40)),
        ("whole, by a byte", vec![0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0]),
        ("fragments", [raw(0x02, &[0; 900]), vec![0x80, 0xe5, 0, 0, 0, 0]].concat()),
        ("endless fragments", [raw(0x02, &[0; 500]), raw(0x00, &[0; 500]), raw(0x00, b"x")].concat()),
    ] {
        let mut client = Client::open(server.address, INFER);
        client.send(bytes);
        assert_eq!(client.receive().json()["code"], "message_too_large", "{what}");
        assert_eq!(client.close_code(), 1009, "{what}");
        assert!(client.has_ended(), "{what}");
    }
    // At the limit it is a message; empty fragments add nothing.
    let mut client = Client::open(server.address, INFER);
    let padded = format!("{GOOD}{}", " ".repeat(1000 - GOOD.len()));
    let (begin, end) = padded.as_bytes().split_at(500);
    client.send([raw(0x01, begin), raw(0x00, b"").repeat(100), raw(0x89, b"p"), raw(0x80, end)].concat());
    assert_eq!(client.receive().opcode, OpCode::Pong);
    assert!(is_good(&client.receive().json()));
}

#[test]
fn a_close_frame_is_answered_once_and_nothing_behind_it() {
    let server = server(small());
    for (payload, code) in
        [(&b""[..], 1000), (b"\x03\xe8bye", 1000), (b"\x0b\xb8", 3000), (b"\x13\x87", 4999)]
    {
        let mut client = Client::open(server.address, INFER);
        let close = frame(OpCode::Close, payload);
        client.send([&close[..], &frame(OpCode::Text, GOOD.as_bytes()), &close].concat());
        assert_eq!(client.close_code(), code);
        assert!(client.has_ended());
    }
}

#[test]
fn a_large_answer_leaves_in_fragments() {
    let server = server(RawSettings { max_frame_size: Some(ByteSize(1 << 10)), ..RawSettings::default() });
    let rows = ["[1000.5,2000.5,3000.5,4000.5]"; 64].join(",");
    let large = GOOD.replace("[1,4]", "[64,4]").replace("[1,2,3,4]", &format!("[{rows}]"));
    let mut client = Client::open(server.address, INFER);
    client.message(OpCode::Text, large);
    let (mut lengths, mut joined, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
    while firsts.last().is_none_or(|first| first & 0x80 == 0) {
        let (first, payload) = client.frame();
        firsts.push(first);
        lengths.push(payload.len());
        joined.extend(payload);
    }
    let [begin, middle @ .., end] = &firsts[..] else { panic!("{firsts:?}") };
    assert!((*begin, *end) == (0x01, 0x80) && middle.iter().all(|first| *first == 0x00), "{firsts:?}");
    assert!(lengths[..lengths.len() - 1].iter().all(|length| *length == 1 << 10), "{lengths:?}");
    let answer: serde_json::Value = serde_json::from_slice(&joined).unwrap();
    assert_eq!(answer["outputs"][0]["data"].as_array().unwrap().len(), 256);
    client.message(OpCode::Text, GOOD);
    assert!(is_good(&client.receive().json()));
}

#[test]
fn who_draws_things_out_is_let_go() {
    let server = server(RawSettings {
        request_timeout: Some(1),
        read_timeout: Some(1),
        write_timeout: Some(1),
        ..RawSettings::default()
    });
    let mut handshake = Client::connect(server.address);
    handshake.send(&Client::handshake(INFER)[..40]);
    assert!(handshake.has_ended());

    let mut slow =
        [&[0x81][..], &raw(0x01, b"{"), &frame(OpCode::Text, GOOD.as_bytes())[..20]].map(|begun| {
            let mut client = Client::open(server.address, INFER);
            client.send(begun);
            client
        });
    for client in &mut slow {
        assert_eq!(client.close_code(), 1008);
        assert!(client.has_ended());
    }

    let mut deaf = Client::open(server.address, INFER);
    let flood = frame(OpCode::Text, GOOD.as_bytes()).repeat(100);
    let error = loop {
        if let Err(error) = deaf.try_send(&flood) {
            break error.kind();
        }
    };
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
}

#[test]
fn a_handshake_is_judged_by_its_headers() {
    let server = server(RawSettings::default());
    let large = |size: usize| format!("Host: test\r\nAuthorization: {}\r\n", "t".repeat(size));
    for (part, by, status) in [
        ("GET", "POST", 405),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Connection: Upgrade\r\n", "", 400),
        ("Connection: Upgrade", "Connection: keep-alive, Upgraded", 400),
        ("Connection: Upgrade", "Connection: keep-alive,  uPGRADE", 101),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade", 101),
        ("Upgrade: websocket", "Upgrade: WebSocket", 101),
        ("Upgrade: websocket", "Upgrade: websockets", 405),
        ("Upgrade: websocket\r\n", "", 405),
        ("Version: 13", "Version: 8", 426),
        ("Version: 13", "Version: 013", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ===", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSE=", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "!!!!IHNhbXBsZSBub25jZQ==", 400),
        ("Host: test\r\n", "Host: test\r\nSec-WebSocket-Protocol: chat, v1.mqtt\r\n", 101),
        (
            "Host: test\r\n",
            "Host: test\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x\r\n",
            101,
        ),
        ("/infer", "/infer?token=%ff&&=&x[]=1&model=", 101),
        ("Host: test\r\n", &large(40 << 10), 101),
        ("Host: test\r\n", &large((64 << 10) - 300), 101),
        ("Host: test\r\n", &large(64 << 10), 431),
        ("Host: test\r\n", &large(200 << 10), 431),
    ] {
        let handshake = Client::handshake(INFER);
        assert!(handshake.contains(part), "{part}");
        let mut client = Client::connect(server.address);
        client.send(handshake.replace(part, by));
        let reply = client.reply(true);
        let by: String = by.chars().take(80).collect();
        assert_eq!(reply.status, status, "{part} -> {by}");
        if status == 101 {
            assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{by}");
            assert_eq!(reply.header("sec-websocket-protocol"), None, "{by}");
            assert_eq!(reply.header("sec-websocket-extensions"), None, "{by}");
            client.message(OpCode::Text, GOOD);
            assert!(is_good(&client.receive().json()), "{by}");
        } else {
            assert!(reply.json()["code"].is_string(), "{by}");
            assert_eq!(reply.header("sec-websocket-version"), (status == 426).then_some("13"), "{by}");
        }
    }
}
