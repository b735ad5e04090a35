//! What the module promises as a whole, from the outside.

mod data;
mod decode;
mod encode;
mod framing;
mod layout;
mod robustness;
mod round_trip;

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use expect_test::Expect;

use super::*;
use crate::tensor::{BatchOutput, Column, DataType, Rows, Storage};

/// A binary message of a header and what follows it.
fn framed(header: &str, tail: &[u8]) -> Bytes {
    let len = u32::try_from(header.len()).unwrap().to_le_bytes();
    [&len[..], header.as_bytes(), tail].concat().into()
}

/// Strings as the wire writes them.
fn strings(elements: &[&[u8]]) -> Vec<u8> {
    let element = |text: &&[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat();
    elements.iter().flat_map(element).collect()
}

/// A batch of one output, all its rows.
fn batch(datatype: DataType, shape: &[usize], batch_axis: Option<usize>, bytes: Vec<u8>) -> Rows {
    let count = batch_axis.map_or(1, |axis| shape[axis]);
    let storage = if datatype == DataType::Bytes {
        let mut offsets = vec![0];
        let mut rest = &bytes[..];
        while let Some((_, after)) = binary::string(rest) {
            offsets.push(bytes.len() - after.len());
            rest = after;
        }
        Storage::Strings { bytes, offsets }
    } else {
        Storage::Fixed(Box::new(bytes))
    };
    let column = Column::new(datatype, shape.into(), batch_axis, storage).expect("the bytes fit the shape");
    Rows { output: Arc::new(BatchOutput::new(vec![column])), start: 0, count }
}

/// Randomness whose seed a failure shows; put in place of the random one it replays the failure.
#[expect(clippy::print_stdout, reason = "the output of a test that passes is not shown")]
fn random() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// A decoded request, or why it is refused.
fn show(result: Result<InferRequest, Refusal>) -> String {
    let mut text = String::new();
    match result {
        Ok(request) => {
            let InferRequest { id, parameters, inputs, outputs } = request;
            text.push_str("ok ");
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

/// What a text message is read as.
fn check(message: &str, expect: Expect) {
    expect.assert_eq(&show(decode_json(message.as_bytes())));
}

/// One input of this shape, datatype and data.
fn check_data(datatype: &str, shape: &str, data: &str, expect: Expect) {
    let message =
        format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"data":{data},"datatype":"{datatype}"}}]}}"#);
    check(&message, expect);
}
