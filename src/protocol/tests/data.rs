//! The data of JSON tensors: shapes, nesting, and what each datatype can hold.

use expect_test::expect;

use super::*;
use crate::protocol;

#[test]
fn data_is_flat_or_nested_as_the_shape_says() {
    check_data("UINT8", "[2,2]", "[1,2,3,4]", expect![[r#"ok "x" UINT8 [2, 2] [1, 2, 3, 4]"#]]);
    check_data(
        "UINT8",
        "[2,2]",
        " [ [ 1 , 2 ] , [ 3\n,4 ] ] ",
        expect![[r#"ok "x" UINT8 [2, 2] [1, 2, 3, 4]"#]],
    );
    check_data("UINT8", "[]", "[7]", expect![[r#"ok "x" UINT8 [] [7]"#]]);
    check_data("UINT8", "[0,3]", "[]", expect![[r#"ok "x" UINT8 [0, 3] []"#]]);
    check_data("UINT8", "[2,0]", "[[],[]]", expect![[r#"ok "x" UINT8 [2, 0] []"#]]);
    check_data(
        "BYTES",
        "[2]",
        r#"["],[", "\"\\"]"#,
        expect![[r#"ok "x" BYTES [2] [3, 0, 0, 0, 93, 44, 91, 2, 0, 0, 0, 34, 92]"#]],
    );
    check_data(
        "UINT8",
        "[2,2]",
        "[[1,2],[3]]",
        expect!["wrong_element_count: inputs[0].data: an array has 1 of the shape's 2 elements"],
    );
    check_data(
        "UINT8",
        "[2,2]",
        "[[1,2],[3,4,5]]",
        expect!["wrong_element_count: inputs[0].data: an array has more than the shape's 2 elements"],
    );
    check_data(
        "UINT8",
        "[2,2]",
        "[[1,2],3,4]",
        expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"],
    );
    check_data(
        "UINT8",
        "[2,2]",
        "[[[1,2],[3,4]]]",
        expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"],
    );
    check_data(
        "UINT8",
        "[1,2,2]",
        "[[1,2,3,4]]",
        expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"],
    );
    check_data(
        "UINT8",
        "[]",
        "[[7]]",
        expect!["wrong_shape: inputs[0].data: the arrays nest neither flat nor as the shape says"],
    );
    check_data(
        "UINT8",
        "[2]",
        "[1]",
        expect!["wrong_element_count: inputs[0].data: an array has 1 of the shape's 2 elements"],
    );
    check_data(
        "UINT8",
        "[2]",
        "[1,2,3]",
        expect!["wrong_element_count: inputs[0].data: an array has more than the shape's 2 elements"],
    );
    check_data("UINT8", "[2]", "7", expect!["invalid_request: inputs[0].data: expected an array"]);
    check_data("UINT8", "[2]", "{}", expect!["invalid_request: inputs[0].data: expected an array"]);
}

#[test]
fn values_fit_their_datatype() {
    check_data("BOOL", "[2]", "[true,false]", expect![[r#"ok "x" BOOL [2] [1, 0]"#]]);
    check_data("BOOL", "[1]", "[1]", expect!["invalid_request: inputs[0].data: 1 is no BOOL"]);
    check_data(
        "UINT8",
        "[1]",
        "[256]",
        expect!["value_out_of_range: inputs[0].data: 256 is not in the range of UINT8"],
    );
    check_data(
        "UINT8",
        "[1]",
        "[-1]",
        expect!["value_out_of_range: inputs[0].data: -1 is not in the range of UINT8"],
    );
    check_data(
        "INT8",
        "[1]",
        "[-129]",
        expect!["value_out_of_range: inputs[0].data: -129 is not in the range of INT8"],
    );
    check_data(
        "INT16",
        "[1]",
        "[1.5]",
        expect!["value_out_of_range: inputs[0].data: 1.5 is not in the range of INT16"],
    );
    check_data(
        "INT64",
        "[1]",
        "[9223372036854775808]",
        expect!["value_out_of_range: inputs[0].data: 9223372036854775808 is not in the range of INT64"],
    );
    check_data(
        "UINT64",
        "[1]",
        "[18446744073709551615]",
        expect![[r#"ok "x" UINT64 [1] [255, 255, 255, 255, 255, 255, 255, 255]"#]],
    );
    check_data("UINT8", "[1]", r#"["1"]"#, expect![[r#"invalid_request: inputs[0].data: "1" is no UINT8"#]]);
    check_data("FP32", "[1]", "[null]", expect!["invalid_request: inputs[0].data: null is no FP32"]);
    check_data("FP32", "[2]", "[1,{}]", expect!["invalid_request: inputs[0].data: { is no FP32"]);
    check_data("FP16", "[2]", "[65504,-65519.99]", expect![[r#"ok "x" FP16 [2] [255, 123, 255, 251]"#]]);
    check_data(
        "FP16",
        "[1]",
        "[65520]",
        expect!["value_out_of_range: inputs[0].data: 65520 is not in the range of FP16"],
    );
    check_data(
        "BF16",
        "[1]",
        "[3.4e38]",
        expect!["value_out_of_range: inputs[0].data: 3.4e38 is not in the range of BF16"],
    );
    check_data(
        "FP32",
        "[1]",
        "[3.5e38]",
        expect!["value_out_of_range: inputs[0].data: 3.5e38 is not in the range of FP32"],
    );
    check_data(
        "FP64",
        "[1]",
        "[1e309]",
        expect!["value_out_of_range: inputs[0].data: 1e309 is not in the range of FP64"],
    );
    check_data("BYTES", "[1]", "[1]", expect!["invalid_request: inputs[0].data: 1 is no BYTES"]);
    check_data(
        "BYTES",
        "[1]",
        r#"["é\u0000\ud83d\ude00"]"#,
        expect![[r#"ok "x" BYTES [1] [7, 0, 0, 0, 195, 169, 0, 240, 159, 152, 128]"#]],
    );
}

#[test]
fn an_fp32_is_rounded_once() {
    // By way of an f64 this would be rounded down to the middle, and from there to the even neighbour.
    let halfway = "1.00000005960464477539062500000000000000000001";
    check_data("FP32", "[1]", &format!("[{halfway}]"), expect![[r#"ok "x" FP32 [1] [1, 0, 128, 63]"#]]);
}

#[test]
fn shapes_are_not_believed() {
    check_data(
        "FP32",
        "[1152921504606846976]",
        "[1]",
        expect![
            "wrong_element_count: inputs[0].data: an array has 1 of the shape's 1152921504606846976 elements"
        ],
    );
    check_data(
        "UINT8",
        "[1152921504606846976]",
        "[1]",
        expect![
            "wrong_element_count: inputs[0].data: an array has 1 of the shape's 1152921504606846976 elements"
        ],
    );
    check_data(
        "UINT8",
        "[4294967296,4294967296]",
        "[1]",
        expect!["shape_overflow: inputs[0].shape: the product of the dimensions is too large"],
    );
    check_data(
        "FP32",
        "[9223372036854775807]",
        "[1]",
        expect!["shape_overflow: inputs[0].shape: the product of the dimensions is too large"],
    );
    check_data(
        "UINT8",
        "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
        "[1]",
        expect![[r#"ok "x" UINT8 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] [1]"#]],
    );
    check_data(
        "UINT8",
        "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
        "[1]",
        expect!["wrong_shape: inputs[0].shape: 17 dimensions, the limit is 16"],
    );
}

#[test]
fn halves_are_rounded_to_the_nearest() {
    // Just above the middle of two neighbours, and the middle itself, which goes to the even one.
    check_data("FP16", "[2]", "[1.000489,1.00048828125]", expect![[r#"ok "x" FP16 [2] [1, 60, 0, 60]"#]]);
    check_data("BF16", "[2]", "[1.003907,1.00390625]", expect![[r#"ok "x" BF16 [2] [129, 63, 128, 63]"#]]);
}

/// Arrays of two that are read without their grammar having been checked, or are not.
#[test]
fn numbers_are_read_by_themselves_only_if_json_has_them() {
    let numbers = |datatype, json: &str| protocol::numbers(json.as_bytes(), datatype, 2);
    let read = |datatype, value: &str| {
        let json = format!("[{value}, {value}]");
        let request =
            format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[2],"data":{json}}}]}}"#);
        let whole =
            protocol::decode_json(request.as_bytes()).ok().map(|request| request.inputs[0].data.clone());
        let alone = numbers(datatype, &json);
        assert_eq!(alone, whole, "{datatype} {value}");
        alone.is_some()
    };
    for value in ["0", "-0", "10", "0.5", "-0.25", "1e5", "1E+05", "1e-05", "-1.5e-09", "0e0", "100.001"] {
        assert!(read(DataType::Fp32, value) && read(DataType::Fp64, value), "{value}");
    }
    for value in ["0", "10", "127", "100"] {
        assert!(read(DataType::Int8, value) && read(DataType::Uint64, value), "{value}");
    }
    for value in [
        "", "-", "+1", "00", "01", "-01", "-00.5", ".5", "-.5", "1.", "1.e5", "1e", "1e+", "1..5", "1.5.5",
        "0x10", "inf", "-inf", "nan", "null", "true", "\"1\"", "1 2", "1e999", "--1", "1-1", "[1]",
    ] {
        assert!(!read(DataType::Fp32, value), "{value}");
    }
    for value in ["+1", "007", "-01", "1.0", "1e2", "256", "-1", "1 2"] {
        assert!(!read(DataType::Uint8, value), "{value}");
    }
    for json in [
        "", "[", "]", "1,2", "[1,2", "[1,2]]", "[1,2],", "[1,2,]", "[,1]", "[1]", "[1,2,3]", "[[1,2]]",
        "{1,2}",
    ] {
        assert_eq!(numbers(DataType::Fp32, json), None, "{json}");
    }
    assert_eq!(numbers(DataType::Bool, "[true, true]"), None);
    assert_eq!(numbers(DataType::Fp32, "[ 1 ,\n2\t]"), numbers(DataType::Fp32, "[1,2]"));
}
