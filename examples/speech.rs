//! Prints when somebody speaks, while they do.
//!
//! ```sh
//! cargo run --example speech -- recording.wav
//! arecord -q -t raw -f S16_LE -r 16000 -c 1 | cargo run --example speech -- -
//! ```
//!
//! A WAV file has one channel of 16 bits, at any rate; what comes through a pipe is such samples at 16 kHz
//! without a head. With `--fast` a file is sent as fast as the server takes it, not in real time. A last
//! argument such as `127.0.0.1:9000` names another server.

#![allow(clippy::print_stdout, reason = "it prints what it hears")]

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, WebSocket, WebSocketWrite, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Socket = TokioIo<Upgraded>;
type Writer = Arc<Mutex<WebSocketWrite<tokio::io::WriteHalf<Socket>>>>;

/// Milliseconds of sound in a message; any other number is right, too.
const PIECE: u32 = 20;

/// What the server says, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    error: Option<String>,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    at_ms: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = arguments.len();
    arguments.retain(|argument| argument != "--fast");
    let fast = arguments.len() < options;
    let (source, server) = match &arguments[..] {
        [source] => (source.clone(), "127.0.0.1:8080"),
        [source, server] => (source.clone(), server.as_str()),
        _ => return Err("usage: speech FILE.wav|- [--fast] [SERVER]".into()),
    };

    let in_time = source != "-" && !fast;
    let (rate, pieces) = open(&source)?;
    let (read, write) = connect(server, rate).await?.split(tokio::io::split);
    let write = Arc::new(Mutex::new(write));
    tokio::spawn(send(Arc::clone(&write), pieces, in_time));

    let mut read = FragmentCollectorRead::new(read);
    let mut start = 0.0;
    loop {
        // Pongs, and the answer to the server's close frame.
        let frame = read.read_frame(&mut async |frame| write.lock().await.write_frame(frame).await).await?;
        match frame.opcode {
            OpCode::Text => tell(&serde_json::from_slice(&frame.payload)?, &mut start)?,
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}

/// Prints a beginning, and the whole once it has ended.
fn tell(message: &Message, start: &mut f64) -> Result<()> {
    if let Some(error) = &message.error {
        return Err(error.as_str().into());
    }
    for Event { r#type, at_ms } in &message.events {
        let at = at_ms / 1000.0;
        match r#type.as_str() {
            "speech_start" => {
                *start = at;
                println!("{at:8.2} s  speech");
            }
            "speech_end" => println!("{at:8.2} s  silence, after {:.2} s", at - *start),
            _ => {}
        }
    }
    Ok(())
}

async fn connect(server: &str, rate: u32) -> Result<WebSocket<Socket>> {
    let query = format!("encoding=pcm_s16le&sample_rate={rate}&output=events&greeting=false");
    let request = Request::get(format!("/v2/models/silero_vad/stream?{query}"))
        .header("Host", server)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .body(Empty::<Bytes>::new())?;
    let stream = TcpStream::connect(server).await?;
    Ok(handshake::client(&TokioExecutor::new(), request, stream).await?.0)
}

/// The rate of the source, and its pieces as they come: reading waits, so a thread does it.
fn open(source: &str) -> Result<(u32, mpsc::Receiver<Vec<u8>>)> {
    let (sender, receiver) = mpsc::channel(16);
    if source == "-" {
        std::thread::spawn(move || {
            let mut piece = vec![0; 2 * 16 * PIECE as usize];
            while let Ok(length @ 1..) = std::io::stdin().lock().read(&mut piece)
                && sender.blocking_send(piece[..length].to_vec()).is_ok()
            {}
        });
        return Ok((16_000, receiver));
    }
    let file = hound::WavReader::open(source)?;
    let spec = file.spec();
    if (spec.channels, spec.bits_per_sample) != (1, 16) {
        return Err("a WAV file needs one channel of 16 bits".into());
    }
    std::thread::spawn(move || {
        let samples: Vec<i16> = file.into_samples().map_while(std::result::Result::ok).collect();
        for piece in samples.chunks((spec.sample_rate * PIECE / 1000) as usize) {
            let bytes = piece.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            let Ok(()) = sender.blocking_send(bytes) else { return };
        }
    });
    Ok((spec.sample_rate, receiver))
}

async fn send(socket: Writer, mut pieces: mpsc::Receiver<Vec<u8>>, in_time: bool) -> Result<()> {
    let mut clock = tokio::time::interval(Duration::from_millis(PIECE.into()));
    while let Some(piece) = pieces.recv().await {
        if in_time {
            clock.tick().await;
        }
        socket.lock().await.write_frame(Frame::binary(piece.into())).await?;
    }
    // What is left of the last window counts, too; the server answers it, and ends the connection.
    let close = Frame::text(br#"{"type":"close"}"#.as_slice().into());
    Ok(socket.lock().await.write_frame(close).await?)
}
