//! The load: connections that keep `depth` requests in flight, each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Binary,
    Text,
    /// Posted on a connection that is kept, with its tensors in binary.
    Http,
    /// Posted as JSON.
    HttpJson,
}

#[derive(Clone, Copy)]
pub struct Load {
    pub model: &'static str,
    pub input: &'static str,
    pub width: usize,
    pub form: Form,
    pub depth: usize,
    pub connections: usize,
}

pub struct Outcome {
    pub answers: u64,
    pub elapsed: Duration,
    /// In microseconds, sorted.
    latencies: Vec<u32>,
}

impl Outcome {
    pub fn percentile(&self, percent: usize) -> u32 {
        self.latencies
            .get((self.latencies.len() * percent / 100).min(self.latencies.len() - 1))
            .copied()
            .unwrap_or(0)
    }
}

impl Load {
    /// The request as a client frame, masked with zeros so that its bytes are what they are, or posted.
    fn request(&self) -> Vec<u8> {
        #[allow(clippy::cast_precision_loss)]
        let values: Vec<f32> = (0..self.width).map(|i| i as f32 / 64.0).collect();
        let Self { model, input, width, .. } = self;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let header = format!(
            r#"{{"id":"1","inputs":[{{"name":"{input}","datatype":"FP32","shape":[1,{width}],"parameters":{{"binary_data_size":{}}}}}]{}}}"#,
            bytes.len(),
            // WebSocket messages are answered as they came.
            if self.form == Form::Http { r#","parameters":{"binary_data_output":true}"# } else { "" },
        );
        let json = format!(
            r#"{{"id":"1","inputs":[{{"name":"{input}","datatype":"FP32","shape":[1,{width}],"data":{values:?}}}]}}"#
        );
        let post = |headers: &str, body: &[u8]| {
            let length = body.len();
            let head = format!(
                "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n{headers}\r\n\r\n"
            );
            [head.as_bytes(), body].concat()
        };
        match self.form {
            Form::Binary => {
                let length = u32::try_from(header.len()).unwrap().to_le_bytes();
                frame(0x82, &[&length[..], header.as_bytes(), &bytes].concat())
            }
            Form::Text => frame(0x81, json.as_bytes()),
            Form::Http => {
                let length = header.len();
                let headers = "Content-Type: application/octet-stream\r\nInference-Header-Content-Length";
                post(&format!("{headers}: {length}"), &[header.as_bytes(), &bytes].concat())
            }
            Form::HttpJson => post("Content-Type: application/json", json.as_bytes()),
        }
    }

    fn is_posted(&self) -> bool {
        matches!(self.form, Form::Http | Form::HttpJson)
    }

    async fn open(&self, address: SocketAddr) -> (TcpStream, BytesMut) {
        if !self.is_posted() {
            return open(address, &format!("/v2/models/{}/infer", self.model)).await;
        }
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        (socket, BytesMut::with_capacity(64 << 10))
    }

    /// The head's and the body's length of an answer that has arrived whole.
    fn complete(&self, buffer: &[u8]) -> Option<(usize, usize)> {
        if self.is_posted() { complete_http(buffer) } else { complete(buffer) }
    }
}

/// A client's frame of a small message.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a small request");
    assert!(length > 125);
    [&[first, 0xfe][..], &length.to_be_bytes(), &[0; 4], payload].concat()
}

pub fn run(server: &Server, load: Load, duration: Duration) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let tasks: Vec<_> = (0..load.connections)
            .map(|_| tokio::spawn(converse(server.address, load, Arc::clone(&stop))))
            .collect();
        tokio::time::sleep(duration).await;
        stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.expect("a conversation to its end"));
        }
        let elapsed = start.elapsed();
        latencies.sort_unstable();
        Outcome { answers: latencies.len() as u64, elapsed, latencies }
    })
}

/// A WebSocket at a path, and an empty buffer.
pub async fn open(address: SocketAddr, path: &str) -> (TcpStream, BytesMut) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let handshake = format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut buffer = BytesMut::with_capacity(64 << 10);
    while !buffer.ends_with(b"\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut buffer).await.unwrap(), 0);
    }
    assert!(buffer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&buffer));
    buffer.clear();
    (socket, buffer)
}

/// Keeps the window full until told to stop, then takes what is owed.
async fn converse(address: SocketAddr, load: Load, stop: Arc<AtomicBool>) -> Vec<u32> {
    let (mut socket, mut buffer) = load.open(address).await;
    let request = load.request();
    let mut out = request.repeat(load.depth);
    let mut sent: std::collections::VecDeque<Instant> =
        std::iter::repeat_n(Instant::now(), load.depth).collect();
    socket.write_all(&out).await.unwrap();
    let mut latencies = Vec::new();
    let mut expected: Option<Vec<u8>> = None;
    while !sent.is_empty() {
        assert_ne!(socket.read_buf(&mut buffer).await.unwrap(), 0, "the server ended the connection");
        let now = Instant::now();
        out.clear();
        while let Some((header, length)) = load.complete(&buffer) {
            let answer = &buffer[header..header + length];
            let expected: &[u8] = expected.get_or_insert_with(|| {
                // A WebSocket has no status.
                let has_outputs = answer.windows(9).any(|window| window == b"\"outputs\"");
                assert!(load.is_posted() || has_outputs, "{answer:?}");
                answer.to_vec()
            });
            if answer != expected {
                let [answer, expected] =
                    [answer, expected].map(|text| String::from_utf8_lossy(text).into_owned());
                eprintln!("an answer differs:\n{answer}\n{expected}");
                std::process::exit(1);
            }
            buffer.advance(header + length);
            let began = sent.pop_front().expect("an answer to a request");
            latencies.push(u32::try_from((now - began).as_micros()).unwrap_or(u32::MAX));
            if !stop.load(Ordering::Relaxed) {
                out.extend_from_slice(&request);
                sent.push_back(now);
            }
        }
        if !out.is_empty() {
            socket.write_all(&out).await.unwrap();
        }
    }
    latencies
}

/// The header's and the payload's length of a frame that has arrived whole.
pub fn complete(buffer: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match *buffer.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(*buffer.get(2..4)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*buffer.get(2..10)?.first_chunk()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (buffer.len() >= header + length).then_some((header, length))
}

/// The same of an HTTP response with a length.
fn complete_http(buffer: &[u8]) -> Option<(usize, usize)> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let (true, Some(length)) = (text.starts_with("http/1.1 200 "), length) else {
        panic!("not what was asked for: {}", String::from_utf8_lossy(buffer));
    };
    let length = length.trim().parse().expect("a length");
    (buffer.len() >= head + length).then_some((head, length))
}
