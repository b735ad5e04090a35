//! What reading a request and writing an answer cost, for each form of message.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use thalweg::protocol::{OutputView, ResponseHead, decode_binary, decode_json, encode_binary, encode_json};
use thalweg::tensor::{BatchOutput, Column, DataType, Rows, Storage};

fn floats(count: u16) -> Vec<f32> {
    (0..count).map(|i| (f32::from(i) * 0.37).sin()).collect()
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn strings(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| format!("\x0b\0\0\0label {i:05}").into_bytes()).collect()
}

fn json_request(datatype: &str, count: usize, data: &str) -> String {
    format!(
        r#"{{"id":"42","inputs":[{{"name":"input","shape":[1,{count}],"datatype":"{datatype}","data":{data}}}]}}"#
    )
}

fn binary_request(datatype: &str, count: usize, data: &[u8]) -> Bytes {
    let header = format!(
        r#"{{"id":"42","inputs":[{{"name":"input","shape":[1,{count}],"datatype":"{datatype}","parameters":{{"binary_data_size":{}}}}}]}}"#,
        data.len()
    );
    let len = u32::try_from(header.len()).unwrap_or(0).to_le_bytes();
    [&len[..], header.as_bytes(), data].concat().into()
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let json_floats = json_request("FP32", 64, &format!("{:?}", floats(64)));
    let labels: Vec<String> = (0..64).map(|i| format!("label {i:05}")).collect();
    let json_strings = json_request("BYTES", 64, &format!("{labels:?}"));
    for (name, message) in [("json, 64 FP32", json_floats), ("json, 64 BYTES", json_strings)] {
        assert!(decode_json(message.as_bytes()).is_ok());
        group.bench_function(name, |b| b.iter(|| decode_json(black_box(message.as_bytes()))));
    }
    let binary = [
        ("binary, 64 FP32", binary_request("FP32", 64, &le_bytes(&floats(64)))),
        ("binary, 64 KiB FP32", binary_request("FP32", 16_384, &le_bytes(&floats(16_384)))),
        ("binary, 64 BYTES", binary_request("BYTES", 64, &strings(64))),
    ];
    for (name, message) in binary {
        assert!(decode_binary(message.clone()).is_ok());
        group.bench_function(name, |b| b.iter(|| decode_binary(black_box(message.clone()))));
    }
    group.finish();
}

fn rows(datatype: DataType, count: usize, storage: Storage) -> Option<Rows> {
    let column = Column::new(datatype, [1, count][..].into(), Some(0), storage)?;
    Some(Rows { output: Arc::new(BatchOutput { columns: vec![column] }), start: 0, count: 1 })
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let head = ResponseHead { model: "silero_vad", version: "1", id: Some("42") };
    let fp32 = |count: u16| {
        let storage = Storage::Fixed(Box::new(le_bytes(&floats(count))));
        rows(DataType::Fp32, count.into(), storage)
    };
    let offsets = (0..=64).map(|i| i * 15).collect();
    let labels = rows(DataType::Bytes, 64, Storage::Strings { bytes: strings(64), offsets });
    let mut out = BytesMut::with_capacity(1 << 20);
    for (name, rows) in [("64 FP32", fp32(64)), ("64 KiB FP32", fp32(16_384)), ("64 BYTES", labels)] {
        let Some(rows) = rows else { continue };
        let Some(slice) = rows.column(0) else { continue };
        let output = [OutputView { name: "output", slice, binary: true, classification: 0 }];
        group.bench_function(format!("json, {name}"), |b| {
            b.iter(|| {
                out.clear();
                encode_json(&mut out, black_box(&head), black_box(&output))
            });
        });
        group.bench_function(format!("binary, {name}"), |b| {
            b.iter(|| {
                out.clear();
                encode_binary(&mut out, black_box(&head), black_box(&output))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
