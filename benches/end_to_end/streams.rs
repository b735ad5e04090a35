//! Real-time streams of Silero VAD: each sends a chunk of 32 ms every 32 ms, and wants to know of it before the
//! next.
//!
//! The client has one thread. A timer fires each millisecond of the tick, and writes the chunks of all streams
//! whose turn it is; an answer's latency counts from then, however late the client itself may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::client::{complete, open};
use crate::server::{Server, cpu};

const MODEL: &str = "silero_vad";
const TICK: Duration = Duration::from_millis(32);
/// Bytes of it: 512 samples of 16 bits, which are a window of the model.
const CHUNK: usize = 1024;
/// Moments of a tick at which chunks are sent, a millisecond apart.
const TURNS: usize = 32;
const WARM_UP: Duration = Duration::from_secs(1);
/// After the last chunk, its answer is waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// A client that is so busy is what limits the figures.
const BUSY: f64 = 0.9;

#[derive(Clone, Copy)]
pub struct Pace {
    pub seconds: Duration,
    /// All streams send at the same moment, rather than spread over the tick.
    pub at_once: bool,
    /// One more stream pushes as fast as it can.
    pub flood: bool,
}

pub struct Figures {
    pub streams: usize,
    p50: Duration,
    p99: Duration,
    worst: Duration,
    /// Chunks whose answer came after the next was due, or not at all.
    missed: usize,
    unanswered: usize,
    /// The server's CPU time for each chunk.
    each: Duration,
    /// If the server tells.
    batch: Option<f64>,
    /// How busy the server and the client were.
    server: f64,
    client: f64,
}

impl Figures {
    pub fn as_json(&self) -> String {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (p50, p99, cpu) = (ms(self.p50), ms(self.p99), ms(self.each) * 1e3);
        let (held, Self { streams, client, .. }) = (self.holds(), self);
        format!(
            r#"{{"streams":{streams},"held":{held},"p50_ms":{p50:.3},"p99_ms":{p99:.3},"cpu_us":{cpu:.2},"client":{client:.2}}}"#
        )
    }

    fn holds(&self) -> bool {
        self.p99 < TICK && self.unanswered == 0
    }

    pub fn print_head() {
        println!(
            "{:>7} {:>8} {:>8} {:>8} {:>7} {:>9} {:>6} {:>7} {:>7}",
            "streams", "p50 ms", "p99 ms", "max ms", "missed", "CPU µs", "batch", "server", "client"
        );
    }

    fn print(&self) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        println!(
            "{:>7} {:>8.2} {:>8.2} {:>8.2} {:>7} {:>9.1} {:>6} {:>6.0}% {:>6.0}%{}",
            self.streams,
            ms(self.p50),
            ms(self.p99),
            ms(self.worst),
            self.missed,
            ms(self.each) * 1e3,
            self.batch.map_or("-".into(), |batch| format!("{batch:.1}")),
            self.server * 100.0,
            self.client * 100.0,
            if self.client > BUSY { "  the client is the limit" } else { "" },
        );
    }
}

/// Measures one number of streams and prints its line.
pub fn measure(server: &Server, streams: usize, pace: Pace) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let figures = runtime.block_on(run(server, streams, pace));
    figures.print();
    figures
}

/// The most streams that are held, to a fiftieth: upwards by halves, then between.
pub fn search(server: &Server, pace: Pace) -> Option<Figures> {
    let (mut held, mut too_many) = (None::<Figures>, None);
    let mut streams = 200;
    loop {
        let figures = measure(server, streams, pace);
        match figures.holds() {
            true => held = Some(figures),
            false => too_many = Some(streams),
        }
        server.settle();
        let most = held.as_ref().map_or(0, |figures| figures.streams);
        streams = match too_many {
            None => most + most / 2,
            Some(more) if more - most <= (more / 50).max(1) => return held,
            Some(more) => usize::midpoint(most, more),
        };
    }
}

async fn run(server: &Server, streams: usize, pace: Pace) -> Figures {
    let mut sockets = Vec::new();
    let path = format!("/v2/models/{MODEL}/stream?greeting=false");
    for _ in 0..streams {
        sockets.push(connect(server.address, &path).await);
    }
    if pace.flood {
        // Ends with the runtime.
        tokio::spawn(flood(connect(server.address, &path).await));
    }
    let warm_up = ticks(WARM_UP);
    let ticks = warm_up + ticks(pace.seconds);
    let mut turns: Vec<Vec<OwnedWriteHalf>> = (0..TURNS).map(|_| Vec::new()).collect();
    let start = Instant::now() + Duration::from_millis(10);
    let answered = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for (at, socket) in sockets.into_iter().enumerate() {
        let turn = if pace.at_once { 0 } else { at * TURNS / streams };
        let (read, write) = socket.into_split();
        let reader =
            Reader { first: start + moment(0, turn), ticks, warm_up, answered: Arc::clone(&answered) };
        readers.push(tokio::spawn(reader.run(read)));
        turns[turn].push(write);
    }
    let counters =
        || (answered.load(Ordering::Relaxed), server.cpu(), cpu(std::process::id()), Instant::now());
    let chunks = chunks();
    let mut before = None;
    for tick in 0..ticks {
        // A little early, as asking for the metrics delays what is sent.
        if tick + 4 == warm_up {
            before = Some((counters(), server.batches(MODEL)));
        }
        for (turn, sockets) in turns.iter_mut().enumerate().filter(|(_, sockets)| !sockets.is_empty()) {
            tokio::time::sleep_until((start + moment(tick, turn)).into()).await;
            let mut at = 0;
            // A socket that takes no more has seconds of chunks in it: the stream is lost, and so not sent to.
            sockets.retain(|socket| {
                let frame = &chunks[(tick + at) % chunks.len()];
                at += 1;
                socket.try_write(frame).is_ok_and(|sent| sent == frame.len())
            });
        }
    }
    let (after, batches_after) = (counters(), server.batches(MODEL));
    let (before, batches_before) = before.expect("there are ticks to measure");

    let mut latencies = Vec::new();
    let deadline = tokio::time::Instant::from_std(Instant::now() + PATIENCE);
    for mut reader in readers {
        match tokio::time::timeout_at(deadline, &mut reader).await {
            Ok(seen) => latencies.extend(seen.expect("a reader to its end")),
            Err(_) => reader.abort(),
        }
    }
    latencies.sort_unstable();
    let sent = streams * (ticks - warm_up);
    let unanswered = sent - latencies.len();
    let percentile = |percent: usize| {
        // Answers that never came are the latest.
        latencies.get((sent * percent / 100).min(sent - 1)).copied().unwrap_or(PATIENCE)
    };
    #[allow(clippy::cast_precision_loss)]
    let count = (after.0 - before.0).max(1) as f64;
    let elapsed = (after.3 - before.3).as_secs_f64();
    let busy = |cpu: Duration| cpu.as_secs_f64() / elapsed;
    Figures {
        streams,
        p50: percentile(50),
        p99: percentile(99),
        worst: if unanswered == 0 { percentile(100) } else { PATIENCE },
        missed: unanswered + latencies.iter().filter(|&&latency| latency >= TICK).count(),
        unanswered,
        each: (after.1 - before.1).div_f64(count),
        batch: batches_after.zip(batches_before).map(|(after, before)| count / (after - before)),
        server: busy(after.1 - before.1),
        client: busy(after.2 - before.2),
    }
}

fn ticks(duration: Duration) -> usize {
    usize::try_from(duration.as_millis() / TICK.as_millis()).expect("a short while").max(1)
}

/// When a chunk is due, from the start.
fn moment(tick: usize, turn: usize) -> Duration {
    (TICK * u32::try_from(tick).expect("a short while"))
        + (TICK * u32::try_from(turn).expect("a turn")) / u32::try_from(TURNS).expect("turns")
}

/// Frames of noise, made once.
fn chunks() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(1);
    let length = u16::try_from(CHUNK).expect("a short frame").to_be_bytes();
    let mut frame = || {
        let noise: Vec<u8> = (0..CHUNK / 2).flat_map(|_| random.i16(-8192..8192).to_le_bytes()).collect();
        [&[0x82, 0xfe][..], &length, &[0; 4], &noise].concat()
    };
    (0..64).map(|_| frame()).collect()
}

async fn connect(address: SocketAddr, path: &str) -> TcpStream {
    let (socket, rest) = open(address, path).await;
    assert!(rest.is_empty(), "nobody has asked anything yet");
    socket
}

/// Pushes messages of a second of signal, and reads what comes of them so that it can go on.
async fn flood(socket: TcpStream) {
    let payload = [0u8; 32_000];
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let message = [&[0x82, 0xfe][..], &length, &[0; 4], &payload].concat();
    let (mut read, mut write) = socket.into_split();
    let mut answers = vec![0; 64 << 10];
    let reading = async { while matches!(read.read(&mut answers).await, Ok(1..)) {} };
    let writing = async { while write.write_all(&message).await.is_ok() {} };
    tokio::join!(reading, writing);
}

/// Takes one stream's answers.
struct Reader {
    /// When the first chunk is due.
    first: Instant,
    ticks: usize,
    warm_up: usize,
    /// Of all streams.
    answered: Arc<AtomicUsize>,
}

impl Reader {
    /// The latencies behind the warm-up.
    async fn run(self, mut read: OwnedReadHalf) -> Vec<Duration> {
        let mut buffer = BytesMut::with_capacity(4 << 10);
        let mut latencies = Vec::with_capacity(self.ticks);
        let mut tick = 0;
        while tick < self.ticks {
            // A server that ends a stream owes its answers, which is how it shows.
            if !matches!(read.read_buf(&mut buffer).await, Ok(1..)) {
                break;
            }
            let now = Instant::now();
            while let Some((header, length)) = complete(&buffer) {
                // Keepalive.
                if buffer[0] != 0x89 {
                    let answer = &buffer[header..header + length];
                    let is_result =
                        answer.starts_with(format!(r#"{{"type":"result","seq":{tick},"#).as_bytes());
                    assert!(is_result, "{}", String::from_utf8_lossy(answer));
                    if tick >= self.warm_up {
                        latencies.push(now.saturating_duration_since(self.first + moment(tick, 0)));
                    }
                    tick += 1;
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                buffer.advance(header + length);
            }
        }
        latencies
    }
}
