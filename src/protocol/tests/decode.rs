//! JSON requests: their fields, in any order, and what is refused.

use expect_test::expect;

use super::*;

#[test]
fn a_request_is_read_in_any_order() {
    check(
        r#"{"id":"7","inputs":[{"name":"x","datatype":"UINT8","shape":[1,2],"data":[1,2]},
           {"data":["a"],"shape":[1],"name":"y","datatype":"BYTES"}],
           "outputs":[{"name":"p"},{"name":"q","parameters":{"binary_data":true,"classification":3}}]}"#,
        expect![[
            r#"ok id "7" "x" UINT8 [1, 2] [1, 2] "y" BYTES [1] [1, 0, 0, 0, 97] -> "p" None 0 -> "q" Some(true) 3"#
        ]],
    );
    check(r#" {"inputs":[],"outputs":[]} "#, expect!["ok"]);
    check(r#"{"id":null,"inputs":[],"parameters":null,"outputs":null}"#, expect!["ok"]);
    check(r#"{"\u0069d":"\u00e9\n","inputs":[]}"#, expect![[r#"ok id "é\n""#]]);
}

#[test]
fn parameters_mean_what_they_mean_in_triton() {
    let check = |parameters: &str, expect| {
        check(&format!(r#"{{"id":"a","inputs":[],"parameters":{parameters}}}"#), expect);
    };
    check(
        r#"{"timeout":1500,"priority":2,"binary_data_output":true}"#,
        expect![[
            r#"ok id "a" Parameters { timeout: Some(1.5ms), priority: 2, sequence: None, binary_data_output: true, trace: None }"#
        ]],
    );
    check(r#"{"timeout":0}"#, expect![[r#"ok id "a""#]]);
    check(
        r#"{"sequence_id":18446744073709551615,"sequence_start":true}"#,
        expect![[
            r#"ok id "a" Parameters { timeout: None, priority: 0, sequence: Some(Sequence { id: Number(18446744073709551615), start: true, end: false }), binary_data_output: false, trace: None }"#
        ]],
    );
    check(
        r#"{"sequence_id":"a","sequence_end":true}"#,
        expect![[
            r#"ok id "a" Parameters { timeout: None, priority: 0, sequence: Some(Sequence { id: Text("a"), start: false, end: true }), binary_data_output: false, trace: None }"#
        ]],
    );
    check(
        r#"{"traceparent":"00-a","tracestate":"b=1"}"#,
        expect![[
            r#"ok id "a" Parameters { timeout: None, priority: 0, sequence: None, binary_data_output: false, trace: Some(TraceContext { parent: "00-a", state: Some("b=1") }) }"#
        ]],
    );
    check(r#"{"tracestate":"b=1"}"#, expect![[r#"ok id "a""#]]);
    check(r#"{"sequence_id":0,"sequence_start":false}"#, expect![[r#"ok id "a""#]]);
    check(r#"{"sequence_id":""}"#, expect![[r#"ok id "a""#]]);
    check(
        r#"{"sequence_start":true}"#,
        expect![[r#"(id "a") invalid_request: parameters.sequence_id: missing"#]],
    );
    check(r#"{"temperature":[0.5,{"a":null}]}"#, expect![[r#"ok id "a""#]]);
    check(
        r#"{"timeout":"1"}"#,
        expect![[
            r#"(id "a") invalid_request: parameters.timeout: invalid type: string "1", expected u64 at line 1 column 49"#
        ]],
    );
    check(
        &format!(r#"{{"timeout":"{}"}}"#, "é".repeat(1000)),
        expect![[
            r#"(id "a") invalid_request: parameters.timeout: invalid type: string "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé"#
        ]],
    );
    check(
        r#"{"timeout":-1}"#,
        expect![[
            r#"(id "a") invalid_request: parameters.timeout: invalid value: integer `-1`, expected u64 at line 1 column 48"#
        ]],
    );
    check(
        r#"{"priority":1.5}"#,
        expect![[
            r#"(id "a") invalid_request: parameters.priority: invalid type: floating point `1.5`, expected u64 at line 1 column 50"#
        ]],
    );
    check(
        r#"{"sequence_id":-1}"#,
        expect![[
            r#"(id "a") invalid_request: parameters.sequence_id: invalid type: integer `-1`, expected a string or a whole number from 0 at line 1 column 52"#
        ]],
    );
    check(
        r#"{"sequence_end":1}"#,
        expect![[
            r#"(id "a") invalid_request: parameters.sequence_end: invalid type: integer `1`, expected a boolean at line 1 column 52"#
        ]],
    );
    check(
        r#"[]"#,
        expect![[
            r#"(id "a") invalid_request: parameters: invalid type: sequence, expected an object at line 1 column 37"#
        ]],
    );
}

#[test]
fn what_is_not_json_is_refused() {
    check("", expect!["invalid_json: EOF while parsing a value at line 1 column 0"]);
    check("{", expect!["invalid_json: EOF while parsing an object at line 1 column 1"]);
    check("[]", expect!["invalid_request: invalid type: sequence, expected an object at line 1 column 2"]);
    check("null", expect!["invalid_request: null is no request"]);
    check(r#"{"inputs":[]} x"#, expect!["invalid_json: trailing characters at line 1 column 15"]);
    check("{\n  \"inputs\": [,]}", expect!["invalid_json: expected value at line 2 column 14"]);
    check(
        r#"{"id":"a","inputs":[{"data":[NaN]}]}"#,
        expect![[r#"(id "a") invalid_json: expected value at line 1 column 30"#]],
    );
    check(
        r#"{"id":"a","inputs":[{"data":[1,-Infinity]}]}"#,
        expect![[r#"(id "a") invalid_json: invalid number at line 1 column 33"#]],
    );
    check(
        r#"{"id":"a","inputs":[{"data":[01]}]}"#,
        expect![[r#"(id "a") invalid_json: invalid number at line 1 column 31"#]],
    );
    check(
        r#"{"id":"\ud800","inputs":[]}"#,
        expect!["invalid_json: unexpected end of hex escape at line 1 column 14"],
    );
    check_data(
        "BYTES",
        "[1]",
        r#"["\ud800"]"#,
        expect![[r#"invalid_json: inputs[0].data: "\ud800" is not Unicode"#]],
    );
    expect![[r#"(id "a") invalid_json: byte 15 is not UTF-8"#]]
        .assert_eq(&show(decode_json(b"{\"id\":\"a\",\"b\":\"\xff\"}")));
}

#[test]
fn fields_are_named_where_they_fail() {
    check(r#"{"id":"a"}"#, expect![[r#"(id "a") invalid_request: inputs: missing"#]]);
    check(
        r#"{"id":7,"inputs":[]}"#,
        expect!["invalid_request: id: invalid type: integer `7`, expected a string at line 1 column 7"],
    );
    check(
        r#"{"inputs":{}}"#,
        expect![
            "invalid_request: inputs: invalid type: map, expected an array of objects at line 1 column 12"
        ],
    );
    check(
        r#"{"inputs":[null]}"#,
        expect!["invalid_request: inputs[0]: invalid type: null, expected an object at line 1 column 16"],
    );
    check(r#"{"inputs":[{"datatype":"FP32"}]}"#, expect!["invalid_request: inputs[0].name: missing"]);
    check(
        r#"{"inputs":[{"name":"x","shape":[1],"data":[1]}]}"#,
        expect!["invalid_request: inputs[0].datatype: missing"],
    );
    check(
        r#"{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}"#,
        expect!["invalid_request: inputs[0].shape: missing"],
    );
    check(
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}],"id":"late"}"#,
        expect![[r#"(id "late") invalid_request: inputs[0].data: missing"#]],
    );
    check(
        r#"{"inputs":[{"name":1}]}"#,
        expect![
            "invalid_request: inputs[0].name: invalid type: integer `1`, expected a string at line 1 column 20"
        ],
    );
    check(
        r#"{"inputs":[{"name":"x","datatype":"FP31","shape":[1],"data":[1]}]}"#,
        expect!["wrong_datatype: inputs[0].datatype: 'FP31' is no datatype"],
    );
    check(
        r#"{"inputs":[{},{"shape":[-1]}]}"#,
        expect![
            "invalid_request: inputs[1].shape: invalid value: integer `-1`, expected usize at line 1 column 26"
        ],
    );
    check(
        r#"{"inputs":[{"shape":[1.5]}]}"#,
        expect![
            "invalid_request: inputs[0].shape: invalid type: floating point `1.5`, expected usize at line 1 column 24"
        ],
    );
    check(
        r#"{"inputs":[{"parameters":{"binary_data_size":"4"}}]}"#,
        expect![[
            r#"invalid_request: inputs[0].parameters.binary_data_size: invalid type: string "4", expected u64 at line 1 column 48"#
        ]],
    );
    check(
        r#"{"inputs":[{"parameters":{"shared_memory_region":"r"}}]}"#,
        expect![
            "unsupported_parameter: inputs[0].parameters.shared_memory_region: shared memory is not supported at line 1 column 48"
        ],
    );
    check(
        r#"{"inputs":[],"outputs":[{"name":"p"},{}]}"#,
        expect!["invalid_request: outputs[1].name: missing"],
    );
    check(
        r#"{"inputs":[],"outputs":[{"parameters":{"classification":-1}}]}"#,
        expect![
            "invalid_request: outputs[0].parameters.classification: invalid value: integer `-1`, expected usize at line 1 column 58"
        ],
    );
    check(
        r#"{"inputs":[],"outputs":[{"parameters":{"shared_memory_region":"r"}}]}"#,
        expect![
            "unsupported_parameter: outputs[0].parameters.shared_memory_region: shared memory is not supported at line 1 column 61"
        ],
    );
}

#[test]
fn a_field_is_given_once() {
    check(
        r#"{"id":"a","inputs":[],"id":"b"}"#,
        expect![[r#"(id "a") invalid_request: id: given twice at line 1 column 31"#]],
    );
    check(
        r#"{"inputs":[{"name":"x","name":"x"}]}"#,
        expect!["invalid_request: inputs[0].name: given twice at line 1 column 34"],
    );
    check(r#"{"unknown":1,"unknown":2,"inputs":[]}"#, expect!["ok"]);
}

#[test]
fn tensors_are_counted() {
    let inputs = |count: usize| format!(r#"{{"inputs":[{}]}}"#, vec!["{}"; count].join(","));
    check(&inputs(MAX_TENSORS), expect!["invalid_request: inputs[0].name: missing"]);
    check(
        &inputs(MAX_TENSORS + 1),
        expect!["invalid_request: inputs[256]: more than 256 tensors at line 1 column 782"],
    );
}

#[test]
fn nesting_is_limited_wherever_it_is() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let message = |levels| format!(r#"{{"inputs":[],"unknown":{}}}"#, nested(levels));
    check(&message(MAX_DEPTH - 1), expect!["ok"]);
    check(&message(MAX_DEPTH), expect!["json_too_deep: the JSON nests deeper than 127 levels"]);
    check(&message(100_000), expect!["json_too_deep: the JSON nests deeper than 127 levels"]);
    let key = format!(r#"{{"id":"a","inputs":[],"parameters":{{"x":{}}}}}"#, nested(MAX_DEPTH - 1));
    check(&key, expect![[r#"(id "a") json_too_deep: the JSON nests deeper than 127 levels"#]]);
    check_data(
        "UINT8",
        "[1]",
        &nested(MAX_DEPTH - 3),
        expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"],
    );
    check_data(
        "UINT8",
        "[1]",
        &nested(MAX_DEPTH - 2),
        expect!["json_too_deep: inputs[0].data: the JSON nests deeper than 127 levels"],
    );
    check_data(
        "UINT8",
        "[1]",
        &nested(100_000),
        expect!["json_too_deep: inputs[0].data: the JSON nests deeper than 127 levels"],
    );
    check_data(
        "UINT8",
        "[0]",
        &nested(MAX_DEPTH - 2),
        expect!["json_too_deep: inputs[0].data: the JSON nests deeper than 127 levels"],
    );
}
