//! Streams over a pipe, with a lane that the test works by hand.

mod form;
mod hold;
mod keepalive;
mod panics;
mod parting;
mod patience;
mod signal;

use std::fmt::Write;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BytesMut};
use fastwebsockets::OpCode;
use smallvec::smallvec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::{Limits, serve};
use super::drain::Phase;
use super::keepalive::Keepalive;
use super::patience::Patience;
use super::stream::{Choices, SignalEndpoint, Source};
use crate::clock::Clock;
use crate::error::{Code, Error};
use crate::metrics::{Metrics, ModelMetrics};
use crate::queue::{Consumer, Memory, Places, Producer, Request, channel};
use crate::registry::file::ModelFile;
use crate::registry::{Served, SignalStream, Stream};
use crate::reply::Wakes;
use crate::signal::{Encoding, Frames};
use crate::streams::{Slot, Streams};
use crate::tensor::{
    BatchOutput, Column, DataType, Dim, GroupKey, Payload, Rows, Signature, Storage, TensorSpec,
};

/// A stream of windows of two samples of a byte each, whose answers are the windows.
struct Talk {
    client: Client,
    lane: Consumer,
    streams: Arc<Streams>,
    serving: JoinHandle<u16>,
    phase: watch::Sender<Phase>,
}

impl Talk {
    fn start(window: usize, keepalive: Keepalive, patience: Patience) -> Self {
        let metrics = Metrics::new().unwrap();
        let (producer, lane) = channel(Places::new(64), Memory::new(1 << 20));
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype: DataType::Uint8,
            dims: vec![Dim::Dynamic, Dim::Fixed(2)],
            batch_axis: Some(0),
        };
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            states: vec![],
            max_batch_size: 8,
        };
        let stream = SignalStream {
            encodings: vec![Encoding::Mulaw],
            sample_rate: 1000,
            resample: false,
            frames: Frames::new(2, 2, 0).unwrap(),
            key: GroupKey::default(),
        };
        let streams = Streams::new(1, 1);
        let mut served = served(
            signature,
            vec![producer],
            Some(Stream::Signal(stream.clone())),
            metrics.model("echo", "1"),
        );
        Arc::get_mut(&mut served).unwrap().streams = Some(Arc::clone(&streams));
        let source = Source::choose(&stream, None, None).unwrap();
        let choices = Choices { greeting: false, binary: false, events_only: false };
        let limits = Limits { max_message_size: 1024, max_frame_size: 0, window, keepalive, patience };
        let endpoint = SignalEndpoint::new(served, stream, source, choices, limits, Clock::start()).unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        let (phase, phases) = watch::channel(Phase::Open);
        let serving = tokio::spawn(async move {
            let (read, write) = tokio::io::split(far);
            serve(read, write, &endpoint, limits, &metrics, phases, &Arc::default()).await
        });
        let client = Client { pipe: near, buffer: BytesMut::new() };
        Self { client, lane, streams, serving, phase }
    }

    /// Takes all steps that wait in the lane's queue, says which, and answers them.
    fn run_lane(&self, refusal: Option<Code>) -> String {
        let mut told = String::from("lane:");
        // What follows an answer waits for the next run.
        let waiting: Vec<Request> = self.lane.requests().try_iter().collect();
        for request in waiting {
            let Request { payloads, slot, ticket, .. } = request;
            let [Payload::Signal(_, window)] = &payloads[..] else { panic!("a step is a window") };
            let Slot { generation, begun, .. } = slot.unwrap();
            let first = if begun { "" } else { " anew" };
            write!(told, " {}#{generation}{first}", window.escape_ascii()).unwrap();
            if let Some(code) = refusal {
                ticket.refuse(Error::new(code, "the lane refuses"));
                continue;
            }
            let storage = Storage::Fixed(Box::new(window.to_vec()));
            let column = Column::new(DataType::Uint8, smallvec![1, 2], Some(0), storage).unwrap();
            let output = Arc::new(BatchOutput::new(vec![column]));
            ticket.answer(Ok(Rows { output, start: 0, count: 1 }), &mut Wakes::default());
        }
        told
    }
}

/// A model without lanes of its own.
pub(super) fn served(
    signature: Signature,
    producers: Vec<Producer>,
    stream: Option<Stream>,
    metrics: Arc<ModelMetrics>,
) -> Arc<Served> {
    Arc::new(Served {
        name: "echo".to_owned(),
        version: 1,
        version_text: "1".to_owned(),
        signature: Arc::new(signature),
        stream,
        output: None,
        file: ModelFile::default(),
        producers,
        feeds: vec![],
        sequences: None,
        streams: None,
        metrics,
        profile: None,
    })
}

/// The other end of the pipe.
struct Client {
    pipe: DuplexStream,
    buffer: BytesMut,
}

impl Client {
    /// Sends a short message, masked with zeros.
    async fn send(&mut self, opcode: OpCode, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126);
        let head = [0x80 | opcode as u8, 0x80 | length, 0, 0, 0, 0];
        // The server may have ended.
        let _ = self.pipe.write_all(&[&head, payload].concat()).await;
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(message) = self.message() {
                return Some(message);
            }
            if self.pipe.read_buf(&mut self.buffer).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// What has come once nobody else has anything to do.
    async fn come(&mut self) -> Vec<String> {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let mut bytes = [0; 4096];
        loop {
            let mut read = ReadBuf::new(&mut bytes);
            let ready = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.pipe).poll_read(cx, &mut read))).await;
            if ready.is_pending() || read.filled().is_empty() {
                break;
            }
            self.buffer.extend_from_slice(read.filled());
        }
        std::iter::from_fn(|| self.message()).collect()
    }

    /// A message that has come whole, as text.
    fn message(&mut self) -> Option<String> {
        let (head, length) = match *self.buffer.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(*self.buffer.get(2..4)?.first_chunk()?))),
            short => (2, usize::from(short)),
        };
        let payload = self.buffer.get(head..head + length)?;
        let text = String::from_utf8_lossy(payload);
        let message = match self.buffer[0] & 0xf {
            1 => text.into_owned(),
            8 => {
                let code = u16::from_be_bytes(*payload.first_chunk().unwrap());
                format!("close {code} {}", String::from_utf8_lossy(&payload[2..])).trim_end().to_owned()
            }
            9 => "ping".to_owned(),
            10 => format!("pong {text}"),
            other => panic!("opcode {other}"),
        };
        self.buffer.advance(head + length);
        Some(message)
    }
}
