//! Connections to the server: plain or TLS, as WebSockets or for one HTTP request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::http::{Reply, head_length, status};
use super::judge::{Judge, Naming, Said};
use super::plan::Address;
use super::{Failure, tls};

/// A server that takes no connection, or answers nothing, is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that is not part of the load.
const LONGEST: usize = 64 << 20;

/// Bytes to the server and back.
pub enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a WebSocket did not open: an error's code, and a sentence.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub code: String,
    pub why: String,
}

/// Opens connections to one server.
#[derive(Clone)]
pub struct Dialer {
    /// Those of the name; the first one that takes a connection is asked.
    addresses: Vec<SocketAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The lines that all requests have, with their ends.
    headers: String,
}

impl Dialer {
    pub async fn new(address: &Address) -> Result<Self, Failure> {
        let Address { host, port, trust, headers } = address;
        let unknown = |error: io::Error| format!("{host}:{port} has no address: {error}");
        let found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(unknown)?;
        let tls = match trust {
            Some(trust) => {
                let connector = TlsConnector::from(Arc::new(tls::config(trust)?));
                Some((connector, ServerName::try_from(host.clone())?))
            }
            None => None,
        };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut lines = format!("Host: {shown}:{port}\r\n");
        for header in headers {
            if header.contains(['\r', '\n']) || !header.contains(':') {
                return Err(format!("--header: '{header}' is not of the form 'Name: value'").into());
            }
            lines += &format!("{header}\r\n");
        }
        Ok(Self { addresses: found.collect(), tls, headers: lines })
    }

    pub fn headers(&self) -> &str {
        &self.headers
    }

    pub async fn connect(&self) -> Result<Socket, Refusal> {
        let connecting = async {
            let socket = TcpStream::connect(&self.addresses[..]).await?;
            socket.set_nodelay(true)?;
            Ok::<_, io::Error>(match &self.tls {
                Some((connector, name)) => {
                    Socket::Tls(Box::new(connector.connect(name.clone(), socket).await?))
                }
                None => Socket::Plain(socket),
            })
        };
        let refused = |why: String| Refusal { code: "connect_failed".into(), why };
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(connected) => connected.map_err(|error| refused(format!("{:?}: {error}", self.addresses))),
            Err(_) => Err(refused(format!("{:?} takes no connection", self.addresses))),
        }
    }

    /// A WebSocket at a path, and what has come behind the handshake.
    pub async fn open(&self, path: &str) -> Result<(Socket, Vec<u8>), Refusal> {
        let mut socket = self.connect().await?;
        let failed = |why: String| Refusal { code: "handshake_failed".into(), why };
        let opening = async {
            let handshake = format!(
                "GET {path} HTTP/1.1\r\n{}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                self.headers
            );
            socket.write_all(handshake.as_bytes()).await?;
            socket.flush().await?;
            let mut bytes = Vec::new();
            loop {
                if socket.read_buf(&mut bytes).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                let Some(head) = head_length(&bytes) else { continue };
                let first = bytes.get(..head).map(String::from_utf8_lossy).unwrap_or_default();
                let status = first.lines().next().and_then(status).unwrap_or_default();
                if status == 101 {
                    return Ok((status, bytes.split_off(head)));
                }
                match Reply::parse(&bytes) {
                    Ok(None) => {}
                    Ok(Some(reply)) => {
                        return Ok((status, bytes.get(reply.body).unwrap_or_default().to_vec()));
                    }
                    Err(_) => return Ok((status, Vec::new())),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, opening).await {
            Ok(Ok((101, rest))) => Ok((socket, rest)),
            Ok(Ok((status, body))) => {
                let code = match Judge::new(Naming::Id).read(&body) {
                    Said::Failed(code, _) if code != "error" => code.to_owned(),
                    _ => format!("http_{status}"),
                };
                let why = format!("{path} is refused with {status}: {}", String::from_utf8_lossy(&body));
                Err(Refusal { code, why })
            }
            Ok(Err(error)) => Err(failed(format!("{path}: {error}"))),
            Err(_) => Err(failed(format!("{path}: no answer to the handshake"))),
        }
    }

    /// Asks for something once.
    pub async fn get(&self, path: &str) -> Result<(u16, Vec<u8>), Failure> {
        let request = format!("GET {path} HTTP/1.1\r\n{}Connection: close\r\n\r\n", self.headers);
        self.ask(request.as_bytes()).await
    }

    pub async fn ask(&self, request: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
        let mut socket = self.connect().await.map_err(|refusal| refusal.why)?;
        let asking = async {
            socket.write_all(request).await?;
            socket.flush().await?;
            let mut bytes = Vec::new();
            while bytes.len() < LONGEST {
                if socket.read_buf(&mut bytes).await? == 0 {
                    break;
                }
                if let Some(reply) = Reply::parse(&bytes)? {
                    return Ok((reply.status, bytes.get(reply.body).unwrap_or_default().to_vec()));
                }
            }
            Err("no whole answer".into())
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err("no answer".into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
