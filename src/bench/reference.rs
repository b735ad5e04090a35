//! Whether an answer has the value that it should have: bytes first, and numbers where rounding may differ.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tensor::DataType;

/// An answer that was recorded while the server had nothing else to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The JSON, without the digits of its id.
    pub json: String,
    /// What stands behind it, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
}

impl Recorded {
    pub fn of(json: &[u8], data: &[u8], id: Option<Range<usize>>) -> Self {
        let (before, after) = around(json, id);
        let json = String::from_utf8_lossy(before).into_owned() + &String::from_utf8_lossy(after);
        Self { json, data: data.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

/// What answers are held against: by message, or of a stream by their `seq`.
#[derive(Debug, Clone)]
pub struct References {
    answers: Vec<(String, Vec<u8>)>,
    /// By how much numbers may differ.
    tolerance: f64,
}

impl References {
    pub fn new(recorded: &[Recorded], tolerance: f64) -> Self {
        let answers = recorded.iter().map(|one| (one.json.clone(), bytes(&one.data))).collect();
        Self { answers, tolerance }
    }

    /// What was not recorded agrees with anything.
    pub fn agree(&self, index: usize, json: &[u8], data: &[u8], id: Option<Range<usize>>) -> bool {
        let Some((expected, expected_data)) = self.answers.get(index) else { return true };
        let (before, after) = around(json, id);
        let equal = expected.len() == before.len() + after.len()
            && expected.as_bytes().starts_with(before)
            && expected.as_bytes().ends_with(after);
        if equal && data == expected_data {
            return true;
        }
        self.tolerance > 0.0 && {
            let joined = [before, after].concat();
            let [Ok(got), Ok(expected)] =
                [&joined[..], expected.as_bytes()].map(serde_json::from_slice::<Value>)
            else {
                return false;
            };
            self.values(&got, &expected) && self.tensors(&expected, data, expected_data)
        }
    }

    fn near(&self, one: f64, other: f64) -> bool {
        (one - other).abs() <= self.tolerance || one.to_bits() == other.to_bits()
    }

    fn values(&self, got: &Value, expected: &Value) -> bool {
        match (got, expected) {
            (Value::Number(got), Value::Number(expected)) => {
                got == expected
                    || got.as_f64().zip(expected.as_f64()).is_some_and(|(one, other)| self.near(one, other))
            }
            (Value::Array(got), Value::Array(expected)) => {
                got.len() == expected.len()
                    && got.iter().zip(expected).all(|(one, other)| self.values(one, other))
            }
            (Value::Object(got), Value::Object(expected)) => {
                got.len() == expected.len()
                    && got.iter().all(|(key, value)| {
                        expected.get(key).is_some_and(|expected| self.values(value, expected))
                    })
            }
            _ => got == expected,
        }
    }

    /// Binary tensors, as the JSON before them lists them.
    fn tensors(&self, head: &Value, mut got: &[u8], mut expected: &[u8]) -> bool {
        if got.len() != expected.len() {
            return false;
        }
        for output in head["outputs"].as_array().into_iter().flatten() {
            let size = output["parameters"]["binary_data_size"].as_u64().unwrap_or_default();
            let datatype = output["datatype"].as_str().and_then(DataType::parse);
            let split = usize::try_from(size).ok();
            let parts = split.and_then(|at| got.split_at_checked(at).zip(expected.split_at_checked(at)));
            let Some(((one, rest), (other, expected_rest))) = parts else { return false };
            let near = match datatype {
                Some(DataType::Fp32) => self.floats(one, other, |bytes| f64::from(f32::from_le_bytes(bytes))),
                Some(DataType::Fp64) => self.floats(one, other, f64::from_le_bytes),
                Some(DataType::Fp16) => self.floats(one, other, |b| half::f16::from_le_bytes(b).to_f64()),
                Some(DataType::Bf16) => self.floats(one, other, |b| half::bf16::from_le_bytes(b).to_f64()),
                _ => one == other,
            };
            if !near {
                return false;
            }
            (got, expected) = (rest, expected_rest);
        }
        got == expected
    }

    fn floats<const N: usize>(&self, one: &[u8], other: &[u8], value: impl Fn([u8; N]) -> f64) -> bool {
        let pairs = one.as_chunks::<N>().0.iter().zip(other.as_chunks::<N>().0);
        one == other || pairs.into_iter().all(|(one, other)| self.near(value(*one), value(*other)))
    }
}

fn around(json: &[u8], id: Option<Range<usize>>) -> (&[u8], &[u8]) {
    let id = id.unwrap_or(json.len()..json.len());
    (json.get(..id.start).unwrap_or_default(), json.get(id.end..).unwrap_or_default())
}

fn bytes(digits: &str) -> Vec<u8> {
    let digit =
        |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    digits.as_bytes().as_chunks::<2>().0.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"id":"","outputs":[{"datatype":"FP32","parameters":{"binary_data_size":4}},{"datatype":"INT16","parameters":{"binary_data_size":2}}]}"#;

    fn check(tolerance: f64, recorded: (&str, &[u8]), answer: (&str, &[u8]), agrees: bool) {
        let references = References::new(&[Recorded::of(recorded.0.as_bytes(), recorded.1, None)], tolerance);
        assert_eq!(
            references.agree(0, answer.0.as_bytes(), answer.1, None),
            agrees,
            "{recorded:?} {answer:?}"
        );
    }

    #[test]
    fn equal_bytes_agree_whatever_the_id() {
        let json = br#"{"id":"00000001","outputs":[]}"#;
        let recorded = Recorded::of(json, &[1, 255], Some(7..15));
        assert_eq!((&*recorded.json, &*recorded.data), (r#"{"id":"","outputs":[]}"#, "01ff"));
        let references = References::new(&[recorded], 0.0);
        let other = br#"{"id":"00000002","outputs":[]}"#;
        assert!(references.agree(0, other, &[1, 255], Some(7..15)));
        assert!(!references.agree(0, other, &[1, 254], Some(7..15)));
        assert!(!references.agree(0, br#"{"id":"00000002","outputs":1}"#, &[1, 255], Some(7..15)));
        assert!(references.agree(1, b"anything", &[], None), "it was not recorded");
    }

    #[test]
    fn numbers_may_differ_by_the_tolerance() {
        let text = (r#"{"a":[1.0,2]}"#, &b""[..]);
        check(0.0, text, (r#"{"a":[1.01,2]}"#, b""), false);
        check(0.1, text, (r#"{"a":[1.01,2]}"#, b""), true);
        check(0.1, text, (r#"{"a":[1.2,2]}"#, b""), false);
        check(0.1, text, (r#"{"a":[1.0]}"#, b""), false);
        check(0.1, text, (r#"{"b":[1.0,2]}"#, b""), false);
        check(0.1, text, ("{", b""), false);
    }

    #[test]
    fn binary_floats_may_too_and_integers_may_not() {
        let data = |float: f32, integer: i16| [&float.to_le_bytes()[..], &integer.to_le_bytes()].concat();
        let recorded = data(1.0, 5);
        let check =
            |tolerance, got: Vec<u8>, agrees| check(tolerance, (HEAD, &recorded), (HEAD, &got), agrees);
        check(0.1, data(1.05, 5), true);
        check(0.1, data(1.5, 5), false);
        check(0.1, data(1.05, 6), false);
        check(0.1, data(1.0, 5)[..5].to_vec(), false);
    }
}
