//! TLS with rustls: a certificate and its key from files, and handshakes.
//!
//! The server proves who it is; clients prove who they are with keys (`access`), not with certificates.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

use super::expiry::not_after;
use super::watched::{BadFile, Content, Watched};
use crate::metrics::Metrics;

/// What a server proves itself with.
pub struct Tls {
    config: Watched<ServerConfig, 2>,
}

impl Tls {
    pub fn new(certificate: &Path, key: &Path, metrics: Arc<Metrics>) -> Result<Self, BadFile> {
        let paths = [certificate.to_owned(), key.to_owned()];
        let make = move |files: &[Content; 2], _: Option<&ServerConfig>| {
            let (config, expires) = config(files)?;
            metrics.certificate_expires(expires);
            Ok(config)
        };
        Ok(Self { config: Watched::new("certificate", paths, make)? })
    }

    pub fn look(&self) {
        self.config.look();
    }

    /// Shakes hands. On failure the client has been sent an alert where there is one for it.
    pub async fn accept(
        &self,
        socket: TcpStream,
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let acceptor = TlsAcceptor::from(self.config.get());
        match tokio::time::timeout(patience, acceptor.accept(socket)).await {
            Ok(accepted) => accepted.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure { reason: "timeout", why: "it took too long".to_owned() }),
        }
    }
}

/// Why there was no handshake.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// As metrics count it: one of a few.
    pub reason: &'static str,
    pub why: String,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        let reason = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            // A client that does not trust the certificate, most often.
            Some(rustls::Error::AlertReceived(_)) => "refused",
            Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => "incompatible",
            Some(_) => "invalid",
            None => "gone",
        };
        Self { reason, why: error.to_string() }
    }
}

/// What to shake hands with, and until when the certificate is good.
fn config([certificate, key]: &[Content; 2]) -> Result<(ServerConfig, Option<u64>), BadFile> {
    let chain = chain(certificate)?;
    let expires = chain.first().and_then(|first| not_after(first));
    let private = private_key(key)?;
    let refuse = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            key.bad(format!("is not the key of the certificate in {}", certificate.path.display()))
        }
        rustls::Error::InvalidCertificate(error) => {
            certificate.bad(format!("its first certificate cannot be used: {error:?}"))
        }
        error => key.bad(format!("cannot be used: {error}")),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(refuse)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, expires))
}

fn chain(file: &Content) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let chain = CertificateDer::pem_slice_iter(&file.bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| file.bad(not_pem(&error)))?;
    if chain.is_empty() {
        return Err(file.bad("holds no certificate; it should begin with `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(chain)
}

fn private_key(file: &Content) -> Result<PrivateKeyDer<'static>, BadFile> {
    // Both forms say so: `BEGIN ENCRYPTED PRIVATE KEY`, and `Proc-Type: 4,ENCRYPTED`.
    if file.bytes.windows(9).any(|word| word == b"ENCRYPTED") {
        let why = "is encrypted, and there is nobody to ask for its password; decrypt it with `openssl pkey`";
        return Err(file.bad(why));
    }
    PrivateKeyDer::from_pem_slice(&file.bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            file.bad("holds no private key; it should have a line `-----BEGIN PRIVATE KEY-----`")
        }
        error => file.bad(not_pem(&error)),
    })
}

/// Without what stands in the file: it may be a secret.
fn not_pem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is cut short: a line `-----END …-----` is missing",
        pem::Error::Base64Decode(_) => {
            "is damaged: between its BEGIN and its END stands something that is not base64"
        }
        _ => "is no PEM file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(certificate: &str, key: &str, expect: Expect) {
        let content = |path: &str, text: &str| Content { path: path.into(), bytes: text.into() };
        let outcome = match config(&[content("tls.crt", certificate), content("tls.key", key)]) {
            Ok(_) => "good".to_owned(),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&outcome);
    }

    #[test]
    fn files_are_checked() {
        let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, two) = (make(), make());
        let (certificate, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        check(&certificate, &key, expect!["good"]);
        let chain = format!("# a comment\n{certificate}\n{}", two.cert.pem());
        check(&chain, &key, expect!["good"]);
        check(
            &certificate,
            &two.signing_key.serialize_pem(),
            expect!["tls.key: is not the key of the certificate in tls.crt"],
        );
        check(
            "",
            &key,
            expect!["tls.crt: holds no certificate; it should begin with `-----BEGIN CERTIFICATE-----`"],
        );
        check(
            &key,
            &certificate,
            expect!["tls.crt: holds no certificate; it should begin with `-----BEGIN CERTIFICATE-----`"],
        );
        check(
            &certificate,
            &certificate,
            expect!["tls.key: holds no private key; it should have a line `-----BEGIN PRIVATE KEY-----`"],
        );
        check(
            &certificate,
            &key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
            expect![
                "tls.key: is encrypted, and there is nobody to ask for its password; decrypt it with `openssl pkey`"
            ],
        );
        check(
            &certificate,
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
            expect![
                "tls.key: is encrypted, and there is nobody to ask for its password; decrypt it with `openssl pkey`"
            ],
        );
        check(
            &certificate[..certificate.len() - 40],
            &key,
            expect!["tls.crt: is cut short: a line `-----END …-----` is missing"],
        );
        check(
            &certificate.replace("MII", "M!I"),
            &key,
            expect!["tls.crt: is damaged: between its BEGIN and its END stands something that is not base64"],
        );
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(other, &key, expect!["tls.crt: its first certificate cannot be used: BadEncoding"]);
        check(
            &certificate,
            &other.replace("CERTIFICATE", "PRIVATE KEY"),
            expect![
                "tls.key: cannot be used: unexpected error: failed to parse private key as RSA, ECDSA, or EdDSA"
            ],
        );
    }
}
