//! An S3-compatible object store: object_store knows credentials, lists and signatures, and asks through the same
//! HTTP client as all else here. Objects themselves are fetched like any other file, from signed addresses.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpService,
};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::signer::{HeaderMap, HeaderName, HeaderValue, Method, SignedUrlOptions, Signer};
use object_store::{BackoffConfig, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use super::address::{Objects, host};
use super::http::{Client, Refusal, printable, refusal};
use super::{RemoteError, S3};

/// What is asked for with an object: S3 then tells its checksum, where it has one.
pub(super) const SIGNED: &[(&str, &str)] = &[("x-amz-checksum-mode", "ENABLED")];
/// For how long a signed address holds: to begin with a file, not to end.
const HOLDS: Duration = Duration::from_secs(15 * 60);
/// Of a list's page, a thousand names of a thousand letters.
const LARGEST_ANSWER: u64 = 16 << 20;
/// How long the machine's own service for credentials may take: where there is none, nobody answers.
const METADATA: Duration = Duration::from_secs(2);

/// The variables of AWS that mean something here, beside the endpoint.
const VARIABLES: &[&str] = &[
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region",
    "aws_default_region",
    "aws_role_arn",
    "aws_role_session_name",
    "aws_web_identity_token_file",
    "aws_endpoint_url_sts",
    "aws_container_credentials_relative_uri",
    "aws_container_credentials_full_uri",
    "aws_container_authorization_token_file",
    "aws_metadata_endpoint",
    "aws_request_payer",
];

impl S3 {
    /// Where the bucket is, whether it is a part of the host's name or of the path.
    pub(super) fn endpoint_for(&self, bucket: &str) -> String {
        let variable = |name: &str| self.variables.get(name).filter(|value| !value.is_empty());
        let given = Some(&self.endpoint).filter(|endpoint| !endpoint.is_empty());
        let given =
            given.or_else(|| variable("aws_endpoint_url_s3")).or_else(|| variable("aws_endpoint_url"));
        let region = variable("aws_region").or_else(|| variable("aws_default_region"));
        let region = region.map_or("us-east-1", String::as_str);
        let endpoint = given.cloned().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = endpoint.trim_end_matches('/');
        let operators = [".amazonaws.com", ".amazonaws.com.cn", ".myhuaweicloud.com", ".myhuaweicloud.eu"];
        // A dot in the bucket's name would not fit their certificates.
        let usual = || !bucket.contains('.') && operators.iter().any(|end| host(endpoint).ends_with(end));
        match endpoint.split_once("://") {
            Some((scheme, rest)) if self.virtual_hosted.unwrap_or_else(usual) => {
                format!("{scheme}://{bucket}.{rest}")
            }
            _ => format!("{endpoint}/{bucket}"),
        }
    }
}

/// What a list tells of an object.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub key: String,
    pub size: u64,
    pub etag: Option<String>,
    pub modified: i64,
}

#[derive(Debug)]
pub(super) struct Store {
    s3: AmazonS3,
    /// The last request's failure, which object_store wraps in sentences of its own.
    failure: Arc<Mutex<Option<Refusal>>>,
    runtime: Runtime,
}

impl Store {
    pub fn open(objects: &Objects, s3: &S3, client: &Client) -> Result<Self, RemoteError> {
        let shown = format!("s3://{}/{}", objects.bucket, objects.prefix);
        let cannot = |error: object_store::Error| RemoteError::refused(&shown, error.to_string());
        let failure = Arc::<Mutex<Option<Refusal>>>::default();
        let through = Through { client: client.clone(), failure: Arc::clone(&failure) };
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: METADATA };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&objects.bucket)
            .with_http_connector(through)
            .with_retry(retry)
            // The bucket is in the endpoint, whichever way.
            .with_virtual_hosted_style_request(true)
            .with_endpoint(s3.endpoint_for(&objects.bucket))
            .with_allow_http(true);
        for name in VARIABLES {
            if let Some(value) = s3.variables.get(*name).filter(|value| !value.is_empty()) {
                builder = builder.with_config(name.parse::<AmazonS3ConfigKey>().map_err(cannot)?, value);
            }
        }
        let s3 = builder.build().map_err(cannot)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| RemoteError::refused(&shown, error.to_string()))?;
        Ok(Self { s3, failure, runtime })
    }

    /// What is below a prefix; one more than `most` at the most.
    pub fn list(&self, prefix: &str, most: usize) -> Result<Vec<Object>, Refusal> {
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        let mut found = Vec::new();
        let mut page_token = None;
        loop {
            let options =
                PaginatedListOptions { page_token: page_token.take(), ..PaginatedListOptions::default() };
            let page = self.ask(self.s3.list_paginated(prefix, options))?;
            found.extend(page.result.objects.into_iter().map(|object| Object {
                key: object.location.to_string(),
                size: object.size,
                etag: object.e_tag,
                modified: object.last_modified.timestamp(),
            }));
            page_token = page.page_token;
            if page_token.is_none() || found.len() > most {
                return Ok(found);
            }
        }
    }

    /// An address from which an object can be had for a while, with the headers in `SIGNED`.
    pub fn signed(&self, key: &str) -> Result<String, Refusal> {
        let path = Path::parse(key).map_err(|error| Refusal::Final(error.to_string()))?;
        let headers: HeaderMap = SIGNED
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let mut options = SignedUrlOptions::default();
        options.signed_headers = headers;
        let url = self.ask(self.s3.signed_url_opts(Method::GET, &path, HOLDS, &options))?;
        Ok(url.to_string())
    }

    fn ask<T>(&self, question: impl Future<Output = object_store::Result<T>>) -> Result<T, Refusal> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.runtime.block_on(question).map_err(|error| {
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            failure.unwrap_or_else(|| Refusal::Final(error.to_string()))
        })
    }
}

/// Requests of object_store, made with the client that all else is fetched with. It blocks: the runtime that waits
/// for it has nothing else to do.
#[derive(Debug, Clone)]
struct Through {
    client: Client,
    failure: Arc<Mutex<Option<Refusal>>>,
}

impl HttpConnector for Through {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Through {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().to_string();
        // The addresses at which clouds tell a machine its credentials.
        let of_machine = ["169.254.", "fd00:ec2:"].iter().any(|begin| host(&uri).starts_with(begin));
        let answer = self.answer(request, of_machine);
        let refusal = match &answer {
            Ok(response) if response.status().is_success() => {
                return answer.map(|answer| answer.map(Into::into)).map_err(failed);
            }
            _ if of_machine => Refusal::Final(
                "no credentials are set, and this machine has none of its own: set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or s3_credentials"
                    .to_owned(),
            ),
            Ok(response) => told(response.status().as_u16(), response.body()),
            Err(error) => error.clone(),
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        answer.map(|answer| answer.map(Into::into)).map_err(failed)
    }
}

impl Through {
    fn answer(
        &self,
        request: HttpRequest,
        of_machine: bool,
    ) -> Result<ureq::http::Response<Vec<u8>>, Refusal> {
        let (parts, body) = request.into_parts();
        let body = body.as_bytes().map(|bytes| bytes.to_vec()).unwrap_or_default();
        let agent = self.client.agent();
        let timeout = of_machine.then_some(METADATA);
        let answer = if body.is_empty() {
            let request = ureq::http::Request::from_parts(parts, ());
            agent.run(agent.configure_request(request).timeout_global(timeout).build())
        } else {
            let request = ureq::http::Request::from_parts(parts, body);
            agent.run(agent.configure_request(request).timeout_global(timeout).build())
        };
        let (parts, body) = answer.map_err(refusal)?.into_parts();
        let mut bytes = Vec::new();
        let read = body.into_reader().take(LARGEST_ANSWER).read_to_end(&mut bytes);
        read.map_err(|error| Refusal::Again(error.to_string()))?;
        Ok(ureq::http::Response::from_parts(parts, bytes))
    }
}

fn failed(refusal: Refusal) -> HttpError {
    let (Refusal::Again(why) | Refusal::Final(why)) = refusal else {
        return HttpError::new(HttpErrorKind::Unknown, std::io::Error::other("not found"));
    };
    HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(why))
}

/// What a store's refusal means, and what to do.
fn told(status: u16, body: &[u8]) -> Refusal {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = code.map_or_else(String::new, |(code, _)| printable(code));
    let hint = match &*code {
        "NoSuchBucket" => "there is no such bucket at this endpoint",
        "InvalidAccessKeyId" => "nobody has this access key; see AWS_ACCESS_KEY_ID, or s3_credentials",
        "SignatureDoesNotMatch" => {
            "the secret key does not fit the access key; see AWS_SECRET_ACCESS_KEY, or s3_credentials"
        }
        "InvalidToken" | "ExpiredToken" => {
            "the session token does not hold, or no longer; see AWS_SESSION_TOKEN"
        }
        "AccessDenied" => {
            "these credentials may not list the bucket; they need s3:ListBucket and s3:GetObject"
        }
        "RequestTimeTooSkewed" => "the clock of this machine is wrong",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            "the bucket is in another region; see s3_region"
        }
        "VirtualHostDomainRequired" => "the store wants s3_addressing to be virtual",
        _ => "",
    };
    let mut said = format!("the store answers {status}");
    if !code.is_empty() {
        said = format!("{said} ({code})");
    }
    if !hint.is_empty() {
        said = format!("{said}: {hint}");
    }
    match status {
        408 | 425 | 429 | 500..=599 => Refusal::Again(said),
        _ => Refusal::Final(said),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(
        endpoint: &str,
        virtual_hosted: Option<bool>,
        variables: &[(&str, &str)],
        bucket: &str,
        expect: Expect,
    ) {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let s3 = S3 { endpoint: endpoint.to_owned(), virtual_hosted, variables: variables.collect() };
        expect.assert_eq(&s3.endpoint_for(bucket));
    }

    #[test]
    fn a_bucket_has_its_place_in_the_address() {
        check("", None, &[], "b", expect!["https://b.s3.us-east-1.amazonaws.com"]);
        check("", None, &[("aws_region", "eu-west-1")], "b", expect!["https://b.s3.eu-west-1.amazonaws.com"]);
        check("", None, &[], "b.c", expect!["https://s3.us-east-1.amazonaws.com/b.c"]);
        let obs = "https://obs.cn-north-4.myhuaweicloud.com/";
        check(obs, None, &[], "b", expect!["https://b.obs.cn-north-4.myhuaweicloud.com"]);
        check(obs, Some(false), &[], "b", expect!["https://obs.cn-north-4.myhuaweicloud.com/b"]);
        check("http://minio:9000", None, &[], "b", expect!["http://minio:9000/b"]);
        check("http://minio:9000", Some(true), &[], "b", expect!["http://b.minio:9000"]);
        let both = [("aws_endpoint_url", "https://a"), ("aws_endpoint_url_s3", "https://s")];
        check("", None, &both, "b", expect!["https://s/b"]);
        check("https://x", None, &both, "b", expect!["https://x/b"]);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let check = |status, body: &str, expect: Expect| {
            expect.assert_eq(&format!("{:?}", told(status, body.as_bytes())))
        };
        check(503, "", expect![[r#"Again("the store answers 503")"#]]);
        check(
            404,
            "<Error><Code>NoSuchBucket</Code></Error>",
            expect![[
                r#"Final("the store answers 404 (NoSuchBucket): there is no such bucket at this endpoint")"#
            ]],
        );
        check(403, "<Code>New\nOne</Code>", expect![[r#"Final("the store answers 403 (NewOne)")"#]]);
    }
}
