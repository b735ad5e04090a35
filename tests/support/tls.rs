//! Certificates, and a way for clients without TLS to a server with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use thalweg::config::RawSettings;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// A certificate for `localhost`, signed by nobody else.
#[derive(Clone)]
pub struct Certificate {
    pub pem: String,
    pub key: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Self { pem, key, der: made.cert.der().clone() }
    }

    /// Writes it where a server with [`Certificate::settings`] reads it.
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("tls.crt"), &self.pem).unwrap();
        std::fs::write(folder.join("tls.key"), &self.key).unwrap();
    }

    pub fn settings(folder: &Path) -> RawSettings {
        let file = |name: &str| -> Option<PathBuf> { Some(folder.join(name)) };
        RawSettings { tls_certificate: file("tls.crt"), tls_key: file("tls.key"), ..RawSettings::default() }
    }

    /// A client that trusts this certificate and no other.
    pub fn trusting(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

pub async fn shake_hands(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// An address from which bytes go through TLS to the server's, and back. It is there until the test ends.
pub fn tunnel(server: SocketAddr, certificate: &Certificate) -> SocketAddr {
    let config = certificate.trusting();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let config = config.clone();
                tokio::spawn(async move {
                    let mut far = shake_hands(server, config).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        })
    });
    told.recv().unwrap()
}
