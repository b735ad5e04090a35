//! The stages, in the order of a request's path: each with one input, always the same, and no clock, thread or socket.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use smallvec::smallvec;
use thalweg::batcher::Batcher;
use thalweg::clock::Time;
use thalweg::device::Cpu;
use thalweg::error::Error;
use thalweg::net::socket::{MessageReader, append_frame};
use thalweg::protocol::{self, Layouts};
use thalweg::queue::{self, Memory, Places};
use thalweg::reply::{Mailbox, Wakes};
use thalweg::signal::{Encoding, Framer};
use thalweg::tensor::{Fit, Offered, Payload, Rows};

use crate::callgrind::run;
use crate::policy::policy;
use crate::{entries, messages, rows, sound};

/// Requests in a batch.
const BATCH: usize = 64;

/// By their names in the baseline.
pub const ALL: &[(&str, fn())] = &[
    ("read_frame", read_frame),
    ("decode_binary", decode_binary),
    ("decode_json", decode_json),
    ("submit", submit),
    ("batch", batch),
    ("gather", gather),
    ("scatter", scatter),
    ("encode_binary", encode_binary),
    ("encode_binary_again", encode_binary_again),
    ("encode_json", encode_json),
    ("write_frame", write_frame),
    ("cut_window", cut_window),
    ("resample", resample),
];

/// A masked message of 400 bytes, out of what a socket gives.
fn read_frame() {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let payload = (0..400).map(|at| at as u8 ^ mask[at % 4]);
    let frame: Vec<u8> = [0x82, 0xfe, 0x01, 0x90].into_iter().chain(mask).chain(payload).collect();
    let prepare = || MessageReader::new(&frame[..], 1 << 20);
    run(prepare, |mut reader| {
        let Poll::Ready(filled) = pin!(reader.fill()).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a slice keeps nobody waiting");
        };
        filled.expect("a frame");
        let event = reader.received().expect("no violation").expect("a message");
        (reader, event)
    });
}

fn decode_binary() {
    let message = messages::binary_floats();
    run(|| message.clone(), |message| protocol::decode_binary(message).map_err(|_| ()).expect("a request"));
}

fn decode_json() {
    let message = messages::json_floats();
    run(|| &message, |message| protocol::decode_json(message.as_bytes()).map_err(|_| ()).expect("a request"));
}

/// 64 requests: whether each fits its model, its place and ticket, and the hand-over.
fn submit() {
    let signature = rows::flat();
    let request = protocol::decode_binary(messages::binary_floats()).map_err(|_| ()).expect("a request");
    let (producer, consumer) = queue::channel(Places::new(1024), Memory::new(1 << 30));
    let prepare = || {
        consumer.requests().try_iter().for_each(drop);
        Mailbox::new(BATCH)
    };
    run(prepare, |mailbox| {
        for _ in 0..BATCH {
            let offered = request.inputs.iter().map(|input| Offered {
                name: &input.name,
                datatype: input.datatype,
                shape: &input.shape,
            });
            let Fit { key, .. } = signature.fit(offered).expect("it fits");
            let draft = rows::draft(request.inputs[0].data.clone(), key, Time::from_nanos(1));
            producer.submit(draft, mailbox.issue(()));
        }
        mailbox
    });
    assert!(consumer.requests().len() == BATCH, "they wait");
}

fn batch() {
    let mut batcher = Batcher::new(policy());
    run(|| (), |()| assert!(entries::push_and_next(&mut batcher, BATCH as u64) == BATCH));
}

fn gather() {
    let mut device = Cpu::new(&rows::flat(), &[], &[]);
    let payloads = [Payload::Rows(Bytes::from(vec![0; rows::WIDTH * 4]))];
    run(|| (), |()| rows::gather(&mut device, &payloads, BATCH));
}

/// The rows of a batch's output to 64 requests of one connection, which copies them.
fn scatter() {
    let output = rows::output(smallvec![BATCH, rows::WIDTH], 0);
    let prepare = || {
        let mailbox = Mailbox::new(BATCH);
        let tickets: Vec<_> = (0..BATCH).map(|_| mailbox.issue(())).collect();
        (mailbox, tickets, Vec::with_capacity(BATCH), Vec::with_capacity(4096))
    };
    run(prepare, |(mailbox, tickets, mut ready, mut out)| {
        let mut wakes = Wakes::default();
        for (start, ticket) in tickets.into_iter().enumerate() {
            ticket.answer(Ok(Rows { output: Arc::clone(&output), start, count: 1 }), &mut wakes);
        }
        drop(wakes);
        let polled = mailbox.poll_answers(&mut Context::from_waker(Waker::noop()), &mut ready);
        assert!(polled == Poll::Ready(true) && ready.len() == BATCH);
        for (_, answer) in &ready {
            rows::copy(answer.as_ref().expect("rows"), &mut out);
        }
        (mailbox, ready, out)
    });
}

/// An answer with 64 FP32 into a buffer that has room.
fn encode(encode: impl Fn(&mut BytesMut, &[protocol::OutputView<'_>]) -> Result<(), Error>) {
    let rows = messages::fp32_row(64).expect("a row");
    let outputs = [messages::view(&rows).expect("its column")];
    let prepare = || BytesMut::with_capacity(4096);
    run(prepare, |mut out| {
        encode(&mut out, &outputs).expect("encoded");
        out
    });
}

fn encode_binary() {
    encode(|out, outputs| protocol::encode_binary(out, &messages::HEAD, outputs));
}

/// Laid out as the answer before.
fn encode_binary_again() {
    let layouts = RefCell::new(Layouts::default());
    encode(|out, outputs| layouts.borrow_mut().encode(out, &messages::HEAD, outputs));
}

fn encode_json() {
    encode(|out, outputs| protocol::encode_json(out, &messages::HEAD, outputs));
}

/// A payload of 400 bytes into a frame.
fn write_frame() {
    let payload = [7; 400];
    let prepare = || BytesMut::with_capacity(4096);
    run(prepare, |mut out| {
        let write = |out: &mut BytesMut| {
            out.extend_from_slice(&payload);
            Ok::<_, Error>(())
        };
        append_frame(&mut out, OpCode::Binary, write).expect("written");
        out
    });
}

/// A chunk of 1,024 bytes, which is a window.
fn cut_window() {
    let framer = Framer::new(Encoding::PcmS16le, sound::frames().expect("frames"));
    step(framer, 1_024);
}

/// 32 ms of µ-law at 8 kHz.
fn resample() {
    step(sound::resampling(Encoding::Mulaw, 8_000).expect("rates"), 256);
}

fn step(mut framer: Framer, bytes: usize) {
    let chunk = Bytes::from(sound::bytes(bytes));
    run(|| (), |()| sound::step(&mut framer, &chunk).expect("pushed"));
}
