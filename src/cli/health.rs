//! `thalweg health`: a health check that needs no other program in the container.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Failure, unverified};

#[derive(Args)]
pub struct Health {
    /// Address of the server
    #[arg(long, env = "THALWEG_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: String,
    /// If the server has one, it is asked over TLS
    #[arg(long, env = "THALWEG_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Seconds to wait for its answer
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    timeout: u64,
}

impl Health {
    pub fn run(self) -> Result<(), Failure> {
        let timeout = Duration::from_secs(self.timeout.max(1));
        let address = self.address()?;
        let socket = TcpStream::connect_timeout(&address, timeout)
            .map_err(|error| format!("no server answers at {address}: {error}"))?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        let reply = match self.tls_certificate {
            Some(_) => ask(unverified::client(socket)?, address),
            None => ask(socket, address),
        };
        let reply = reply.map_err(|error| format!("the server at {address} gives no answer: {error}"))?;
        let status = reply.lines().next().unwrap_or_default();
        println!("{status}");
        match status.split(' ').nth(1) {
            Some("200") => Ok(()),
            _ => Err(format!("the server at {address} is not ready").into()),
        }
    }

    /// A server that listens on all addresses is asked on the loopback one.
    fn address(&self) -> Result<SocketAddr, Failure> {
        let unknown = || format!("--listen: '{}' is no address and port", self.listen);
        let mut address = self.listen.to_socket_addrs().map_err(|_| unknown())?.next().ok_or_else(unknown)?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok(address)
    }
}

/// The answer, as much of it as there is before the end.
fn ask(mut stream: impl Read + Write, address: SocketAddr) -> std::io::Result<String> {
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut reply = String::new();
    stream.take(64 << 10).read_to_string(&mut reply)?;
    Ok(reply)
}
