//! What reading a request and writing an answer cost, for each form of message.

#[path = "stages/messages.rs"]
mod messages;

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use thalweg::protocol::{decode_binary, decode_json, encode_binary, encode_json};
use thalweg::tensor::{DataType, Storage};

use messages::{
    HEAD, binary_floats, binary_request, floats, fp32_row, json_floats, json_request, le_bytes, row, view,
};

fn strings(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| format!("\x0b\0\0\0label {i:05}").into_bytes()).collect()
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let labels: Vec<String> = (0..64).map(|i| format!("label {i:05}")).collect();
    let json_strings = json_request("BYTES", 64, &format!("{labels:?}"));
    for (name, message) in [("json, 64 FP32", json_floats()), ("json, 64 BYTES", json_strings)] {
        assert!(decode_json(message.as_bytes()).is_ok());
        group.bench_function(name, |b| b.iter(|| decode_json(black_box(message.as_bytes()))));
    }
    let binary = [
        ("binary, 64 FP32", binary_floats()),
        ("binary, 64 KiB FP32", binary_request("FP32", 16_384, &le_bytes(&floats(16_384)))),
        ("binary, 64 BYTES", binary_request("BYTES", 64, &strings(64))),
    ];
    for (name, message) in binary {
        assert!(decode_binary(message.clone()).is_ok());
        group.bench_function(name, |b| b.iter(|| decode_binary(black_box(message.clone()))));
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let offsets = (0..=64).map(|i| i * 15).collect();
    let labels = row(DataType::Bytes, 64, Storage::Strings { bytes: strings(64), offsets });
    let mut out = BytesMut::with_capacity(1 << 20);
    for (name, rows) in [("64 FP32", fp32_row(64)), ("64 KiB FP32", fp32_row(16_384)), ("64 BYTES", labels)] {
        let Some(rows) = rows else { continue };
        let Some(view) = view(&rows) else { continue };
        let output = [view];
        group.bench_function(format!("json, {name}"), |b| {
            b.iter(|| {
                out.clear();
                encode_json(&mut out, black_box(&HEAD), black_box(&output))
            });
        });
        group.bench_function(format!("binary, {name}"), |b| {
            b.iter(|| {
                out.clear();
                encode_binary(&mut out, black_box(&HEAD), black_box(&output))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
