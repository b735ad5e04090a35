use std::fmt::Write;

use expect_test::{Expect, expect};

use super::*;

fn show(result: Result<InferRequest, Refusal>) -> String {
    let mut text = String::new();
    match result {
        Ok(request) => {
            let InferRequest { id, parameters, inputs, outputs } = request;
            id.into_iter().for_each(|id| write!(text, "id {id:?} ").unwrap());
            if parameters != Parameters::default() {
                write!(text, "{parameters:?} ").unwrap();
            }
            for InputTensor { name, datatype, shape, data } in inputs {
                write!(text, "{name:?} {datatype} {shape:?} {:?} ", &data[..]).unwrap();
            }
            for output in outputs.into_iter().flatten() {
                write!(text, "-> {:?} {:?} {} ", output.name, output.binary, output.classification).unwrap();
            }
        }
        Err(Refusal { error, id }) => {
            id.into_iter().for_each(|id| write!(text, "(id {id:?}) ").unwrap());
            write!(text, "{}: {error}", error.code.as_str()).unwrap();
        }
    }
    text.trim_end().to_owned()
}

fn check(message: &str, expect: Expect) {
    expect.assert_eq(&show(decode_json(message.as_bytes())));
}

/// One input of this shape, datatype and data.
fn check_data(datatype: &str, shape: &str, data: &str, expect: Expect) {
    let message =
        format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"data":{data},"datatype":"{datatype}"}}]}}"#);
    check(&message, expect);
}

fn check_binary(header: &str, tail: &[u8], expect: Expect) {
    expect.assert_eq(&show(decode_binary(framed(header, tail))));
}

#[test]
fn a_request_is_read_in_any_order() {
    check(
        r#"{"id":"7","inputs":[{"name":"x","datatype":"UINT8","shape":[1,2],"data":[1,2]},
           {"data":["a"],"shape":[1],"name":"y","datatype":"BYTES"}],
           "outputs":[{"name":"p"},{"name":"q","parameters":{"binary_data":true,"classification":3}}]}"#,
        expect![[r#"id "7" "x" UINT8 [1, 2] [1, 2] "y" BYTES [1] [1, 0, 0, 0, 97] -> "p" None 0 -> "q" Some(true) 3"#]],
    );
    check(r#" {"inputs":[],"outputs":[]} "#, expect![""]);
    check(r#"{"id":null,"inputs":[],"parameters":null,"outputs":null}"#, expect![""]);
    check(r#"{"\u0069d":"\u00e9\n","inputs":[]}"#, expect![[r#"id "é\n""#]]);
}

#[test]
fn parameters_mean_what_they_mean_in_triton() {
    let check = |parameters: &str, expect| {
        check(&format!(r#"{{"id":"a","inputs":[],"parameters":{parameters}}}"#), expect);
    };
    check(r#"{"timeout":1500,"priority":2,"binary_data_output":true}"#, expect![[r#"id "a" Parameters { timeout: Some(1.5ms), priority: 2, sequence: None, binary_data_output: true }"#]]);
    check(r#"{"timeout":0}"#, expect![[r#"id "a""#]]);
    check(r#"{"sequence_id":18446744073709551615,"sequence_start":true}"#, expect![[r#"id "a" Parameters { timeout: None, priority: 0, sequence: Some(Sequence { id: Number(18446744073709551615), start: true, end: false }), binary_data_output: false }"#]]);
    check(r#"{"sequence_id":"a","sequence_end":true}"#, expect![[r#"id "a" Parameters { timeout: None, priority: 0, sequence: Some(Sequence { id: Text("a"), start: false, end: true }), binary_data_output: false }"#]]);
    check(r#"{"sequence_id":0,"sequence_start":false}"#, expect![[r#"id "a""#]]);
    check(r#"{"sequence_id":""}"#, expect![[r#"id "a""#]]);
    check(r#"{"sequence_start":true}"#, expect![[r#"(id "a") invalid_request: parameters.sequence_id: missing"#]]);
    check(r#"{"temperature":[0.5,{"a":null}]}"#, expect![[r#"id "a""#]]);
    check(r#"{"timeout":"1"}"#, expect![[r#"(id "a") invalid_request: parameters.timeout: invalid type: string "1", expected u64 at line 1 column 49"#]]);
    check(r#"{"timeout":-1}"#, expect![[r#"(id "a") invalid_request: parameters.timeout: invalid value: integer `-1`, expected u64 at line 1 column 48"#]]);
    check(r#"{"priority":1.5}"#, expect![[r#"(id "a") invalid_request: parameters.priority: invalid type: floating point `1.5`, expected u64 at line 1 column 50"#]]);
    check(r#"{"sequence_id":-1}"#, expect![[r#"(id "a") invalid_request: parameters.sequence_id: invalid type: integer `-1`, expected a string or a whole number from 0 at line 1 column 52"#]]);
    check(r#"{"sequence_end":1}"#, expect![[r#"(id "a") invalid_request: parameters.sequence_end: invalid type: integer `1`, expected a boolean at line 1 column 52"#]]);
    check(r#"[]"#, expect![[r#"(id "a") invalid_request: parameters: invalid type: sequence, expected an object at line 1 column 37"#]]);
}

#[test]
fn what_is_not_json_is_refused() {
    check("", expect!["invalid_json: EOF while parsing a value at line 1 column 0"]);
    check("{", expect!["invalid_json: EOF while parsing an object at line 1 column 1"]);
    check("[]", expect!["invalid_request: invalid type: sequence, expected an object at line 1 column 2"]);
    check("null", expect!["invalid_request: null is no request"]);
    check(r#"{"inputs":[]} x"#, expect!["invalid_json: trailing characters at line 1 column 15"]);
    check("{\n  \"inputs\": [,]}", expect!["invalid_json: expected value at line 2 column 14"]);
    check(r#"{"id":"a","inputs":[{"data":[NaN]}]}"#, expect![[r#"(id "a") invalid_json: expected value at line 1 column 30"#]]);
    check(r#"{"id":"a","inputs":[{"data":[1,-Infinity]}]}"#, expect![[r#"(id "a") invalid_json: invalid number at line 1 column 33"#]]);
    check(r#"{"id":"a","inputs":[{"data":[01]}]}"#, expect![[r#"(id "a") invalid_json: invalid number at line 1 column 31"#]]);
    check(r#"{"id":"\ud800","inputs":[]}"#, expect!["invalid_json: unexpected end of hex escape at line 1 column 14"]);
    check_data("BYTES", "[1]", r#"["\ud800"]"#, expect![[r#"invalid_json: inputs[0].data: "\ud800" is not Unicode"#]]);
    expect![[r#"(id "a") invalid_json: byte 15 is not UTF-8"#]].assert_eq(&show(decode_json(b"{\"id\":\"a\",\"b\":\"\xff\"}")));
}

#[test]
fn fields_are_named_where_they_fail() {
    check(r#"{"id":"a"}"#, expect![[r#"(id "a") invalid_request: inputs: missing"#]]);
    check(r#"{"id":7,"inputs":[]}"#, expect!["invalid_request: id: invalid type: integer `7`, expected a string at line 1 column 7"]);
    check(r#"{"inputs":{}}"#, expect!["invalid_request: inputs: invalid type: map, expected an array of objects at line 1 column 12"]);
    check(r#"{"inputs":[null]}"#, expect!["invalid_request: inputs[0]: invalid type: null, expected an object at line 1 column 16"]);
    check(r#"{"inputs":[{"datatype":"FP32"}]}"#, expect!["invalid_request: inputs[0].name: missing"]);
    check(r#"{"inputs":[{"name":"x","shape":[1],"data":[1]}]}"#, expect!["invalid_request: inputs[0].datatype: missing"]);
    check(r#"{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}"#, expect!["invalid_request: inputs[0].shape: missing"]);
    check(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}],"id":"late"}"#, expect![[r#"(id "late") invalid_request: inputs[0].data: missing"#]]);
    check(r#"{"inputs":[{"name":1}]}"#, expect!["invalid_request: inputs[0].name: invalid type: integer `1`, expected a string at line 1 column 20"]);
    check(r#"{"inputs":[{"name":"x","datatype":"FP31","shape":[1],"data":[1]}]}"#, expect!["wrong_datatype: inputs[0].datatype: 'FP31' is no datatype"]);
    check(r#"{"inputs":[{},{"shape":[-1]}]}"#, expect!["invalid_request: inputs[1].shape: invalid value: integer `-1`, expected usize at line 1 column 26"]);
    check(r#"{"inputs":[{"shape":[1.5]}]}"#, expect!["invalid_request: inputs[0].shape: invalid type: floating point `1.5`, expected usize at line 1 column 24"]);
    check(r#"{"inputs":[{"parameters":{"binary_data_size":"4"}}]}"#, expect![[r#"invalid_request: inputs[0].parameters.binary_data_size: invalid type: string "4", expected u64 at line 1 column 48"#]]);
    check(r#"{"inputs":[{"parameters":{"shared_memory_region":"r"}}]}"#, expect!["unsupported_parameter: inputs[0].parameters.shared_memory_region: shared memory is not supported at line 1 column 48"]);
    check(r#"{"inputs":[],"outputs":[{"name":"p"},{}]}"#, expect!["invalid_request: outputs[1].name: missing"]);
    check(r#"{"inputs":[],"outputs":[{"parameters":{"classification":-1}}]}"#, expect!["invalid_request: outputs[0].parameters.classification: invalid value: integer `-1`, expected usize at line 1 column 58"]);
    check(r#"{"inputs":[],"outputs":[{"parameters":{"shared_memory_region":"r"}}]}"#, expect!["unsupported_parameter: outputs[0].parameters.shared_memory_region: shared memory is not supported at line 1 column 61"]);
}

#[test]
fn a_field_is_given_once() {
    check(r#"{"id":"a","inputs":[],"id":"b"}"#, expect![[r#"(id "a") invalid_request: id: given twice at line 1 column 31"#]]);
    check(r#"{"inputs":[{"name":"x","name":"x"}]}"#, expect!["invalid_request: inputs[0].name: given twice at line 1 column 34"]);
    check(r#"{"unknown":1,"unknown":2,"inputs":[]}"#, expect![""]);
}

#[test]
fn data_is_flat_or_nested_as_the_shape_says() {
    check_data("UINT8", "[2,2]", "[1,2,3,4]", expect![[r#""x" UINT8 [2, 2] [1, 2, 3, 4]"#]]);
    check_data("UINT8", "[2,2]", " [ [ 1 , 2 ] , [ 3\n,4 ] ] ", expect![[r#""x" UINT8 [2, 2] [1, 2, 3, 4]"#]]);
    check_data("UINT8", "[]", "[7]", expect![[r#""x" UINT8 [] [7]"#]]);
    check_data("UINT8", "[0,3]", "[]", expect![[r#""x" UINT8 [0, 3] []"#]]);
    check_data("UINT8", "[2,0]", "[[],[]]", expect![[r#""x" UINT8 [2, 0] []"#]]);
    check_data("BYTES", "[2]", r#"["],[", "\"\\"]"#, expect![[r#""x" BYTES [2] [3, 0, 0, 0, 93, 44, 91, 2, 0, 0, 0, 34, 92]"#]]);
    check_data("UINT8", "[2,2]", "[[1,2],[3]]", expect!["wrong_element_count: inputs[0].data: an array has 1 elements, the shape says 2"]);
    check_data("UINT8", "[2,2]", "[[1,2],[3,4,5]]", expect!["wrong_element_count: inputs[0].data: an array has more elements than the 2 of the shape"]);
    check_data("UINT8", "[2,2]", "[[1,2],3,4]", expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"]);
    check_data("UINT8", "[2,2]", "[[[1,2],[3,4]]]", expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"]);
    check_data("UINT8", "[1,2,2]", "[[1,2,3,4]]", expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"]);
    check_data("UINT8", "[]", "[[7]]", expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"]);
    check_data("UINT8", "[2]", "[1]", expect!["wrong_element_count: inputs[0].data: an array has 1 elements, the shape says 2"]);
    check_data("UINT8", "[2]", "[1,2,3]", expect!["wrong_element_count: inputs[0].data: an array has more elements than the 2 of the shape"]);
    check_data("UINT8", "[2]", "7", expect!["invalid_request: inputs[0].data: expected an array"]);
    check_data("UINT8", "[2]", "{}", expect!["invalid_request: inputs[0].data: expected an array"]);
}

#[test]
fn values_fit_their_datatype() {
    check_data("BOOL", "[2]", "[true,false]", expect![[r#""x" BOOL [2] [1, 0]"#]]);
    check_data("BOOL", "[1]", "[1]", expect!["invalid_request: inputs[0].data: 1 is no BOOL"]);
    check_data("UINT8", "[1]", "[256]", expect!["value_out_of_range: inputs[0].data: 256 is not in the range of UINT8"]);
    check_data("UINT8", "[1]", "[-1]", expect!["value_out_of_range: inputs[0].data: -1 is not in the range of UINT8"]);
    check_data("INT8", "[1]", "[-129]", expect!["value_out_of_range: inputs[0].data: -129 is not in the range of INT8"]);
    check_data("INT16", "[1]", "[1.5]", expect!["value_out_of_range: inputs[0].data: 1.5 is not in the range of INT16"]);
    check_data("INT64", "[1]", "[9223372036854775808]", expect!["value_out_of_range: inputs[0].data: 9223372036854775808 is not in the range of INT64"]);
    check_data("UINT64", "[1]", "[18446744073709551615]", expect![[r#""x" UINT64 [1] [255, 255, 255, 255, 255, 255, 255, 255]"#]]);
    check_data("UINT8", "[1]", r#"["1"]"#, expect![[r#"invalid_request: inputs[0].data: "1" is no UINT8"#]]);
    check_data("FP32", "[1]", "[null]", expect!["invalid_request: inputs[0].data: null is no FP32"]);
    check_data("FP32", "[2]", "[1,{}]", expect!["invalid_request: inputs[0].data: { is no FP32"]);
    check_data("FP16", "[2]", "[65504,-65519.99]", expect![[r#""x" FP16 [2] [255, 123, 255, 251]"#]]);
    check_data("FP16", "[1]", "[65520]", expect!["value_out_of_range: inputs[0].data: 65520 is not in the range of FP16"]);
    check_data("BF16", "[1]", "[3.4e38]", expect!["value_out_of_range: inputs[0].data: 3.4e38 is not in the range of BF16"]);
    check_data("FP32", "[1]", "[3.5e38]", expect!["value_out_of_range: inputs[0].data: 3.5e38 is not in the range of FP32"]);
    check_data("FP64", "[1]", "[1e309]", expect!["value_out_of_range: inputs[0].data: 1e309 is not in the range of FP64"]);
    check_data("BYTES", "[1]", "[1]", expect!["invalid_request: inputs[0].data: 1 is no BYTES"]);
    check_data("BYTES", "[1]", r#"["é\u0000\ud83d\ude00"]"#, expect![[r#""x" BYTES [1] [7, 0, 0, 0, 195, 169, 0, 240, 159, 152, 128]"#]]);
}

#[test]
fn an_fp32_is_rounded_once() {
    // By way of an f64 this would be rounded down to the middle, and from there to the even neighbour.
    let halfway = "1.00000005960464477539062500000000000000000001";
    check_data("FP32", "[1]", &format!("[{halfway}]"), expect![[r#""x" FP32 [1] [1, 0, 128, 63]"#]]);
}

#[test]
fn shapes_are_not_believed() {
    check_data("FP32", "[1152921504606846976]", "[1]", expect!["wrong_element_count: inputs[0].data: an array has 1 elements, the shape says 1152921504606846976"]);
    check_data("UINT8", "[1152921504606846976]", "[1]", expect!["wrong_element_count: inputs[0].data: an array has 1 elements, the shape says 1152921504606846976"]);
    check_data("UINT8", "[4294967296,4294967296]", "[1]", expect!["shape_overflow: inputs[0].shape: the product of the dimensions is too large"]);
    check_data("FP32", "[9223372036854775807]", "[1]", expect!["shape_overflow: inputs[0].shape: the product of the dimensions is too large"]);
    check_data("UINT8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[1]", expect![[r#""x" UINT8 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] [1]"#]]);
    check_data("UINT8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[1]", expect!["wrong_shape: inputs[0].shape: 17 dimensions, the limit is 16"]);
    let header = |size: u64| {
        format!(
            r#"{{"inputs":[{{"name":"x","shape":[{size}],"datatype":"UINT8",
               "parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    check_binary(&header(1 << 60), b"", expect!["invalid_framing: inputs[0].parameters.binary_data_size: 1152921504606846976 bytes are claimed, 0 are left"]);
}

#[test]
fn tensors_are_counted() {
    let inputs = |count: usize| format!(r#"{{"inputs":[{}]}}"#, vec!["{}"; count].join(","));
    check(&inputs(MAX_TENSORS), expect!["invalid_request: inputs[0].name: missing"]);
    check(&inputs(MAX_TENSORS + 1), expect!["invalid_request: inputs[256]: more than 256 tensors at line 1 column 782"]);
}

#[test]
fn nesting_is_limited_wherever_it_is() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let message = |levels| format!(r#"{{"inputs":[],"unknown":{}}}"#, nested(levels));
    check(&message(MAX_DEPTH - 1), expect![""]);
    check(&message(MAX_DEPTH), expect!["json_too_deep: the JSON nests deeper than 127 levels"]);
    check(&message(100_000), expect!["json_too_deep: the JSON nests deeper than 127 levels"]);
    let key = format!(r#"{{"id":"a","inputs":[],"parameters":{{"x":{}}}}}"#, nested(MAX_DEPTH - 1));
    check(&key, expect![[r#"(id "a") json_too_deep: the JSON nests deeper than 127 levels"#]]);
    check_data("UINT8", "[1]", &nested(MAX_DEPTH - 3), expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"]);
    check_data("UINT8", "[1]", &nested(MAX_DEPTH - 2), expect!["json_too_deep: inputs[0].data: the JSON nests deeper than 127 levels"]);
    check_data("UINT8", "[1]", &nested(100_000), expect!["json_too_deep: inputs[0].data: the JSON nests deeper than 127 levels"]);
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
    check_binary(&format!(r#"{{"inputs":[{x},{json},{y}]}}"#), &[1, 2, 3, 4], expect![[r#""x" UINT8 [2] [1, 2] "z" UINT8 [1] [9] "y" INT16 [1] [3, 4]"#]]);
    check_binary(&one("UINT8", "[0]", 0), b"", expect![[r#"id "a" "x" UINT8 [0] []"#]]);
    check_binary(&one("BYTES", "[2]", 9), &strings(&[b"a", b""]), expect![[r#"id "a" "x" BYTES [2] [1, 0, 0, 0, 97, 0, 0, 0, 0]"#]]);
    check_binary(&one("BOOL", "[2]", 2), &[0, 1], expect![[r#"id "a" "x" BOOL [2] [0, 1]"#]]);

    check_binary(&one("BOOL", "[2]", 2), &[0, 2], expect![[r#"(id "a") value_out_of_range: inputs[0].parameters.binary_data_size: a BOOL is a byte of 0 or 1"#]]);
    check_binary(&one("FP32", "[2]", 4), &[0; 4], expect![[r#"(id "a") wrong_element_count: inputs[0].parameters.binary_data_size: 2 elements of FP32 are not 4 bytes"#]]);
    check_binary(&one("FP32", "[1]", 4), &[0; 3], expect![[r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: 4 bytes are claimed, 3 are left"#]]);
    check_binary(&one("FP32", "[1]", 4), &[0; 5], expect![[r#"(id "a") invalid_framing: 1 bytes are left over after the last tensor"#]]);
    check_binary(&one("BYTES", "[1]", 5), &[2, 0, 0, 0, b'a'], expect![[r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: element 0 ends beyond the tensor's bytes"#]]);
    check_binary(&one("BYTES", "[1]", 3), &[0, 0, 0], expect![[r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: element 0 ends beyond the tensor's bytes"#]]);
    check_binary(&one("BYTES", "[1]", 10), &strings(&[b"a", b"b"]), expect![[r#"(id "a") wrong_element_count: inputs[0].parameters.binary_data_size: 2 elements, the shape says 1"#]]);
    let both = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[1],"parameters":{"binary_data_size":1}}]}"#;
    check_binary(both, &[1], expect!["invalid_request: inputs[0].data: the tensor also has parameters.binary_data_size"]);
    check(&one("UINT8", "[1]", 1), expect![[r#"(id "a") invalid_framing: inputs[0].parameters.binary_data_size: 1 bytes are claimed, 0 are left"#]]);
}

#[test]
fn lengths_add_up_to_the_message() {
    let check = |message: &'static [u8], expect: Expect| {
        expect.assert_eq(&show(decode_binary(Bytes::from_static(message))));
    };
    check(b"", expect!["invalid_framing: 0 bytes are too few for the header's length"]);
    check(b"\x02\0\0", expect!["invalid_framing: 3 bytes are too few for the header's length"]);
    check(b"\x03\0\0\0{}", expect!["invalid_framing: the header is said to have 3 bytes, 2 are left"]);
    check(b"\xff\xff\xff\xff{}", expect!["invalid_framing: the header is said to have 4294967295 bytes, 2 are left"]);
    check(b"\x0d\0\0\0{\"inputs\":[]}", expect![""]);
    check(b"\x0d\0\0\0{\"inputs\":[]}x", expect!["invalid_framing: 1 bytes are left over after the last tensor"]);
    expect!["invalid_framing: the header is said to have 18446744073709551615 bytes, 2 are left"].assert_eq(&show(decode_framed(Bytes::from_static(b"{}"), usize::MAX)));
}

#[test]
fn binary_data_stays_where_it_is() {
    let header =
        r#"{"inputs":[{"name":"x","shape":[64],"datatype":"UINT8","parameters":{"binary_data_size":64}}]}"#;
    let message = framed(header, &[7; 64]);
    let request = decode_binary(message.clone()).unwrap();
    assert_eq!(request.inputs[0].data.as_ptr(), message[4 + header.len()..].as_ptr());
}
