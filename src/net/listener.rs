//! One accepted socket: which of the server's addresses it came to, and whether it speaks what is spoken there.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::route::{ModelRoute, Route};
use super::server::ServerError;
use super::state::State;
use super::tls::Failure;

/// A fatal alert, `handshake_failure`, as every version of TLS understands it.
const ALERT: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 40];

/// How long, and how much, is read of a client that is told to go.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 64 << 10;

/// A TLS connection begins with a record of the type `handshake`; HTTP, with a letter.
const HANDSHAKE: u8 = 0x16;

/// Which of the server's addresses a client has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `listen`, where there is no other.
    Only,
    /// `listen`.
    Main,
    /// `metrics_listen`: for those who watch over the server. It speaks no TLS and asks for no key.
    Side,
}

impl Door {
    /// Whether what a route leads to is behind this door.
    pub fn leads_to(self, route: &Route<'_>) -> bool {
        match self {
            Self::Only => true,
            Self::Main => *route != Route::Metrics,
            Self::Side => !matches!(
                route,
                Route::Root | Route::Model { what: ModelRoute::Infer | ModelRoute::Stream, .. }
            ),
        }
    }
}

/// What a client has turned out to be.
pub enum Guest {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Speaks HTTP where TLS is spoken, and is to be told so.
    Unencrypted(TcpStream),
    /// Has been let go.
    Gone,
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
}

/// Lets a client in as it should be, or tells it and the log what it confuses.
pub async fn receive(socket: TcpStream, peer: SocketAddr, door: Door, state: &State) -> Guest {
    let mut first = [0];
    let patience = state.request_timeout;
    match tokio::time::timeout(patience, socket.peek(&mut first)).await {
        Ok(Ok(1..)) => {}
        _ => return Guest::Gone,
    }
    let tls = state.tls.as_ref().filter(|_| door != Door::Side);
    match (tls, first) {
        (None, [HANDSHAKE]) => {
            tracing::info!(%peer, "a client speaks TLS to the plain port");
            state.metrics.tls_failed("plain_port");
            refuse_tls(socket).await;
            Guest::Gone
        }
        (None, _) => Guest::Plain(socket),
        (Some(_), [first]) if first.is_ascii_alphabetic() => {
            tracing::info!(%peer, "a client speaks plain HTTP to the port of TLS");
            state.metrics.tls_failed("plain_http");
            Guest::Unencrypted(socket)
        }
        (Some(tls), _) => match tls.accept(socket, patience).await {
            Ok(stream) => Guest::Tls(Box::new(stream)),
            Err(Failure { reason, why }) => {
                tracing::debug!(%peer, why, "no TLS handshake");
                state.metrics.tls_failed(reason);
                Guest::Gone
            }
        },
    }
}

/// Says no in TLS, and reads on for a while: a socket that is closed with unread bytes is reset, and the client
/// may never see the alert.
async fn refuse_tls(mut socket: TcpStream) {
    let part = async {
        socket.write_all(&ALERT).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, part).await;
}
