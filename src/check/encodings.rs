//! What messages and signals are as numbers, in the words of their definitions.

use crate::signal::Encoding;
use crate::tensor::{ByteWindow, DataType};

/// The samples of a signal.
pub(super) fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
    let sample = |bytes: &[u8]| match (encoding, bytes) {
        (Encoding::PcmS16le, &[low, high]) => f32::from(i16::from_le_bytes([low, high])) / 32768.0,
        (Encoding::PcmS16be, &[high, low]) => f32::from(i16::from_be_bytes([high, low])) / 32768.0,
        (Encoding::F32le, &[a, b, c, d]) => {
            let value = f32::from_le_bytes([a, b, c, d]);
            if value.is_finite() { value } else { 0.0 }
        }
        (Encoding::Mulaw, &[code]) => {
            // G.711: (2 m + 33) 2^e - 33 of 8159, on the scale of 16 bits; every bit is inverted on the wire.
            let (negative, exponent, mantissa) = parts(!code);
            let level = (f32::from(2 * mantissa + 33) * 2f32.powi(exponent) - 33.0) * 4.0;
            sign(negative, level) / 32768.0
        }
        (Encoding::Alaw, &[code]) => {
            // G.711: 2 m + 1, or (2 m + 33) 2^(e - 1), of 4096; every other bit is inverted on the wire.
            let (positive, exponent, mantissa) = parts(code ^ 0x55);
            let level = match exponent {
                0 => f32::from(2 * mantissa + 1),
                _ => f32::from(2 * mantissa + 33) * 2f32.powi(exponent - 1),
            };
            sign(!positive, level * 8.0) / 32768.0
        }
        _ => f32::NAN,
    };
    bytes.chunks(encoding.width()).map(sample).collect()
}

/// The first bit, three of an exponent, four of a mantissa.
fn parts(code: u8) -> (bool, i32, i16) {
    (code & 0x80 != 0, i32::from(code >> 4 & 7), i16::from(code & 15))
}

fn sign(negative: bool, level: f32) -> f32 {
    // Zero has no sign here.
    if negative && level != 0.0 { -level } else { level }
}

/// A message's row, in the bytes of the model's datatype.
pub(super) fn window(window: &ByteWindow, datatype: DataType, message: &[u8]) -> Vec<u8> {
    let white = |byte: u8| window.strip && b" \t\n\r\x0b\x0c".contains(&byte);
    let mut head = Vec::new();
    for (place, &byte) in message.iter().enumerate() {
        let inside = place < window.block && head.len() < window.head;
        if inside && !(head.is_empty() && white(byte)) {
            head.push(i64::from(byte));
        }
    }
    let mut tail = Vec::new();
    for (place, &byte) in message.iter().rev().enumerate() {
        let inside = place < window.block && tail.len() < window.tail;
        if inside && !(tail.is_empty() && white(byte)) {
            tail.push(i64::from(byte));
        }
    }
    head.resize(window.head, window.pad);
    tail.resize(window.tail, window.pad);
    tail.reverse();
    let bytes = |value: i64| -> Vec<u8> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small by choice")]
        match datatype {
            DataType::Int32 => (value as i32).to_le_bytes().to_vec(),
            DataType::Int64 => value.to_le_bytes().to_vec(),
            _ => (value as f32).to_le_bytes().to_vec(),
        }
    };
    head.into_iter().chain(tail).flat_map(bytes).collect()
}
