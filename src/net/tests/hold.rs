//! Answers of a stream that is behind leave together, on a clock that jumps.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use expect_test::{Expect, expect};
use fastwebsockets::OpCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Keepalive, Limits, Patience, Phase, serve};
use crate::clock::Time;
use crate::metrics::Metrics;
use crate::net::connection::Endpoint;
use crate::net::socket::append_frame;
use crate::reply::{Answer, Mailbox, Ticket, Wakes};
use crate::tensor::Rows;

/// A stream whose steps the test answers; each answer is the message.
struct Steps {
    tickets: Mutex<Vec<Ticket>>,
    sequential: bool,
}

impl Endpoint for Steps {
    type Context = Bytes;

    fn greet(&self, _: &mut BytesMut) {}

    fn receive(&self, _: bool, message: Bytes, mailbox: &Arc<Mailbox<Bytes>>) {
        self.tickets.lock().insert(0, mailbox.issue(message));
    }

    fn is_sequential(&self) -> bool {
        self.sequential
    }

    fn unasked(&self) -> Bytes {
        Bytes::new()
    }

    fn encode(&self, message: Bytes, _: Answer, _: Time, out: &mut BytesMut) {
        let Ok(()) = append_frame(out, OpCode::Binary, |out| {
            out.put(message);
            Ok::<_, Infallible>(())
        });
    }

    fn abandon(&self, _: Bytes) {}
}

const LIMITS: Limits = Limits {
    max_message_size: 1 << 20,
    max_frame_size: 0,
    window: 64,
    keepalive: Keepalive { interval: Duration::ZERO, idle: Duration::ZERO },
    patience: Patience { read: Duration::ZERO, write: Duration::ZERO, age: Duration::ZERO },
};

/// Sends steps `a`, `b`, … at once, then does what is to be done at each millisecond (`answer` the next one, or send a
/// `ping`), and tells what comes when.
#[allow(clippy::disallowed_methods, reason = "the clock is the test's")]
async fn check(sequential: bool, steps: u8, script: &[(u64, &str)], expect: Expect) {
    let endpoint = Arc::new(Steps { tickets: Mutex::default(), sequential });
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let (_stop, stopping) = watch::channel(Phase::Open);
    let served = Arc::clone(&endpoint);
    let serving = tokio::spawn(async move {
        let (read, write) = tokio::io::split(far);
        let metrics = Metrics::new().unwrap();
        serve(read, write, &*served, LIMITS, &metrics, stopping, &Arc::default()).await
    });
    for step in (b'a'..).take(steps.into()) {
        near.write_all(&[0x82, 0x81, 0, 0, 0, 0, step]).await.unwrap();
    }
    while endpoint.tickets.lock().len() < usize::from(steps) {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    let mut told = String::new();
    let mut buffer = [0; 256];
    for (at, what) in script.iter().chain(&[(1000, "end")]) {
        let until = start + Duration::from_millis(*at);
        while let Ok(Ok(count @ 1..)) = timeout_at(until, near.read(&mut buffer)).await {
            let heard = buffer[..count].escape_ascii();
            writeln!(told, "{} ms: {heard}", start.elapsed().as_millis()).unwrap();
        }
        sleep_until(until).await;
        match *what {
            "answer" => {
                let ticket = endpoint.tickets.lock().pop().unwrap();
                ticket.answer(Ok(Rows::none()), &mut Wakes::default());
            }
            "ping" => near.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap(),
            _ => {}
        }
    }
    serving.abort();
    expect.assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_those_behind_it_but_not_for_long() {
    let answers = [(1, "answer"), (2, "answer"), (30, "answer"), (31, "answer"), (90, "answer")];
    check(
        true,
        9,
        &answers,
        expect![[r#"
            1 ms: \x82\x01a
            41 ms: \x82\x01b\x82\x01c\x82\x01d
            90 ms: \x82\x01e
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_far_ahead_has_each_answer_at_once() {
    check(
        true,
        1,
        &[(1, "answer")],
        expect![[r#"
        1 ms: \x82\x01a
    "#]],
    )
    .await;
    check(
        true,
        6,
        &[(1, "answer"), (2, "answer"), (3, "answer"), (4, "answer")],
        expect![[r#"
            1 ms: \x82\x01a
            3 ms: \x82\x01b\x82\x01c
            4 ms: \x82\x01d
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn so_many_wait_and_no_more() {
    let answers: Vec<_> = (0..11).map(|at| (at, "answer")).collect();
    check(
        true,
        20,
        &answers,
        expect![[r#"
            0 ms: \x82\x01a
            8 ms: \x82\x01b\x82\x01c\x82\x01d\x82\x01e\x82\x01f\x82\x01g\x82\x01h\x82\x01i
            48 ms: \x82\x01j\x82\x01k
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pong_does_not_wait_for_them() {
    check(
        true,
        6,
        &[(1, "answer"), (2, "answer"), (5, "ping")],
        expect![[r#"
            1 ms: \x82\x01a
            5 ms: \x8a\x00
            41 ms: \x82\x01b
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_do_not_wait_for_each_other_are_answered_at_once() {
    check(
        false,
        9,
        &[(1, "answer"), (2, "answer")],
        expect![[r#"
        1 ms: \x82\x01a
        2 ms: \x82\x01b
    "#]],
    )
    .await;
}
