//! Clients that draw things out, and connections that grow old, on a clock that jumps.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use expect_test::{Expect, expect};
use fastwebsockets::OpCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::sync::watch;

use super::{Keepalive, Limits, Patience, Phase, Talk, serve};
use crate::clock::Time;
use crate::metrics::Metrics;
use crate::net::connection::Endpoint;
use crate::net::socket::append_frame;
use crate::reply::{Answer, Mailbox, Wakes};
use crate::tensor::Rows;

const NO_PINGS: Keepalive = Keepalive { interval: Duration::ZERO, idle: Duration::ZERO };

fn patience(read: u64, write: u64, age: u64) -> Patience {
    let [read, write, age] = [read, write, age].map(Duration::from_secs);
    Patience { read, write, age }
}

/// Sends the pieces, one every ten seconds, and tells what is heard meanwhile and in a minute after it, and when.
#[allow(clippy::disallowed_methods, reason = "the clock is the test's")]
async fn check(window: usize, patience: Patience, pieces: &[&[u8]], expect: Expect) {
    let mut talk = Talk::start(window, NO_PINGS, patience);
    let start = tokio::time::Instant::now();
    let mut told = String::new();
    let rest = [&b""[..]; 6];
    'talk: for (piece, at) in pieces.iter().chain(&rest).zip(1..) {
        // The server may have ended.
        let _ = talk.client.pipe.write_all(piece).await;
        let until = start + Duration::from_secs(10 * at);
        while let Ok(heard) = tokio::time::timeout_at(until, talk.client.next()).await {
            writeln!(told, "{} s: {}", start.elapsed().as_secs(), heard.as_deref().unwrap_or("the end"))
                .unwrap();
            if heard.is_none() {
                break 'talk;
            }
        }
    }
    expect.assert_eq(&told);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_trickles_ends_its_connection() {
    let trickle = || {
        expect![[r"
        35 s: close 1008 the message took too long to come
        37 s: the end
    "]]
    };
    // In its head, in its payload, in a fragment that never comes, and between fragments, where pings help nothing.
    let head: [&[u8]; 4] = [b"\x82", b"\x84", b"\0", b"\0"];
    check(8, patience(35, 0, 0), &head, trickle()).await;
    let payload: [&[u8]; 4] = [b"\x82\x84\0\0\0\0", b"a", b"b", b"c"];
    check(8, patience(35, 0, 0), &payload, trickle()).await;
    check(8, patience(35, 0, 0), &[b"\x02\x81\0\0\0\0a"], trickle()).await;
    let pings: [&[u8]; 3] = [b"\x02\x80\0\0\0\0", b"\x00\x80\0\0\0\0", b"\x89\x80\0\0\0\0"];
    let with_pong = expect![[r"
        20 s: pong 
        35 s: close 1008 the message took too long to come
        37 s: the end
    "]];
    check(8, patience(35, 0, 0), &pings, with_pong).await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_come_one_by_one_have_their_time_each() {
    let slow: Vec<&[u8]> = [&b"\x82\x81\0\0"[..], b"\0\0", b"a\x82\x81\0\0", b"\0\0", b"b"].into();
    check(8, patience(25, 0, 0), &slow, expect![[""]]).await;
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_server_does_not_read_is_not_counted() {
    // A window of one is full with `ab`, which no lane answers; a fragment and a ping lie behind it.
    let flood: [&[u8]; 1] = [b"\x82\x84\0\0\0\0abcd\x02\x81\0\0\0\0e\x89\x80\0\0\0\0"];
    check(1, patience(15, 0, 0), &flood, expect![[""]]).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_told_and_closed() {
    let old = expect![[r#"
        20 s: {"type":"going_away","time_left_ms":20000}
        40 s: close 1001 the connection has reached its age
        42 s: the end
    "#]];
    check(8, patience(0, 0, 40), &[b"\x82\x81\0\0\0\0a"], old).await;
}

/// Says one long message.
struct Speaker(usize);

impl Endpoint for Speaker {
    type Context = ();

    fn greet(&self, out: &mut BytesMut) {
        let Ok(()) = append_frame(out, OpCode::Binary, |out| {
            out.put_bytes(b'x', self.0);
            Ok::<_, std::convert::Infallible>(())
        });
    }

    fn receive(&self, _: bool, _: Bytes, mailbox: &Arc<Mailbox<()>>) {
        mailbox.issue(()).answer(Ok(Rows::none()), &mut Wakes::default());
    }

    fn is_sequential(&self) -> bool {
        false
    }

    fn unasked(&self) {}

    fn encode(&self, (): (), _: Answer, _: Time, _: &mut BytesMut) {}

    fn abandon(&self, (): ()) {}
}

async fn reads(ping_interval: u64, bytes_a_second: usize, expect: Expect) {
    reads_kept(ping_interval, bytes_a_second, 0, expect).await;
}

/// Reads some bytes each second of a message of a thousand, and tells how the connection ended, and when. What is sent
/// is kept for the pipe up to a size, as TLS does it.
#[allow(clippy::disallowed_methods, reason = "the clock is the test's")]
async fn reads_kept(ping_interval: u64, bytes_a_second: usize, keeps: usize, expect: Expect) {
    let limits = Limits {
        max_message_size: 1024,
        max_frame_size: 0,
        window: 8,
        keepalive: Keepalive { interval: Duration::from_secs(ping_interval), idle: Duration::ZERO },
        patience: patience(0, 60, 0),
    };
    let (mut near, far) = tokio::io::duplex(64);
    let (_stop, stopping) = watch::channel(Phase::Open);
    let start = tokio::time::Instant::now();
    let serving = tokio::spawn(async move {
        let (read, write) = tokio::io::split(far);
        let write = BufWriter::with_capacity(keeps, write);
        let metrics = Metrics::new().unwrap();
        let code = serve(read, write, &Speaker(1000), limits, &metrics, stopping, &Arc::default()).await;
        (code, start.elapsed().as_secs())
    });
    let mut taken = 0;
    let mut buffer = vec![0; bytes_a_second];
    while bytes_a_second > 0 && taken < 1004 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match near.read(&mut buffer).await {
            Ok(count @ 1..) => taken += count,
            _ => break,
        }
    }
    if taken >= 1004 {
        drop(near);
    }
    let (code, after) = serving.await.unwrap();
    expect.assert_eq(&format!("{code} after {after} s, {taken} bytes taken"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_little_now_and_then_is_given_up() {
    reads(0, 0, expect!["1006 after 60 s, 0 bytes taken"]).await;
    // Pings are content with whatever is taken.
    reads(15, 0, expect!["1006 after 30 s, 0 bytes taken"]).await;
    reads(15, 2, expect!["1006 after 60 s, 184 bytes taken"]).await;
    reads(15, 40, expect!["1006 after 26 s, 1006 bytes taken"]).await;
    reads_kept(45, 0, 2000, expect!["1006 after 60 s, 0 bytes taken"]).await;
    reads_kept(45, 2, 2000, expect!["1006 after 60 s, 184 bytes taken"]).await;
}
