//! What a served message costs: the real server on one core, many connections from another.
//!
//! `cargo bench --bench end_to_end [-- --seconds N --connections N MODEL…]` prints, for each model and each
//! number of requests in flight per connection, the messages a second, the server's CPU time for each, and
//! what a client waits. The server's CPU time is the kernel's own account of its threads. Every answer is
//! compared with the first one, byte for byte.
//!
//! `… -- streams [--count N | --search] [--at-once] [--flood]` opens real-time streams of Silero VAD instead: a chunk of
//! 32 ms every 32 ms, each. Without a number it tries a few; `--search` finds how many are held, with answers
//! that come, but for one in a hundred, before the next chunk is due; `--flood` adds a stream that pushes as fast
//! as it can, which is not counted among them.
//!
//! `--peer COMMAND` measures another server that speaks the same, see `benches/peers`; `--form http` and `http-json` post
//! requests in place of messages, and `--json` prints the figures for programs: of the streams those of the most that are held.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, reads the clock, and ends where something is not as it should be"
)]

mod client;
mod server;
mod streams;

use std::time::Duration;

use client::{Form, Load};
use server::Server;
use streams::{Figures, Pace};

/// Model, input name, width.
const MODELS: &[(&str, &str, usize)] =
    &[("identity_fp32", "INPUT0", 64), ("mlp64", "x", 64), ("mlp1024", "x", 1024)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let text = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let option = |name: &str| text(name)?.parse::<u64>().ok();
    let seconds = Duration::from_secs(option("--seconds").unwrap_or(3));
    let connections = usize::try_from(option("--connections").unwrap_or(64)).unwrap_or(64);
    let named = |model: &str| arguments.iter().any(|argument| argument == model);
    let any_named = MODELS.iter().any(|(model, ..)| named(model));
    let (peer, json) = (text("--peer"), named("--json"));
    let start = |repository| peer.map_or_else(|| Server::start("0", repository), |it| Server::peer("0", it));

    server::pin(std::process::id(), "1");
    if named("streams") {
        let pace = Pace { seconds, at_once: named("--at-once"), flood: named("--flood") };
        let server = start("models");
        return run_streams(&server, pace, option("--count"), named("--search"), json);
    }
    let forms: &[Form] = match text("--form") {
        Some("http") => &[Form::Http],
        Some("http-json") => &[Form::HttpJson],
        Some("binary") => &[Form::Binary],
        Some("text") => &[Form::Text],
        _ => &[Form::Binary, Form::Text],
    };
    let depths: &[usize] = match option("--depth") {
        Some(depth) => &[usize::try_from(depth).unwrap_or(1)],
        None => &[1, 16],
    };
    let server = start("tests/models/repository");
    println!("server on core 0, {connections} connections from core 1, {seconds:?} each");
    println!(
        "{:<16} {:<7} {:>5} {:>9} {:>9} {:>9} {:>9} {:>6}",
        "model", "form", "depth", "msg/s", "CPU µs", "p50 µs", "p99 µs", "batch"
    );
    for &(model, input, width) in MODELS.iter().filter(|(model, ..)| !any_named || named(model)) {
        for &form in forms {
            for &depth in depths {
                run_requests(&server, Load { model, input, width, form, depth, connections }, seconds, json);
            }
        }
    }
}

fn run_requests(server: &Server, load: Load, seconds: Duration, json: bool) {
    let Load { model, form, depth, .. } = load;
    client::run(server, load, Duration::from_secs(1));
    let counters = || (server.cpu(), server.batches(model));
    let before = counters();
    let outcome = client::run(server, load, seconds);
    let after = counters();
    #[allow(clippy::cast_precision_loss)]
    let (answers, elapsed) = (outcome.answers as f64, outcome.elapsed.as_secs_f64());
    let (rate, cpu) = (answers / elapsed, (after.0 - before.0).as_secs_f64() * 1e6 / answers);
    let batch = after.1.zip(before.1).map(|(after, before)| answers / (after - before));
    let (p50, p99) = (outcome.percentile(50), outcome.percentile(99));
    println!(
        "{model:<16} {:<7} {depth:>5} {rate:>9.0} {cpu:>9.2} {p50:>9} {p99:>9} {:>6}",
        format!("{form:?}").to_lowercase(),
        batch.map_or("-".into(), |batch| format!("{batch:.1}")),
    );
    if json {
        println!(r#"{{"rate":{rate:.0},"cpu_us":{cpu:.2},"p50_us":{p50},"p99_us":{p99}}}"#);
    }
}

fn run_streams(server: &Server, pace: Pace, count: Option<u64>, search: bool, json: bool) {
    let spread = if pace.at_once { "all at once" } else { "spread over the tick" };
    println!("server on core 0, streams from core 1, {spread}, {:?} each", pace.seconds);
    Figures::print_head();
    if search {
        match streams::search(server, pace) {
            Some(held) if json => println!("{}", held.as_json()),
            held => println!("{} streams are held", held.map_or(0, |held| held.streams)),
        }
        return;
    }
    let counts =
        count.map_or(vec![100, 200, 400, 500], |count| vec![usize::try_from(count).unwrap_or(1).max(1)]);
    for count in counts {
        let figures = streams::measure(server, count, pace);
        if json {
            println!("{}", figures.as_json());
        }
    }
}
