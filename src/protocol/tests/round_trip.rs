//! What is encoded decodes to the same bytes, for every datatype and form of message.

use bytes::BytesMut;
use half::{bf16, f16};

use super::*;

/// The elements as a request carries them, in every form of message and back.
fn check(datatype: DataType, count: usize, bytes: Vec<u8>) {
    let rows = batch(datatype, &[count], None, bytes.clone());
    let head = ResponseHead { model: "m", version: "1", id: Some("i") };
    let outputs =
        |binary| [OutputView { name: "x", slice: rows.column(0).unwrap(), binary, classification: 0 }];

    // An answer's output reads as a request's input.
    let mut json = BytesMut::new();
    encode_json(&mut json, &head, &outputs(false)).unwrap();
    let json = String::from_utf8(json.to_vec()).unwrap().replace("\"outputs\"", "\"inputs\"");
    assert_tensor(decode_json(json.as_bytes()), datatype, count, &bytes);

    let mut framed = BytesMut::new();
    let header_len = encode_framed(&mut framed, &head, &outputs(true)).unwrap();
    let header =
        String::from_utf8(framed[..header_len].to_vec()).unwrap().replace("\"outputs\"", "\"inputs\"");
    let message = [header.as_bytes(), &framed[header_len..]].concat();
    assert_tensor(decode_framed(message.into(), header.len()), datatype, count, &bytes);
    assert_tensor(decode_binary(super::framed(&header, &framed[header_len..])), datatype, count, &bytes);
}

fn assert_tensor(request: Result<InferRequest, Refusal>, datatype: DataType, count: usize, bytes: &[u8]) {
    let request = request.unwrap_or_else(|refusal| panic!("{datatype}: {:?}", refusal.error));
    assert_eq!(request.id.as_deref(), Some("i"));
    let tensor = &request.inputs[0];
    assert_eq!((&*tensor.name, tensor.datatype, &tensor.shape[..]), ("x", datatype, &[count][..]));
    assert_eq!(tensor.data, bytes, "{datatype}");
}

macro_rules! check {
    ($($datatype:ident: $($value:expr),+;)+) => {$({
        let values = [$($value),+];
        check(DataType::$datatype, values.len(), values.iter().flat_map(|v| v.to_le_bytes()).collect());
    })+};
}

#[test]
fn extreme_values_survive() {
    check(DataType::Bool, 2, vec![1, 0]);
    check! {
        Uint8: 0u8, u8::MAX;
        Uint16: 0u16, u16::MAX;
        Uint32: 0u32, u32::MAX;
        Uint64: 0u64, u64::MAX, (1 << 53) + 1;
        Int8: i8::MIN, -1, i8::MAX;
        Int16: i16::MIN, -1, i16::MAX;
        Int32: i32::MIN, -1, i32::MAX;
        Int64: i64::MIN, -1, i64::MAX, -(1 << 53) - 1;
        Fp16: f16::MIN, f16::MAX, f16::MIN_POSITIVE, f16::MIN_POSITIVE_SUBNORMAL, f16::NEG_ZERO, f16::EPSILON;
        Bf16: bf16::MIN, bf16::MAX, bf16::MIN_POSITIVE, bf16::MIN_POSITIVE_SUBNORMAL, bf16::NEG_ZERO;
        Fp32: f32::MIN, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::from_bits(0x7f_ffff), -0.0, 0.1;
        Fp64: f64::MIN, f64::MAX, f64::MIN_POSITIVE, f64::from_bits(1), f64::from_bits((1 << 52) - 1), -0.0, 0.1;
    }
    let texts = ["", "\0", "a\tb\"c\\d/e\u{1f}\u{7f}", "é", "😀", "\u{2028}\u{ffff}", "],["];
    let texts = texts.map(str::as_bytes);
    check(DataType::Bytes, texts.len(), strings(&texts));
}

#[test]
fn random_values_survive() {
    let mut random = random();
    for _ in 0..2_000 {
        let single = f32::from_bits(random.u32(..));
        let double = f64::from_bits(random.u64(..));
        if single.is_finite() && double.is_finite() {
            check! { Fp32: single; Fp64: double; Int64: random.i64(..); Uint64: random.u64(..); }
        }
    }
}

#[test]
fn every_half_survives() {
    let all = || 0..=u16::MAX;
    let halves: Vec<u16> = all().filter(|&bits| f16::from_bits(bits).is_finite()).collect();
    check(DataType::Fp16, halves.len(), halves.iter().flat_map(|bits| bits.to_le_bytes()).collect());
    let halves: Vec<u16> = all().filter(|&bits| bf16::from_bits(bits).is_finite()).collect();
    check(DataType::Bf16, halves.len(), halves.iter().flat_map(|bits| bits.to_le_bytes()).collect());
}
