//! From an HTTP request to a WebSocket.

use fastwebsockets::upgrade::UpgradeFut;
use http_body_util::Empty;
use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

use bytes::Bytes;

use crate::error::{Code, Error, Result};

/// What reads from an upgraded connection: the bytes that came behind the handshake, then the socket.
pub type Reader<R> = tokio::io::Chain<std::io::Cursor<Bytes>, R>;

/// The two directions of an upgraded connection. Those of a socket need no lock between them; those of TLS do.
pub enum Halves {
    Plain(Reader<OwnedReadHalf>, OwnedWriteHalf),
    Tls(Reader<ReadHalf<TlsStream<TcpStream>>>, WriteHalf<TlsStream<TcpStream>>),
}

/// Whether the request wants a WebSocket. An offer of another protocol (some clients offer `h2c` with every
/// request) may be passed over, and is (RFC 9110, section 7.8).
pub fn is_upgrade<B>(request: &Request<B>) -> bool {
    has_token(request.headers(), &UPGRADE, "websocket")
}

/// Checks the handshake (RFC 6455, section 4.2.1) and prepares its answer.
pub fn accept<B: Body>(request: &mut Request<B>) -> Result<(Response<Empty<Bytes>>, UpgradeFut)> {
    let invalid = |why: &'static str| Err(Error::new(Code::InvalidUpgrade, why));
    if request.method() != Method::GET {
        return Err(Error::new(Code::MethodNotAllowed, "a WebSocket handshake is a GET request"));
    }
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return invalid("a WebSocket handshake is an HTTP/1.1 request");
    }
    // Its bytes would stand where the first frame is expected.
    if !request.body().is_end_stream() {
        return invalid("a WebSocket handshake has no body");
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return invalid("the header Connection must name Upgrade; a proxy may have removed it");
    }
    if headers.get("sec-websocket-version").is_none_or(|version| version != "13") {
        return Err(Error::new(Code::UpgradeRequired, "Sec-WebSocket-Version must be 13"));
    }
    // 16 bytes in base64 are 24 characters, of which the last two pad.
    let key_fits = |key: &[u8]| {
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_base64)
    };
    if !headers.get("sec-websocket-key").is_some_and(|key| key_fits(key.as_bytes())) {
        return invalid("Sec-WebSocket-Key must be 16 bytes in base64");
    }
    fastwebsockets::upgrade::upgrade(request)
        .map_err(|error| Error::new(Code::InvalidUpgrade, format!("the handshake is not valid: {error}")))
}

/// The connection's halves, once the answer to the handshake has been sent.
pub async fn halves(upgrade: UpgradeFut) -> Option<Halves> {
    let upgraded: Upgraded = upgrade.await.ok()?.into_inner().into_inner();
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let (read, write) = parts.io.into_inner().into_split();
            Some(Halves::Plain(behind(parts.read_buf, read), write))
        }
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
            let (read, write) = tokio::io::split(parts.io.into_inner());
            Some(Halves::Tls(behind(parts.read_buf, read), write))
        }
    }
}

fn behind<R: AsyncRead>(first: Bytes, rest: R) -> Reader<R> {
    tokio::io::AsyncReadExt::chain(std::io::Cursor::new(first), rest)
}

/// Whether a header that lists tokens has this one.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}
