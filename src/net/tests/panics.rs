//! A fault on one connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use tokio::sync::watch;

use super::{Client, Keepalive, Limits, Patience, Phase, serve};
use crate::clock::Time;
use crate::metrics::Metrics;
use crate::net::connection::Endpoint;
use crate::net::socket::append_frame;
use crate::reply::{Answer, Mailbox, Wakes};
use crate::tensor::Rows;

/// Repeats what it is told, and panics where it is told to.
struct Clumsy;

fn stumble() -> ! {
    // Unwinds like a panic, without its lines on the screen.
    std::panic::resume_unwind(Box::new("as told"))
}

impl Endpoint for Clumsy {
    type Context = Bytes;

    fn greet(&self, _: &mut BytesMut) {}

    fn receive(&self, _: bool, payload: Bytes, mailbox: &Arc<Mailbox<Bytes>>) {
        if &payload[..] == b"receive" {
            stumble();
        }
        mailbox.issue(payload).answer(Ok(Rows::none()), &mut Wakes::default());
    }

    fn is_sequential(&self) -> bool {
        false
    }

    fn unasked(&self) -> Bytes {
        Bytes::new()
    }

    fn encode(&self, payload: Bytes, _: Answer, _: Time, out: &mut BytesMut) {
        if &payload[..] == b"encode" {
            stumble();
        }
        let Ok(()) = append_frame(out, OpCode::Text, |out| {
            out.extend_from_slice(&payload);
            Ok::<_, std::convert::Infallible>(())
        });
    }

    fn abandon(&self, _: Bytes) {}
}

#[tokio::test]
async fn ends_it_with_1011_and_no_other() {
    let limits = Limits {
        max_message_size: 1024,
        max_frame_size: 0,
        window: 8,
        keepalive: Keepalive { interval: Duration::ZERO, idle: Duration::ZERO },
        patience: Patience::default(),
    };
    for fault in ["receive", "encode"] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (_phase, phases) = watch::channel(Phase::Open);
        let serving = tokio::spawn(async move {
            let (read, write) = tokio::io::split(far);
            serve(read, write, &Clumsy, limits, &Metrics::new().unwrap(), phases, &Arc::default()).await
        });
        let mut client = Client { pipe: near, buffer: BytesMut::new() };
        client.send(OpCode::Binary, b"well").await;
        assert_eq!(client.next().await.as_deref(), Some("well"));
        client.send(OpCode::Binary, fault.as_bytes()).await;
        let close = client.next().await;
        assert_eq!(close.as_deref(), Some("close 1011 the server failed on this connection"), "{fault}");
        drop(client);
        assert_eq!(serving.await.unwrap(), 1011);
    }
}
