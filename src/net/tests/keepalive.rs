//! Pings and idleness, on a clock that jumps from one timer to the next.

use std::fmt::Write;
use std::time::Duration;

use expect_test::{Expect, expect};
use fastwebsockets::OpCode;

use super::{Keepalive, Patience, Talk};

/// What a client does about what it hears.
#[derive(Clone, Copy)]
struct Manner {
    pongs: bool,
    /// Answers a warning with a message.
    wakes: bool,
    /// Sends more than the window at its beginning, which no lane answers.
    floods: bool,
}

const SILENT: Manner = Manner { pongs: false, wakes: false, floods: false };

/// Tells what a client hears in three minutes, and when.
#[allow(clippy::disallowed_methods, reason = "the clock is the test's")]
async fn check(interval: u64, idle: u64, manner: Manner, expect: Expect) {
    let keepalive = Keepalive { interval: Duration::from_secs(interval), idle: Duration::from_secs(idle) };
    let mut talk = Talk::start(1, keepalive, Patience::default());
    let start = tokio::time::Instant::now();
    let end = start + Duration::from_secs(180);
    let mut told = String::new();
    if manner.floods {
        talk.client.send(OpCode::Binary, b"abcdefgh").await;
    }
    while let Ok(heard) = tokio::time::timeout_at(end, talk.client.next()).await {
        let message = heard.as_deref().unwrap_or("the end");
        writeln!(told, "{} s: {message}", start.elapsed().as_secs()).unwrap();
        match message {
            "the end" => break,
            "ping" if manner.pongs => talk.client.send(OpCode::Pong, b"").await,
            warning if manner.wakes && warning.starts_with('{') => {
                talk.client.send(OpCode::Binary, b"a").await;
            }
            _ => {}
        }
    }
    expect.assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_given_up() {
    let expect = expect![[r#"
        15 s: ping
        30 s: the end
    "#]];
    check(15, 0, SILENT, expect).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_is_kept() {
    let expect = expect![[r#"
        60 s: ping
        120 s: ping
    "#]];
    check(60, 0, Manner { pongs: true, ..SILENT }, expect).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_warned_and_closed() {
    let expect = expect![[r#"
        15 s: ping
        30 s: ping
        45 s: ping
        45 s: {"type":"going_away","time_left_ms":15000}
        60 s: close 1001 no message came for too long
        62 s: the end
    "#]];
    check(15, 60, Manner { pongs: true, ..SILENT }, expect).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_ends_idleness() {
    let expect = expect![[r#"
        30 s: ping
        60 s: ping
        60 s: {"type":"going_away","time_left_ms":30000}
        90 s: ping
        120 s: ping
        150 s: ping
        150 s: {"type":"going_away","time_left_ms":30000}
    "#]];
    check(30, 90, Manner { pongs: true, wakes: true, ..SILENT }, expect).await;
}

#[tokio::test(start_paused = true)]
async fn whom_the_server_does_not_read_it_does_not_give_up() {
    let expect = expect![[r#"
        30 s: ping
        60 s: ping
        90 s: ping
        120 s: ping
        150 s: ping
    "#]];
    check(30, 60, Manner { floods: true, ..SILENT }, expect).await;
}

#[tokio::test(start_paused = true)]
async fn without_an_interval_nothing_is_sent() {
    let expect = expect![[""]];
    check(0, 60, SILENT, expect).await;
}
