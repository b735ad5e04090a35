//! The `data` of a tensor: JSON numbers, strings and booleans straight into the bytes of the wire.
//!
//! A value ends where the next comma, bracket or blank is: serde_json has checked the grammar, or [`numbers`] does.
//! Numbers are parsed in the precision of their datatype: 64-bit integers are exact, and an FP32 is
//! rounded once.

use bytes::Bytes;
use half::{bf16, f16};

use super::MAX_DEPTH;
use crate::error::{Code, Error, Result, excerpt};
use crate::tensor::DataType;

/// Levels around a tensor's data: the request, its inputs, the tensor.
const LEVELS_AROUND: usize = 3;

/// The elements of `json`, a flat array of `count` or arrays nested as the shape says.
pub(super) fn parse(json: &str, datatype: DataType, shape: &[usize], count: usize) -> Result<Bytes> {
    reader(datatype)(json, shape, count)
        .map(|(elements, _)| Bytes::from(elements))
        .map_err(|fault| explain(fault, json, datatype))
}

/// The elements of `json`, a flat array of `count` numbers whose grammar nobody has checked. `None` if it is not one,
/// and for some that only [`parse`] takes.
pub fn numbers(json: &[u8], datatype: DataType, count: usize) -> Option<Bytes> {
    if matches!(datatype, DataType::Bool | DataType::Bytes) || !numbers_are_plain(json) {
        return None;
    }
    let (elements, end) = reader(datatype)(std::str::from_utf8(json).ok()?, &[count], count).ok()?;
    (end == json.len() && json.ends_with(b"]")).then(|| elements.into())
}

/// Whether no number has what JSON forbids and parsers of numbers take: zeros in front, a point without digits on both
/// sides, and a minus without any. Each byte is looked at with its neighbours, so that many are at once.
fn numbers_are_plain(json: &[u8]) -> bool {
    let e = |byte: u8| byte == b'e' || byte == b'E';
    let strange = json.array_windows().fold(false, |strange, &[a, b, c]| {
        let (before, behind) = (a.is_ascii_digit(), c.is_ascii_digit());
        let begins = !(before | (a == b'.') | (a == b'-') | (a == b'+') | e(a));
        let point = (b == b'.') & !(before & behind);
        let minus = (b == b'-') & !behind;
        strange | point | minus | (begins & (b == b'0') & behind)
    });
    json.array_windows().fold(!strange, |plain, &[a, b, c, d]| {
        plain & !((b == b'-') & (c == b'0') & d.is_ascii_digit() & !e(a))
    })
}

/// Reads an array of one datatype, and says where it ends.
type Reader = for<'a> fn(&'a str, &[usize], usize) -> Result<(Vec<u8>, usize), Fault<'a>>;

fn reader(datatype: DataType) -> Reader {
    match datatype {
        DataType::Bool => elements::<bool>,
        DataType::Uint8 => elements::<u8>,
        DataType::Uint16 => elements::<u16>,
        DataType::Uint32 => elements::<u32>,
        DataType::Uint64 => elements::<u64>,
        DataType::Int8 => elements::<i8>,
        DataType::Int16 => elements::<i16>,
        DataType::Int32 => elements::<i32>,
        DataType::Int64 => elements::<i64>,
        DataType::Fp16 => elements::<f16>,
        DataType::Fp32 => elements::<f32>,
        DataType::Fp64 => elements::<f64>,
        DataType::Bf16 => elements::<bf16>,
        DataType::Bytes => elements::<str>,
    }
}

/// What is wrong with an array, and the value where it shows.
enum Fault<'a> {
    NoArray,
    Nesting,
    Few { found: usize, wanted: usize },
    Many { wanted: usize },
    Type(&'a str),
    Range(&'a str),
    Unicode(&'a str),
}

fn elements<'a, E: Element + ?Sized>(
    json: &'a str,
    shape: &[usize],
    count: usize,
) -> Result<(Vec<u8>, usize), Fault<'a>> {
    let mut cursor = Cursor { json, at: 0 };
    if cursor.peek() != Some(b'[') {
        return Err(Fault::NoArray);
    }
    let nested = json.as_bytes()[cursor.at + 1..].trim_ascii_start().first() == Some(&b'[');
    // An element and its comma take at least two bytes, whatever the shape says.
    let capacity = E::SIZE * count.min(json.len() / 2);
    let mut out = Vec::with_capacity(capacity);
    let flat = [count];
    array::<E>(&mut cursor, if nested { shape } else { &flat }, &mut out)?;
    Ok((out, cursor.at))
}

/// One array whose opening bracket is next; recurses no deeper than the shape.
fn array<'a, E: Element + ?Sized>(
    cursor: &mut Cursor<'a>,
    dims: &[usize],
    out: &mut Vec<u8>,
) -> Result<(), Fault<'a>> {
    let Some((&wanted, inner)) = dims.split_first() else { return Err(Fault::Nesting) };
    cursor.at += 1;
    let mut found = 0;
    if cursor.peek() == Some(b']') {
        cursor.at += 1;
    } else {
        loop {
            if found == wanted {
                return Err(Fault::Many { wanted });
            }
            match (cursor.peek(), inner) {
                (Some(b'['), _) => array::<E>(cursor, inner, out)?,
                (_, []) => E::append(cursor, out)?,
                _ => return Err(Fault::Nesting),
            }
            found += 1;
            let next = cursor.peek();
            cursor.at += 1;
            if next != Some(b',') {
                break;
            }
        }
    }
    if found == wanted { Ok(()) } else { Err(Fault::Few { found, wanted }) }
}

/// A place in JSON. Its grammar has been checked, or whoever reads it sees to that.
struct Cursor<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.json.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is not blank.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.json.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// The value that starts here, if an array or object then only its first byte.
    fn value(&mut self) -> &'a str {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let len = match bytes.first() {
            Some(b'"') => string_len(bytes),
            Some(b'[' | b'{') => 1,
            _ => bytes
                .iter()
                .position(|byte| matches!(byte, b',' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
                .unwrap_or(bytes.len()),
        };
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }
}

/// The length of the string that `json` starts with, its quotes included.
fn string_len(json: &[u8]) -> usize {
    let mut at = 1;
    loop {
        match json.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return json.len(),
        }
    }
}

/// A value of the wire that JSON can write.
trait Element {
    /// Bytes an element takes, or where that differs, takes at least.
    const SIZE: usize;

    /// Reads the value that starts at the cursor.
    fn append<'a>(json: &mut Cursor<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>>;
}

fn number(json: &str) -> Result<&str, Fault<'_>> {
    match json.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => Ok(json),
        _ => Err(Fault::Type(json)),
    }
}

macro_rules! integers {
    ($($int:ty)+) => {$(
        impl Element for $int {
            const SIZE: usize = size_of::<$int>();

            fn append<'a>(json: &mut Cursor<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
                let json = json.value();
                let value: $int = number(json)?.parse().map_err(|_| Fault::Range(json))?;
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
        }
    )+};
}

/// Floats, each by way of the type it is parsed as.
macro_rules! floats {
    ($($float:ty: $parsed:ty, $round:expr;)+) => {$(
        impl Element for $float {
            const SIZE: usize = size_of::<$float>();

            fn append<'a>(json: &mut Cursor<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
                // In one pass, as it finds the end of a number by itself.
                let number = number(json.rest()).and_then(|rest| {
                    fast_float2::parse_partial::<$parsed, _>(rest).map_err(|_| Fault::Type(rest))
                });
                let Ok((parsed, len)) = number else { return Err(Fault::Type(json.value())) };
                let value: $float = $round(parsed);
                // JSON has no infinity, so that one is a finite number too large.
                if !value.is_finite() {
                    return Err(Fault::Range(json.value()));
                }
                json.at += len;
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
        }
    )+};
}

integers! { u8 u16 u32 u64 i8 i16 i32 i64 }

floats! {
    f16: f32, f16::from_f32;
    bf16: f32, bf16::from_f32;
    f32: f32, std::convert::identity;
    f64: f64, std::convert::identity;
}

impl Element for bool {
    const SIZE: usize = 1;

    fn append<'a>(json: &mut Cursor<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
        let json = json.value();
        out.push(json.parse::<bool>().map_err(|_| Fault::Type(json))?.into());
        Ok(())
    }
}

impl Element for str {
    const SIZE: usize = size_of::<u32>();

    fn append<'a>(json: &mut Cursor<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
        let json = json.value();
        let quoted = json.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let text = quoted.ok_or(Fault::Type(json))?;
        let unescaped: String;
        let text = if text.contains('\\') {
            unescaped = serde_json::from_str(json).map_err(|_| Fault::Unicode(json))?;
            &unescaped
        } else {
            text
        };
        let len = u32::try_from(text.len()).map_err(|_| Fault::Range(json))?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cold]
fn explain(fault: Fault<'_>, json: &str, datatype: DataType) -> Error {
    let (code, message) = match fault {
        // Nested so deep it fits no shape, whichever way that showed.
        _ if nesting(json) + LEVELS_AROUND > MAX_DEPTH => {
            (Code::JsonTooDeep, format!("the JSON nests deeper than {MAX_DEPTH} levels"))
        }
        Fault::NoArray => (Code::InvalidRequest, "expected an array".into()),
        Fault::Nesting => (Code::WrongShape, "the arrays nest neither flat nor as the shape says".into()),
        Fault::Few { found, wanted } => {
            (Code::WrongElementCount, format!("an array has {found} of the shape's {wanted} elements"))
        }
        Fault::Many { wanted } => {
            (Code::WrongElementCount, format!("an array has more than the shape's {wanted} elements"))
        }
        Fault::Type(value) => (Code::InvalidRequest, format!("{} is no {datatype}", excerpt(value))),
        Fault::Range(value) => {
            (Code::ValueOutOfRange, format!("{} is not in the range of {datatype}", excerpt(value)))
        }
        Fault::Unicode(value) => (Code::InvalidJson, format!("{} is not Unicode", excerpt(value))),
    };
    Error::new(code, message)
}

/// The levels to which arrays and objects nest.
fn nesting(json: &str) -> usize {
    let bytes = json.as_bytes();
    let (mut depth, mut deepest, mut at) = (0usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += string_len(&bytes[at..]) - 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        at += 1;
    }
    deepest
}
