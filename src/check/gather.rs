//! What clients send becomes a batch: rows, messages and signals, joined along any axis and filled up.

use bytes::Bytes;

use super::model::{Model, Request, land, launch, sizes, tensor};
use super::random::Random;
use super::{Target, Verdict, encodings};
use crate::signal::Encoding;
use crate::tensor::{ByteWindow, Conversion, DataType, Payload, TensorSpec};

/// Elements of a block: nothing to share a word with, no power of two, and Silero's window.
const SIZES: &[usize] = &[1, 3, 17, 576];

/// What a message's window can be made of.
const WINDOWED: &[DataType] = &[DataType::Int32, DataType::Int64, DataType::Fp32];

/// What an input may be given.
enum Kind {
    Rows,
    Window(ByteWindow),
    Signal,
}

pub(super) fn rows(target: &Target, random: &mut Random) -> Verdict {
    // Dimensions before the batch.
    for before in [&[][..], &[2], &[3, 2]] {
        for &size in SIZES {
            let fixed = DataType::ALL.iter().filter(|datatype| datatype.size().is_some());
            let inputs = fixed.map(|&datatype| tensor(datatype.as_str(), datatype, before, &[size]));
            batches(target, random, inputs.map(|spec| (spec, Kind::Rows)).collect(), 4)?;
        }
        let alone = tensor("alone", DataType::Uint8, before, &[]);
        batches(target, random, vec![(alone, Kind::Rows)], 4)?;
    }
    Ok(())
}

pub(super) fn signals(target: &Target, random: &mut Random) -> Verdict {
    for &size in SIZES {
        let signal = |dims: &[usize]| (tensor("signal", DataType::Fp32, &[], dims), Kind::Signal);
        batches(target, random, vec![signal(&[size])], 8)?;
        batches(target, random, vec![signal(&[1, size])], 8)?;
    }
    Ok(())
}

pub(super) fn windows(target: &Target, random: &mut Random) -> Verdict {
    for &datatype in WINDOWED {
        for _ in 0..6 {
            let input = window(random, datatype);
            batches(target, random, vec![input], 4)?;
        }
    }
    Ok(())
}

fn window(random: &mut Random, datatype: DataType) -> (TensorSpec, Kind) {
    let (head, tail) = (random.within(0, 40), random.within(1, 40));
    let block = random.within(1, 60);
    let pad = random.one_of(&[256, -1, 0]);
    let window = ByteWindow { head, tail, block, strip: random.percent(50), pad };
    (tensor("message", datatype, &[], &[head + tail]), Kind::Window(window))
}

pub(super) fn mixed(target: &Target, random: &mut Random) -> Verdict {
    for _ in 0..10 {
        let mut inputs = Vec::new();
        for _ in 0..random.within(1, 4) {
            let size = random.one_of(SIZES);
            let (kind, windowed) = (random.below(3), random.one_of(WINDOWED));
            inputs.push(match kind {
                0 => window(random, windowed),
                1 => (tensor("signal", DataType::Fp32, &[], &[size]), Kind::Signal),
                _ => {
                    let before = random.one_of(&[&[][..], &[2], &[1], &[2, 3]]);
                    let datatype = random.one_of(&[DataType::Bool, DataType::Fp16, DataType::Fp64]);
                    (tensor("rows", datatype, before, &[size]), Kind::Rows)
                }
            });
        }
        batches(target, random, inputs, 8)?;
    }
    Ok(())
}

/// Batches of all sizes, each of requests of one and several rows.
fn batches(target: &Target, random: &mut Random, inputs: Vec<(TensorSpec, Kind)>, count: usize) -> Verdict {
    let (specs, kinds): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
    let limit = random.within(1, 9);
    let mut model = Model::echo(specs, limit);
    let conversion = |kind: &Kind| match kind {
        Kind::Window(window) => Some(Conversion::Window(window.clone())),
        Kind::Rows | Kind::Signal => None,
    };
    model.conversions = kinds.iter().map(conversion).collect();
    model.buckets = random.one_of(&[vec![], vec![limit], vec![2, 5]]);
    let mut pipeline = model.on(target)?;
    for _ in 0..count {
        let mut batch = Vec::new();
        let mut room = random.within(1, limit);
        while room > 0 {
            let rows = if random.percent(60) { 1 } else { random.within(1, room) };
            batch.push(request(random, &model.signature.inputs, &kinds, rows));
            room -= rows;
        }
        launch(&mut *pipeline, &batch)?;
        land(&mut *pipeline, &model, &batch)?;
    }
    Ok(())
}

fn request(random: &mut Random, specs: &[TensorSpec], kinds: &[Kind], rows: usize) -> Request {
    let inputs = specs.iter().zip(kinds).map(|(spec, kind)| input(random, spec, kind, rows));
    let (payloads, expected) = inputs.unzip();
    Request { rows, payloads, slot: None, expected }
}

/// What a request brings for one input, and the rows that it becomes.
fn input(random: &mut Random, spec: &TensorSpec, kind: &Kind, rows: usize) -> (Payload, Vec<Vec<u8>>) {
    match kind {
        Kind::Window(window) if rows == 1 && random.percent(80) => {
            let message = message(random);
            let row = encodings::window(window, spec.datatype, &message);
            (Payload::Message(message.into()), vec![row])
        }
        Kind::Signal if rows == 1 && random.percent(80) => {
            let encoding = random.one_of(Encoding::ALL);
            let samples = sizes(spec).1 / 4;
            let mut signal = random.bytes(samples * encoding.width());
            if encoding == Encoding::F32le && random.percent(50) {
                // Random bytes are seldom infinite.
                signal[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
            }
            let row = encodings::decode(encoding, &signal).into_iter().flat_map(f32::to_le_bytes).collect();
            (Payload::Signal(encoding, signal.into()), vec![row])
        }
        Kind::Rows | Kind::Window(_) | Kind::Signal => {
            let (outer, inner) = sizes(spec);
            let bytes = random.bytes(outer * rows * inner);
            let block = |o: usize, row: usize| &bytes[(o * rows + row) * inner..][..inner];
            let row = |row: usize| (0..outer).flat_map(|o| block(o, row)).copied().collect();
            let expected = (0..rows).map(row).collect();
            (Payload::Rows(Bytes::from(bytes)), expected)
        }
    }
}

/// Some text, with white space at its ends now and then.
fn message(random: &mut Random) -> Vec<u8> {
    let white = |random: &mut Random| -> Vec<u8> {
        let count = if random.percent(50) { random.below(70) } else { 0 };
        (0..count).map(|_| random.one_of(b" \t\n\r\x0b\x0c")).collect()
    };
    let length = random.below(120);
    [white(random), random.bytes(length), white(random)].concat()
}
