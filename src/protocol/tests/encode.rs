//! Answers, as JSON and as binary messages.

use bytes::BytesMut;
use expect_test::{Expect, expect};

use super::*;
use crate::error::{Code, Error, Result};

const HEAD: ResponseHead<'_> = ResponseHead { model: "m", version: "1", id: Some("a\"b") };

fn view(rows: &Rows, binary: bool, classification: usize) -> OutputView<'_> {
    OutputView { name: "y", slice: rows.column(0).unwrap(), binary, classification }
}

/// What `encode` appends; on failure it must append nothing.
fn show<T>(encode: impl FnOnce(&mut BytesMut) -> Result<T>) -> String {
    let mut out = BytesMut::from(&b"before"[..]);
    match encode(&mut out) {
        Ok(_) => out[6..].escape_ascii().to_string().replace("\\\"", "\""),
        Err(error) => {
            assert_eq!(out, b"before"[..]);
            format!("{}: {error}", error.code.as_str())
        }
    }
}

fn check(rows: &Rows, classification: usize, expect: Expect) {
    expect.assert_eq(&show(|out| encode_json(out, &HEAD, &[view(rows, true, classification)])));
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn json_answers_carry_their_data() {
    let rows = batch(DataType::Fp32, &[2, 2], Some(0), floats(&[0.1, -0.0, 1e-45, 3.4e38]));
    check(
        &rows,
        0,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"FP32","shape":[2,2],"data":[0.1,-0.0,1e-45,3.4e+38]}]}"#
        ]],
    );
    check(
        &Rows { start: 1, count: 1, ..rows.clone() },
        0,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1e-45,3.4e+38]}]}"#
        ]],
    );
    check(
        &batch(DataType::Bool, &[2], None, vec![0, 1]),
        0,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BOOL","shape":[2],"data":[false,true]}]}"#
        ]],
    );
    check(
        &batch(DataType::Int8, &[], None, vec![0x80]),
        0,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"INT8","shape":[],"data":[-128]}]}"#
        ]],
    );
    check(
        &batch(DataType::Uint8, &[1, 0], Some(0), vec![]),
        0,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"UINT8","shape":[1,0],"data":[]}]}"#
        ]],
    );
    check(
        &batch(DataType::Bytes, &[2], Some(0), strings(&[b"a\"\\\n\x01", b""])),
        0,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BYTES","shape":[2],"data":["a\\"\\\\\\n\\u0001",""]}]}"#
        ]],
    );
    let head = ResponseHead { id: None, ..HEAD };
    expect![[r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[2,2],"data":[0.1,-0.0,1e-45,3.4e+38]},{"name":"y","datatype":"FP32","shape":[2,2],"data":[0.1,-0.0,1e-45,3.4e+38]}]}"#]]
        .assert_eq(&show(|out| encode_json(out, &head, &[view(&rows, false, 0), view(&rows, true, 0)])));
}

#[test]
fn what_json_cannot_carry_leaves_no_trace() {
    let rows = batch(DataType::Fp32, &[2], None, floats(&[1.0, f32::NAN]));
    check(
        &rows,
        0,
        expect![
            "not_representable: output 'y' has NaN or infinity, which JSON cannot carry; ask for binary data"
        ],
    );
    let outputs = [view(&rows, true, 0), view(&rows, false, 0)];
    expect![
        "not_representable: output 'y' has NaN or infinity, which JSON cannot carry; ask for binary data"
    ]
    .assert_eq(&show(|out| encode_framed(out, &HEAD, &outputs)));
    expect![
        "not_representable: output 'y' has NaN or infinity, which JSON cannot carry; ask for binary data"
    ]
    .assert_eq(&show(|out| encode_binary(out, &HEAD, &outputs)));
    expect![[r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}\x00\x00\x80?\x00\x00\xc0\x7f"#]].assert_eq(&show(|out| encode_framed(out, &HEAD, &outputs[..1])));
    check(
        &batch(DataType::Fp32, &[1], None, floats(&[f32::INFINITY])),
        0,
        expect![
            "not_representable: output 'y' has NaN or infinity, which JSON cannot carry; ask for binary data"
        ],
    );
    check(
        &batch(DataType::Fp64, &[1], None, f64::NEG_INFINITY.to_le_bytes().into()),
        0,
        expect![
            "not_representable: output 'y' has NaN or infinity, which JSON cannot carry; ask for binary data"
        ],
    );
    check(
        &batch(DataType::Fp16, &[1], None, vec![0, 0x7c]),
        0,
        expect![
            "not_representable: output 'y' has NaN or infinity, which JSON cannot carry; ask for binary data"
        ],
    );
    check(
        &batch(DataType::Bytes, &[1], None, strings(&[b"\xff"])),
        0,
        expect![
            "not_representable: output 'y' has bytes that are not UTF-8, which JSON cannot carry; ask for binary data"
        ],
    );
}

#[test]
fn binary_answers_carry_their_data_behind_the_header() {
    let rows = batch(DataType::Uint8, &[2, 2], Some(1), vec![1, 2, 3, 4]);
    let outputs = [view(&rows, true, 0), view(&rows, false, 0), view(&rows, true, 0)];
    let mut header_len = 0;
    expect![[r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"UINT8","shape":[2,2],"parameters":{"binary_data_size":4}},{"name":"y","datatype":"UINT8","shape":[2,2],"data":[1,2,3,4]},{"name":"y","datatype":"UINT8","shape":[2,2],"parameters":{"binary_data_size":4}}]}\x01\x02\x03\x04\x01\x02\x03\x04"#]].assert_eq(&show(|out| {
        header_len = encode_framed(out, &HEAD, &outputs)?;
        Ok(())
    }));
    let mut out = BytesMut::from(&b"before"[..]);
    encode_binary(&mut out, &HEAD, &outputs).unwrap();
    assert_eq!(out[6..10], u32::try_from(header_len).unwrap().to_le_bytes());
    assert_eq!(out[10 + header_len..], [1, 2, 3, 4, 1, 2, 3, 4]);
    assert_eq!(out[10 + header_len - 1], b'}');
}

#[test]
fn classification_sends_the_largest() {
    let rows = batch(DataType::Fp32, &[2, 3], Some(0), floats(&[0.25, 0.5, 0.25, 3.0, f32::NAN, 1.0]));
    check(
        &rows,
        2,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BYTES","shape":[2,2],"data":["0.5:1","0.25:0","3:0","1:2"]}]}"#
        ]],
    );
    check(
        &rows,
        9,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BYTES","shape":[2,3],"data":["0.5:1","0.25:0","0.25:2","3:0","1:2","NaN:1"]}]}"#
        ]],
    );
    check(
        &Rows { start: 1, count: 1, ..rows.clone() },
        1,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BYTES","shape":[1,1],"data":["3:0"]}]}"#
        ]],
    );
    // A batch axis behind the classes: each row of the last axis is a row of the batch.
    check(
        &batch(DataType::Int8, &[3, 2], Some(1), vec![1, 2, 4, 3, 5, 6]),
        1,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BYTES","shape":[3,1],"data":["2:1","4:0","6:1"]}]}"#
        ]],
    );
    check(
        &batch(DataType::Uint16, &[], None, vec![1, 1]),
        1,
        expect![[
            r#"{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BYTES","shape":[1],"data":["257:0"]}]}"#
        ]],
    );
    check(
        &batch(DataType::Bool, &[1], None, vec![1]),
        1,
        expect!["unsupported_parameter: output 'y' is BOOL, which has no largest values"],
    );
    expect![[r#"\x91\x00\x00\x00{"model_name":"m","model_version":"1","id":"a\\"b","outputs":[{"name":"y","datatype":"BYTES","shape":[2,1],"parameters":{"binary_data_size":16}}]}\x05\x00\x00\x000.5:1\x03\x00\x00\x003:0"#]].assert_eq(&show(|out| encode_binary(out, &HEAD, &[view(&rows, true, 1)])));
}

#[test]
fn errors_say_what_to_do() {
    let check = |error: Error, id: Option<&str>, stream, expect: Expect| {
        let encode = |out: &mut BytesMut| {
            encode_error(out, &error, id, stream);
            Ok(())
        };
        expect.assert_eq(&show(encode));
    };
    check(
        Error::new(Code::QueueFull, "the queue is full"),
        Some("a"),
        false,
        expect![[r#"{"error":"the queue is full","code":"queue_full","id":"a","retryable":true}"#]],
    );
    check(
        Error::new(Code::InvalidJson, "a \"quote\"\u{7}"),
        None,
        true,
        expect![[
            r#"{"type":"error","error":"a \\"quote\\"\\u0007","code":"invalid_json","retryable":false}"#
        ]],
    );
}
