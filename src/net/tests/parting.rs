//! Who ends the socket, and when, on a clock that jumps.

use std::fmt::Write;
use std::time::Duration;

use expect_test::{Expect, expect};
use tokio::io::AsyncWriteExt;

use super::{Keepalive, Patience, Phase, Talk};

const NO_PINGS: Keepalive = Keepalive { interval: Duration::ZERO, idle: Duration::ZERO };

/// Sends the pieces, one every half second, from when the server closes, and tells what is heard, when, and when the
/// server no longer counts the connection.
#[allow(clippy::disallowed_methods, reason = "the clock is the test's")]
async fn check(phase: Phase, pieces: &[&[u8]], expect: Expect) {
    let mut talk = Talk::start(8, NO_PINGS, Patience::default());
    talk.phase.send_replace(phase);
    let start = tokio::time::Instant::now();
    let mut told = String::new();
    for (piece, at) in pieces.iter().chain(&[&b""[..]; 6]).zip(1..) {
        // The server may have ended.
        let _ = talk.client.pipe.write_all(piece).await;
        let until = start + at * Duration::from_millis(500);
        while let Ok(heard) = tokio::time::timeout_at(until, talk.client.next()).await {
            writeln!(told, "{:?}: {}", start.elapsed(), heard.as_deref().unwrap_or("the end")).unwrap();
            if heard.is_none() {
                talk.phase.closed().await;
                writeln!(told, "{:?}: not counted", start.elapsed()).unwrap();
                return expect.assert_eq(&told);
            }
        }
    }
    panic!("the connection does not end: {told}");
}

const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe9";

#[tokio::test(start_paused = true)]
async fn our_side_ends_once_the_client_has_answered() {
    let expect = expect![[r"
        0ns: close 1001 the server is closing
        1.5s: the end
        1.5s: not counted
    "]];
    // What was on its way is read and not looked at, whole or not.
    let last = [b"ef", CLOSE].concat();
    let pieces: [&[u8]; 4] = [b"", b"\x82\x82\0\0\0\0ab\x82\x84", b"\0\0\0\0cd", &last];
    check(Phase::Closing, &pieces, expect).await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_not_waited_for() {
    let expect = expect![[r"
        0ns: close 1001 the server is closing
        2s: the end
        2s: not counted
    "]];
    check(Phase::Closing, &[], expect).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_closed_or_broken_the_rules_sees_the_end_at_once() {
    let closed = expect![[r"
        500ms: close 1001
        500ms: the end
        500ms: not counted
    "]];
    check(Phase::Open, &[b"", CLOSE], closed).await;
    let broken = expect![[r"
        500ms: close 1002 this opcode is reserved
        500ms: the end
        2.5s: not counted
    "]];
    check(Phase::Open, &[b"", b"\x83\x80\0\0\0\0"], broken).await;
}
