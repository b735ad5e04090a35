//! Binary messages: a JSON header, then the bytes of its tensors.

use expect_test::{Expect, expect};

use super::*;

fn check_binary(header: &str, tail: &[u8], expect: Expect) {
    expect.assert_eq(&show(decode_binary(framed(header, tail))));
}

#[test]
fn binary_tensors_follow_the_header_in_order() {
    let tensor = |name, datatype, shape, size| {
        format!(
            r#"{{"name":"{name}","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}"#
        )
    };
    let one =
        |datatype, shape, size| format!(r#"{{"id":"a","inputs":[{}]}}"#, tensor("x", datatype, shape, size));
    let [x, y] = [tensor("x", "UINT8", "[2]", 2), tensor("y", "INT16", "[1]", 2)];
    let json = r#"{"name":"z","shape":[1],"datatype":"UINT8","data":[9]}"#;
    check_binary(
        &format!(r#"{{"inputs":[{x},{json},{y}]}}"#),
        &[1, 2, 3, 4],
        expect![[r#"ok "x" UINT8 [2] [1, 2] "z" UINT8 [1] [9] "y" INT16 [1] [3, 4]"#]],
    );
    check_binary(&one("UINT8", "[0]", 0), b"", expect![[r#"ok id "a" "x" UINT8 [0] []"#]]);
    check_binary(
        &one("BYTES", "[2]", 9),
        &strings(&[b"a", b""]),
        expect![[r#"ok id "a" "x" BYTES [2] [1, 0, 0, 0, 97, 0, 0, 0, 0]"#]],
    );
    check_binary(&one("BOOL", "[2]", 2), &[0, 1], expect![[r#"ok id "a" "x" BOOL [2] [0, 1]"#]]);

    check_binary(
        &one("BOOL", "[2]", 2),
        &[0, 2],
        expect![[
            r#"(id "a") value_out_of_range: inputs[0].parameters.binary_data_size: a BOOL is a byte of 0 or 1"#
        ]],
    );
    check_binary(
        &one("FP32", "[2]", 4),
        &[0; 4],
        expect![[
            r#"(id "a") wrong_element_count: inputs[0].parameters.binary_data_size: 2 elements of FP32 are not 4 bytes"#
        ]],
    );
    check_binary(
        &one("FP32", "[1]", 4),
        &[0; 3],
        expect![[
            r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: beyond the 3 bytes that are left: 4"#
        ]],
    );
    check_binary(
        &one("FP32", "[1]", 4),
        &[0; 5],
        expect![[r#"(id "a") invalid_framing: bytes left over after the last tensor: 1"#]],
    );
    check_binary(
        &one("BYTES", "[1]", 5),
        &[2, 0, 0, 0, b'a'],
        expect![[
            r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: element 0 ends beyond the tensor's bytes"#
        ]],
    );
    check_binary(
        &one("BYTES", "[1]", 3),
        &[0, 0, 0],
        expect![[
            r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: element 0 ends beyond the tensor's bytes"#
        ]],
    );
    check_binary(
        &one("BYTES", "[1]", 10),
        &strings(&[b"a", b"b"]),
        expect![[
            r#"(id "a") wrong_element_count: inputs[0].parameters.binary_data_size: 2 elements, the shape says 1"#
        ]],
    );
    let both = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[1],"parameters":{"binary_data_size":1}}]}"#;
    check_binary(
        both,
        &[1],
        expect!["invalid_request: inputs[0].data: the tensor also has parameters.binary_data_size"],
    );
    check(
        &one("UINT8", "[1]", 1),
        expect![[
            r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: beyond the 0 bytes that are left: 1"#
        ]],
    );
}

#[test]
fn lengths_add_up_to_the_message() {
    let check = |message: &'static [u8], expect: Expect| {
        expect.assert_eq(&show(decode_binary(Bytes::from_static(message))));
    };
    check(b"", expect!["invalid_framing: the header's length takes 4 bytes, the message has 0"]);
    check(b"\x02\0\0", expect!["invalid_framing: the header's length takes 4 bytes, the message has 3"]);
    check(b"\x03\0\0\0{}", expect!["invalid_framing: the header is said to have 3 bytes, 2 are left"]);
    check(
        b"\xff\xff\xff\xff{}",
        expect!["invalid_framing: the header is said to have 4294967295 bytes, 2 are left"],
    );
    check(b"\x0d\0\0\0{\"inputs\":[]}", expect!["ok"]);
    check(
        b"\x0d\0\0\0{\"inputs\":[]}x",
        expect!["invalid_framing: bytes left over after the last tensor: 1"],
    );
    expect!["invalid_framing: the header is said to have 18446744073709551615 bytes, 2 are left"]
        .assert_eq(&show(decode_framed(Bytes::from_static(b"{}"), usize::MAX)));
}

#[test]
fn binary_data_stays_where_it_is() {
    let header =
        r#"{"inputs":[{"name":"x","shape":[64],"datatype":"UINT8","parameters":{"binary_data_size":64}}]}"#;
    let message = framed(header, &[7; 64]);
    let request = decode_binary(message.clone()).unwrap();
    assert_eq!(request.inputs[0].data.as_ptr(), message[4 + header.len()..].as_ptr());
}

#[test]
fn claimed_lengths_are_not_believed() {
    let header = |size: u64| {
        format!(
            r#"{{"inputs":[{{"name":"x","shape":[{size}],"datatype":"UINT8",
               "parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    check_binary(
        &header(1 << 60),
        b"",
        expect![
            "invalid_framing: inputs[0].parameters.binary_data_size: beyond the 0 bytes that are left: 1152921504606846976"
        ],
    );
}
