//! Requests as clients write them, and an answer's rows.

use std::sync::Arc;

use bytes::Bytes;
use thalweg::protocol::{OutputView, ResponseHead};
use thalweg::tensor::{BatchOutput, Column, DataType, Rows, Storage};

pub const HEAD: ResponseHead<'_> = ResponseHead { model: "silero_vad", version: "1", id: Some("42") };

pub fn floats(count: u16) -> Vec<f32> {
    (0..count).map(|i| (f32::from(i) * 0.37).sin()).collect()
}

pub fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn json_request(datatype: &str, count: usize, data: &str) -> String {
    format!(
        r#"{{"id":"42","inputs":[{{"name":"input","shape":[1,{count}],"datatype":"{datatype}","data":{data}}}]}}"#
    )
}

pub fn json_floats() -> String {
    json_request("FP32", 64, &format!("{:?}", floats(64)))
}

pub fn binary_request(datatype: &str, count: usize, data: &[u8]) -> Bytes {
    let header = format!(
        r#"{{"id":"42","inputs":[{{"name":"input","shape":[1,{count}],"datatype":"{datatype}","parameters":{{"binary_data_size":{}}}}}]}}"#,
        data.len()
    );
    let len = u32::try_from(header.len()).unwrap_or(0).to_le_bytes();
    [&len[..], header.as_bytes(), data].concat().into()
}

pub fn binary_floats() -> Bytes {
    binary_request("FP32", 64, &le_bytes(&floats(64)))
}

/// One row of an output.
pub fn row(datatype: DataType, count: usize, storage: Storage) -> Option<Rows> {
    let column = Column::new(datatype, [1, count][..].into(), Some(0), storage)?;
    Some(Rows { output: Arc::new(BatchOutput::new(vec![column])), start: 0, count: 1 })
}

pub fn fp32_row(count: u16) -> Option<Rows> {
    row(DataType::Fp32, count.into(), Storage::Fixed(Box::new(le_bytes(&floats(count)))))
}

pub fn view(rows: &Rows) -> Option<OutputView<'_>> {
    Some(OutputView { name: "output", slice: rows.column(0)?, binary: true, classification: 0 })
}
