//! The HTTP client that takes spans to the collector.

use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::tls::{RootCerts, TlsConfig};

/// For one attempt, with all that belongs to it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Collectors answer with a few bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Blocks: it is asked on a thread that has nothing else to do.
#[derive(Debug)]
pub struct Client(ureq::Agent);

impl Client {
    pub fn new() -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .user_agent(concat!("thalweg/", env!("CARGO_PKG_VERSION")))
            // A collector is near; a proxy for the way out is not the way to it.
            .proxy(None)
            .tls_config(tls)
            .build();
        Self(config.new_agent())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.0.run(request.map(|body| body.to_vec()))?;
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(answer.map(|_| Bytes::from(body)))
    }
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(ready(self.send(request)))
    }
}
