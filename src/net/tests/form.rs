//! A connection that remembers its last request takes the next one as a connection that remembers nothing.

use bytes::{Bytes, BytesMut};
use expect_test::{Expect, expect};
use fastrand::Rng;
use fastwebsockets::OpCode;

use super::*;
use crate::net::connection::Endpoint;
use crate::net::infer::{InferEndpoint, Pending};
use crate::reply::Mailbox;

/// An endpoint of a model with the inputs `a` (FP32, two a row) and `b` (UINT8, any number), and its lane.
struct Front {
    endpoint: InferEndpoint,
    lane: Consumer,
}

impl Front {
    fn new() -> Self {
        Self::of(DataType::Uint8)
    }

    /// The bytes of `b` mean this.
    fn of(b: DataType) -> Self {
        Self::with(vec![spec("a", DataType::Fp32, Dim::Fixed(2)), spec("b", b, Dim::Dynamic)])
    }

    fn with(inputs: Vec<TensorSpec>) -> Self {
        let (producer, lane) = channel(Places::new(64), Memory::new(1 << 20));
        let signature = Signature {
            inputs,
            outputs: vec![spec("a", DataType::Fp32, Dim::Fixed(2)), spec("c", DataType::Bool, Dim::Fixed(1))],
            states: vec![],
            max_batch_size: 8,
        };
        let served = served(signature, vec![producer], None, Metrics::new().unwrap().model("echo", "1"));
        Self { endpoint: InferEndpoint::new(served, Clock::start()), lane }
    }

    /// What the lane is given, or the client told; and whether the message was of a form that is known.
    fn take(&self, message: &[u8]) -> (String, bool) {
        self.take_as(false, message)
    }

    fn take_as(&self, text: bool, message: &[u8]) -> (String, bool) {
        let mailbox = Mailbox::new(1);
        let message = Bytes::copy_from_slice(message);
        let known = self.endpoint.knows(text, &message);
        self.endpoint.receive(text, message, &mailbox);
        let mut told = String::new();
        for Request { payloads, rows, key, priority, deadline, enqueued, ticket, .. } in
            self.lane.requests().try_iter()
        {
            let deadline = deadline.map(|deadline| deadline - enqueued);
            writeln!(told, "{payloads:?} {rows} {key:?} {priority} {deadline:?}").unwrap();
            ticket.refuse(Error::new(Code::InferenceFailed, "the lane refuses"));
        }
        let mut ready = Vec::<(Pending, _)>::new();
        let waker = std::task::Waker::noop();
        assert!(mailbox.poll_answers(&mut std::task::Context::from_waker(waker), &mut ready).is_ready());
        for (pending, answer) in ready {
            writeln!(told, "{:?} {:?}", pending.id(), pending.wanted()).unwrap();
            let mut out = BytesMut::new();
            self.endpoint.encode(pending, answer, self.endpoint.now(), &mut out);
            assert_eq!(out[0] & 0xf, OpCode::Text as u8);
            told.push_str(&String::from_utf8_lossy(&out[out.iter().position(|&b| b == b'{').unwrap()..]));
        }
        (told, known)
    }
}

fn spec(name: &str, datatype: DataType, dim: Dim) -> TensorSpec {
    TensorSpec { name: name.to_owned(), datatype, dims: vec![Dim::Dynamic, dim], batch_axis: Some(0) }
}

fn message(header: &str, tail: &[u8]) -> Vec<u8> {
    [&u32::try_from(header.len()).unwrap().to_le_bytes()[..], header.as_bytes(), tail].concat()
}

const A: &str = r#"{"name":"a","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}"#;
const B: &str = r#"{"name":"b","datatype":"UINT8","shape":[1,3],"parameters":{"binary_data_size":3}}"#;
const TAIL: &[u8] = b"aaaaAAAAbbb";

/// Sends one message behind another, to a connection that has seen the first and to one that has not.
fn check(before: &str, header: &str, tail: &[u8], expect: Expect) {
    let warm = Front::new();
    warm.take(&message(before, TAIL));
    let (told, known) = warm.take(&message(header, tail));
    assert_eq!(told, Front::new().take(&message(header, tail)).0);
    expect.assert_eq(&format!("{}{told}", if known { "known: " } else { "" }));
}

#[test]
fn only_the_id_may_differ() {
    let header = |id: &str, parameters: &str| {
        format!(r#"{{{id}"parameters":{{{parameters}}},"inputs":[{A},{B}],"outputs":[{{"name":"c"}}]}}"#)
    };
    let before = header(r#""id":"7","#, r#""timeout":5000000,"priority":0"#);
    check(
        &before,
        &before,
        b"ccccCCCCddd",
        expect![[r#"
            known: [Rows(b"ccccCCCC"), Rows(b"ddd")] 1 GroupKey([3]) 0 Some(5s)
            Some("7") [Wanted { index: 1, binary: true, classification: 0 }]
            {"error":"the lane refuses","code":"inference_failed","id":"7","retryable":false}"#]],
    );
    check(
        &before,
        &header(r#""id": "8, a longer one","#, r#""timeout":5000000,"priority":0"#),
        TAIL,
        expect![[r#"
            known: [Rows(b"aaaaAAAA"), Rows(b"bbb")] 1 GroupKey([3]) 0 Some(5s)
            Some("8, a longer one") [Wanted { index: 1, binary: true, classification: 0 }]
            {"error":"the lane refuses","code":"inference_failed","id":"8, a longer one","retryable":false}"#]],
    );
    check(
        &before,
        &header(r#""id":"7","#, r#""timeout":6000000,"priority":0"#),
        TAIL,
        expect![[r#"
            [Rows(b"aaaaAAAA"), Rows(b"bbb")] 1 GroupKey([3]) 0 Some(6s)
            Some("7") [Wanted { index: 1, binary: true, classification: 0 }]
            {"error":"the lane refuses","code":"inference_failed","id":"7","retryable":false}"#]],
    );
    check(
        &before,
        &header("", r#""timeout":5000000,"priority":0"#),
        TAIL,
        expect![[r#"
            [Rows(b"aaaaAAAA"), Rows(b"bbb")] 1 GroupKey([3]) 0 Some(5s)
            None [Wanted { index: 1, binary: true, classification: 0 }]
            {"error":"the lane refuses","code":"inference_failed","retryable":false}"#]],
    );
    check(
        &before,
        &before,
        b"ccccCCCCdd",
        expect![[r#"
        Some("7") []
        {"error":"inputs[1].parameters.binary_data_size: beyond the 2 bytes that are left: 3","code":"invalid_framing","id":"7","retryable":false}"#]],
    );
    // Not plain, and no string at all.
    check(
        &before,
        &header(r#""id":"\u0037","#, r#""timeout":5000000,"priority":0"#),
        TAIL,
        expect![[r#"
            [Rows(b"aaaaAAAA"), Rows(b"bbb")] 1 GroupKey([3]) 0 Some(5s)
            Some("7") [Wanted { index: 1, binary: true, classification: 0 }]
            {"error":"the lane refuses","code":"inference_failed","id":"7","retryable":false}"#]],
    );
    check(
        &before,
        &header("\"id\":\"7\n\",", r#""timeout":5000000,"priority":0"#),
        TAIL,
        expect![[r#"
        None []
        {"error":"control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0","code":"invalid_json","retryable":false}"#]],
    );
    check(
        &before,
        &header(r#""id":"7","id":"7","#, r#""timeout":5000000,"priority":0"#),
        TAIL,
        expect![[r#"
        Some("7") []
        {"error":"id: given twice at line 1 column 18","code":"invalid_request","id":"7","retryable":false}"#]],
    );
    // The id elsewhere is a part of the form.
    let behind = format!(r#"{{"inputs":[{B},{A}],"id":"9"}}"#);
    check(
        &behind,
        &behind,
        b"dddccccCCCC",
        expect![[r#"
        known: [Rows(b"ccccCCCC"), Rows(b"ddd")] 1 GroupKey([3]) 0 None
        Some("9") [Wanted { index: 0, binary: true, classification: 0 }, Wanted { index: 1, binary: true, classification: 0 }]
        {"error":"the lane refuses","code":"inference_failed","id":"9","retryable":false}"#]],
    );
}

#[test]
fn what_is_not_in_the_message_as_it_is_used_is_decoded_each_time() {
    let json = r#"{"name":"b","datatype":"UINT8","shape":[1,3],"data":[1,2,3]}"#;
    let before = format!(r#"{{"inputs":[{A},{json}]}}"#);
    check(
        &before,
        &before,
        b"ccccCCCC",
        expect![[r#"
        [Rows(b"ccccCCCC"), Rows(b"\x01\x02\x03")] 1 GroupKey([3]) 0 None
        None [Wanted { index: 0, binary: true, classification: 0 }, Wanted { index: 1, binary: true, classification: 0 }]
        {"error":"the lane refuses","code":"inference_failed","retryable":false}"#]],
    );
    // Each message is a part of a trace of its own.
    let traced = format!(r#"{{"parameters":{{"traceparent":"00-1-2-01"}},"inputs":[{A},{B}]}}"#);
    check(
        &traced,
        &traced,
        TAIL,
        expect![[r#"
        [Rows(b"aaaaAAAA"), Rows(b"bbb")] 1 GroupKey([3]) 0 None
        None [Wanted { index: 0, binary: true, classification: 0 }, Wanted { index: 1, binary: true, classification: 0 }]
        {"error":"the lane refuses","code":"inference_failed","retryable":false}"#]],
    );
    let sequence = format!(r#"{{"parameters":{{"sequence_id":1}},"inputs":[{A},{B}]}}"#);
    check(
        &sequence,
        &sequence,
        TAIL,
        expect![[r#"
        None [Wanted { index: 0, binary: true, classification: 0 }, Wanted { index: 1, binary: true, classification: 0 }]
        {"error":"sequence_id was given, but the model keeps no state between requests","code":"unsupported_parameter","retryable":false}"#]],
    );
}

#[test]
fn bytes_that_may_be_wrong_are_looked_at_each_time() {
    let front = Front::of(DataType::Bool);
    let header = format!(r#"{{"inputs":[{A},{}]}}"#, B.replace("UINT8", "BOOL"));
    let (told, _) = front.take(&message(&header, b"aaaaAAAA\0\x01\0"));
    assert!(told.starts_with('['), "{told}");
    let (told, _) = front.take(&message(&header, b"aaaaAAAA\0\x02\0"));
    assert!(told.contains("a BOOL is a byte of 0 or 1"), "{told}");
}

#[test]
fn damaged_messages_come_to_the_same() {
    let ids = [r#""id":"1","#, r#""id": "22","#, r#""id":"\n","#, ""];
    let (mut known, mut refused) = (0, 0);
    for seed in 0..500 {
        let mut random = Rng::with_seed(seed);
        let warm = Front::new();
        for _ in 0..6 {
            let header = format!(r#"{{{}"inputs":[{A},{B}]}}"#, ids[random.usize(..ids.len())]);
            let mut message = message(&header, TAIL);
            for _ in 0..random.usize(..3) {
                let at = random.usize(..message.len());
                match random.u8(..4) {
                    0 => message[at] = random.u8(..),
                    1 => drop(message.remove(at)),
                    2 => message.insert(at, random.u8(..)),
                    // So that a damaged header may still be as long as it says.
                    _ => message[at] ^= 1 << random.u8(..8),
                }
            }
            let (told, of_a_form) = warm.take(&message);
            assert_eq!(told, Front::new().take(&message).0, "seed {seed}: {}", message.escape_ascii());
            known += usize::from(of_a_form);
            refused += usize::from(told.starts_with("None") || !told.starts_with('['));
        }
    }
    assert!(known > 150 && refused > 150, "{known} {refused}");
}

/// A front with one input of two FP32, or any number of them.
fn numbers(dim: Dim) -> Front {
    Front::with(vec![spec("data", DataType::Fp32, dim)])
}

/// Sends one text message behind another, to a connection that has seen the first and to one that has not.
fn check_text(before: &str, message: &str, expect: Expect) {
    let warm = numbers(Dim::Fixed(2));
    warm.take_as(true, before.as_bytes());
    let (told, known) = warm.take_as(true, message.as_bytes());
    assert_eq!(told, numbers(Dim::Fixed(2)).take_as(true, message.as_bytes()).0);
    let told = told.lines().next().unwrap();
    expect.assert_eq(&format!("{}{told}", if known { "known: " } else { "" }));
}

#[test]
fn of_a_text_only_the_id_and_the_numbers_may_differ() {
    let message = |id: &str, data: &str| {
        format!(r#"{{{id}"inputs":[{{"name":"data","datatype":"FP32","data":{data},"shape":[1,2]}}]}}"#)
    };
    let before = message(r#""id":"7","#, "[1.5, -2e-05]");
    let known = |data, expect| check_text(&before, &message(r#""id":"8","#, data), expect);
    known("[1.5, -2e-05]", expect![[r#"known: [Rows(b"\0\0\xc0?\xac\xc5\xa7\xb7")] 1 GroupKey([]) 0 None"#]]);
    known("[-0,0.25e+1]", expect![[r#"known: [Rows(b"\0\0\0\x80\0\0 @")] 1 GroupKey([]) 0 None"#]]);
    known("[\n 1 ,\t2 ]", expect![[r#"known: [Rows(b"\0\0\x80?\0\0\0@")] 1 GroupKey([]) 0 None"#]]);
    known("[[1,2]]", expect![[r#"[Rows(b"\0\0\x80?\0\0\0@")] 1 GroupKey([]) 0 None"#]]);
    known("[1]", expect![[r#"Some("8") []"#]]);
    known("[1,2,3]", expect![[r#"Some("8") []"#]]);
    known("[1,2.]", expect![[r#"Some("8") []"#]]);
    known("[01,2]", expect![[r#"Some("8") []"#]]);
    known("[1,1e39]", expect![[r#"Some("8") []"#]]);
    known("[1,null]", expect![[r#"Some("8") []"#]]);
    known("[1,2],\"data\":[3,4]", expect![[r#"Some("8") []"#]]);
    check_text(
        &before,
        &message("", "[1,2]"),
        expect![[r#"[Rows(b"\0\0\x80?\0\0\0@")] 1 GroupKey([]) 0 None"#]],
    );
    // Nested, as the shape says.
    let nested = message("", "[ [1,2] ]");
    check_text(
        &nested,
        &message("", "[ [3,4]]"),
        expect![[r#"[Rows(b"\0\0@@\0\0\x80@")] 1 GroupKey([]) 0 None"#]],
    );
    check_text(
        &nested,
        &message("", "[ [3,4] ]"),
        expect![[r#"known: [Rows(b"\0\0@@\0\0\x80@")] 1 GroupKey([]) 0 None"#]],
    );
}

#[test]
fn a_text_whose_numbers_are_not_surely_found_is_decoded_each_time() {
    let input = r#""name":"data","datatype":"FP32","shape":[1,2]"#;
    let two_rows = r#""name":"data","datatype":"FP32","shape":[2,2]"#;
    for message in [
        // An array that the server does not know, before and behind the one that it does.
        format!(r#"{{"parameters":{{"data":[1,2]}},"inputs":[{{{input},"data":[1,2]}}]}}"#),
        format!(r#"{{"inputs":[{{{input},"data":[1,2],"parameters":{{"data" : [1,2]}}}}]}}"#),
        // Escapes that write `data`.
        format!(r#"{{"parameters":{{"data":[1,2]}},"inputs":[{{{input},"d\u0061ta":[1,2]}}]}}"#),
        format!(r#"{{"parameters":{{"d\u0061ta":[1,2]}},"inputs":[{{{input},"data":[1,2]}}]}}"#),
        // Several arrays.
        format!(r#"{{"inputs":[{{{two_rows},"data":[[1,2],[1,2]]}}]}}"#),
    ] {
        let front = numbers(Dim::Fixed(2));
        let first = front.take_as(true, message.as_bytes());
        assert!(first.0.starts_with("[Rows("), "{message}: {}", first.0);
        assert_eq!(front.take_as(true, message.as_bytes()), first, "{message}");
    }
    // A binary message is none of a text's form, whatever it says.
    let front = numbers(Dim::Fixed(2));
    let message = format!(r#"{{"inputs":[{{{input},"data":[1,2]}}]}}"#);
    front.take_as(true, message.as_bytes());
    assert!(front.take_as(true, message.as_bytes()).1);
    assert!(!front.take_as(false, message.as_bytes()).1);
}

#[test]
fn damaged_texts_come_to_the_same() {
    const CHARACTERS: &[u8] = b"0123456789+-.eE,[]{}\" \n:xN";
    let (mut known, mut refused) = (0, 0);
    for seed in 0..400 {
        let mut random = Rng::with_seed(seed);
        let warm = numbers(Dim::Dynamic);
        for _ in 0..6 {
            let data: Vec<f32> =
                (0..3).map(|_| (random.f32() - 0.5) * 10f32.powi(random.i32(-9..9))).collect();
            let message = format!(
                r#"{{"id":"{seed}","inputs":[{{"name":"data","datatype":"FP32","shape":[1,3],"data":{data:?}}}]}}"#
            );
            let mut message = message.into_bytes();
            for _ in 0..random.usize(..3) {
                // Among the numbers, mostly.
                let from = if random.u8(..4) == 0 { 0 } else { 70 };
                let at = random.usize(from..message.len());
                let character = CHARACTERS[random.usize(..CHARACTERS.len())];
                match random.u8(..3) {
                    0 => message[at] = character,
                    1 => drop(message.remove(at)),
                    _ => message.insert(at, character),
                }
            }
            let (told, of_a_form) = warm.take_as(true, &message);
            let cold = numbers(Dim::Dynamic).take_as(true, &message).0;
            assert_eq!(told, cold, "seed {seed}: {}", message.escape_ascii());
            known += usize::from(of_a_form);
            refused += usize::from(!told.starts_with('['));
        }
    }
    assert!(known > 500 && refused > 500, "{known} {refused}");
}
