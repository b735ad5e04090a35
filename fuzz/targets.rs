//! What is fuzzed: all that reads bytes that somebody else wrote, and what must hold of them whatever they are.
//!
//! `tests/corpora.rs` runs the same on the inputs that are kept in `fuzz/corpus`.
#![allow(dead_code, reason = "each fuzzer runs one of them")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken promise ends the run")]

use bytes::{Bytes, BytesMut};
use thalweg::net::socket::{Event, Messages, Violation};
use thalweg::protocol::{self, InferRequest, MAX_ID, MAX_RANK, MAX_TENSORS, Refusal};
use thalweg::registry::Stream;
use thalweg::registry::file::{ModelFile, OutputFile};
use thalweg::signal::{Encoding, Events, Framer, Frames, Hysteresis, Rates, Window};
use thalweg::tensor::{DataType, Dim, Signature, TensorSpec};

/// A request is refused, or is what it says: as many bytes as its shapes take, in proportion to the message.
fn judge(outcome: Result<InferRequest, Refusal>, length: usize) {
    let request = match outcome {
        Ok(request) => request,
        Err(refusal) => {
            assert!(!refusal.error.message.is_empty());
            assert!(refusal.id.is_none_or(|id| id.len() <= MAX_ID));
            return;
        }
    };
    assert!(request.id.is_none_or(|id| id.len() <= MAX_ID));
    assert!(request.inputs.len() <= MAX_TENSORS);
    assert!(request.outputs.is_none_or(|outputs| outputs.len() <= MAX_TENSORS));
    let mut bytes = 0;
    for input in &request.inputs {
        assert!(input.shape.len() <= MAX_RANK);
        let elements = input.shape.iter().fold(1usize, |product, &size| product.wrapping_mul(size));
        match input.datatype.size() {
            Some(size) => assert_eq!(input.data.len(), elements * size),
            None => assert!(input.data.len() >= elements * 4),
        }
        bytes += input.data.len();
    }
    // A digit and a comma are the shortest element in JSON, and eight bytes the longest it becomes.
    assert!(bytes <= 4 * length, "{bytes} bytes of a message of {length}");
}

pub fn json(data: &[u8]) {
    judge(protocol::decode_json(data), data.len());
    for (start, _) in data.iter().enumerate().filter(|(_, byte)| **byte == b'[').take(8) {
        let rest = &data[start..];
        let len = rest.iter().position(|&byte| byte == b']').map_or(rest.len(), |end| end + 1);
        numbers(&rest[..len]);
    }
}

/// An array that is read without its grammar having been checked reads the same in a request.
fn numbers(array: &[u8]) {
    let count = array.iter().filter(|&&byte| byte == b',').count() + 1;
    for datatype in [DataType::Fp32, DataType::Fp64, DataType::Int64, DataType::Uint8] {
        let Some(read) = protocol::numbers(array, datatype, count) else { continue };
        let head = format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[{count}],"data":"#);
        let request = protocol::decode_json(&[head.as_bytes(), array, b"}]}"].concat());
        assert_eq!(request.unwrap().inputs[0].data, read);
    }
}

/// The first two bytes are the length that the header of HTTP says.
pub fn binary(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    judge(protocol::decode_binary(message.clone()), data.len());
    if let Some((length, _)) = data.split_first_chunk() {
        judge(protocol::decode_framed(message.slice(2..), u16::from_le_bytes(*length).into()), data.len());
    }
}

/// The first bytes choose what the stream is, and then how long each piece of it is.
pub fn signal(data: &[u8]) {
    let Some((&[encoding, window, hop, context, rate, piece], signal)) = data.split_first_chunk() else {
        return;
    };
    let encodings =
        [Encoding::PcmS16le, Encoding::PcmS16be, Encoding::F32le, Encoding::Mulaw, Encoding::Alaw];
    let encoding = encodings[usize::from(encoding) % encodings.len()];
    let Ok(frames) = Frames::new(window.into(), hop.into(), context.into()) else { return };
    // A resampler takes longer to plan than all the rest, so most have none.
    let mut framer = match [48_000, 44_100, 8_000].get(usize::from(rate % 16).wrapping_sub(1)) {
        Some(&rate) => Framer::resampling(encoding, frames, Rates::new(rate, 16_000).unwrap()).unwrap(),
        None => Framer::new(encoding, frames),
    };
    let row = frames.row() * framer.encoding().width();
    let take = |framer: &mut Framer, windows: &mut Vec<Window>| {
        for window in framer.by_ref() {
            assert_eq!(window.row.len(), row);
            assert!(window.start < window.end && window.end - window.start <= frames.window() as u64);
            windows.push(window);
        }
    };

    let mut windows = Vec::new();
    framer.push(Bytes::copy_from_slice(signal)).unwrap();
    take(&mut framer, &mut windows);
    framer.flush().unwrap();
    take(&mut framer, &mut windows);

    // However it is cut, and whatever was before, the windows are the same.
    framer.reset();
    let mut same = Vec::new();
    for piece in signal.chunks(usize::from(piece) + 1) {
        framer.push(Bytes::copy_from_slice(piece)).unwrap();
        take(&mut framer, &mut same);
        assert!(framer.buffered() < row + piece.len() + encoding.width());
    }
    framer.flush().unwrap();
    take(&mut framer, &mut same);
    assert_eq!(windows, same);
}

/// The first byte says how the rest is cut, which must not matter.
pub fn websocket(data: &[u8]) {
    const LIMIT: usize = 1000;
    let Some((&piece, stream)) = data.split_first() else { return };
    let read = |size: usize| {
        let (mut messages, mut received, mut events) = (Messages::new(LIMIT), BytesMut::new(), Vec::new());
        for piece in stream.chunks(size) {
            received.extend_from_slice(piece);
            loop {
                match messages.next(&mut received) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(violation) => return (events, Some(violation)),
                }
            }
            assert!(messages.missing(&received) > 0, "it waits for what is there");
            assert!(received.len() <= LIMIT + 14, "a frame beyond the limit is waited for");
        }
        (events, None)
    };
    let (events, violation) = read(usize::from(piece) + 1);
    for event in &events {
        match event {
            Event::Message { text, payload } => {
                assert!(payload.len() <= LIMIT);
                assert!(!text || std::str::from_utf8(payload).is_ok());
            }
            Event::Ping(payload) => assert!(payload.len() <= 125),
            Event::Close(code) => assert!(code.is_none_or(|code| (1000..5000).contains(&code))),
            Event::Pong => {}
        }
    }
    assert_ne!(violation, Some(Violation::Gone));
    assert_eq!(read(stream.len().max(1)), (events, violation));
}

pub fn model(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(file) = toml::from_str::<ModelFile>(text) else { return };
    let input = |datatype, dims: &[Dim]| Signature {
        inputs: vec![TensorSpec { name: "x".into(), datatype, dims: dims.into(), batch_axis: Some(0) }],
        outputs: vec![],
        states: vec![],
        max_batch_size: 8,
    };
    if let Some(stream) = &file.stream {
        for signature in [
            input(DataType::Fp32, &[Dim::Dynamic, Dim::Dynamic]),
            input(DataType::Fp32, &[Dim::Dynamic, Dim::Fixed(576)]),
            input(DataType::Int32, &[Dim::Dynamic, Dim::Fixed(2048)]),
        ] {
            if let Err(error) = Stream::new(stream, &signature) {
                assert!(!error.why.is_empty());
            }
        }
    }
    if let Some(OutputFile::Events(file)) = &file.output {
        let hysteresis = Hysteresis {
            threshold: file.threshold,
            lower_threshold: file.lower_threshold,
            min_speech_ms: file.min_speech_ms,
            min_silence_ms: file.min_silence_ms,
            speech_pad_ms: file.speech_pad_ms,
        };
        let Ok(mut events) = Events::new(&hysteresis, 16_000) else { return };
        for (at, probability) in (0..64).map(|at| (at, if at % 5 < 3 { 1.0 } else { 0.0 })) {
            events.step(probability, at * 512..(at + 1) * 512);
        }
        events.finish();
    }
}
