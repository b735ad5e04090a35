//! TLS to a server whoever it is: for asking the one beside us whether it is well, and for nothing that is secret.

use std::net::TcpStream;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, Error, StreamOwned};

use crate::bench::{Trust, client_config};

pub fn client(socket: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>, Error> {
    let config = client_config(&Trust::Anyone)?;
    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, socket))
}
