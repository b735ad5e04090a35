//! Every setting, declared once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{ByteSize, ConfigError, OptionalAddress};

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)+)])? $name:ident / $env:literal : $type:ty = $default:expr;)+) => {
        /// Settings as given: what is absent has its default. The same fields are flags, variables of the
        /// environment and keys of the TOML file.
        #[derive(Debug, Default, Clone, PartialEq, Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct RawSettings {
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $env, $($($arg)+)?)]
                pub $name: Option<$type>,
            )+
        }

        /// Settings that are complete.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl RawSettings {
            /// The variables of the environment that are settings.
            pub const VARIABLES: &[&str] = &[$($env,)+];

            /// These settings, completed by others that give way to them.
            #[must_use]
            pub fn or(self, others: Self) -> Self {
                Self { $($name: self.$name.or(others.$name),)+ }
            }

            fn complete(self) -> Settings {
                Settings { $($name: self.$name.unwrap_or_else(|| $default),)+ }
            }
        }
    };
}

settings! {
    /// Address to listen on; port 0 picks a free one and prints it [default: 127.0.0.1:8080]
    #[arg(value_name = "ADDRESS:PORT")]
    listen / "THALWEG_LISTEN": SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
    /// A second address, for health, metrics and what the server tells of itself, plain and without keys;
    /// /metrics is then only there [default: none]
    #[arg(value_name = "ADDRESS:PORT")]
    metrics_listen / "THALWEG_METRICS_LISTEN": OptionalAddress = OptionalAddress(None);
    /// Certificate in PEM, with the chain behind it: `listen` speaks TLS [default: none]
    #[arg(value_name = "FILE")]
    tls_certificate / "THALWEG_TLS_CERTIFICATE": PathBuf = PathBuf::new();
    /// The certificate's private key in PEM [default: none]
    #[arg(value_name = "FILE")]
    tls_key / "THALWEG_TLS_KEY": PathBuf = PathBuf::new();
    /// TOML file of keys: who has none of them is refused [default: none]
    #[arg(value_name = "FILE")]
    access_file / "THALWEG_ACCESS_FILE": PathBuf = PathBuf::new();
    /// Folders of models, or addresses (https://HOST/ARCHIVE, s3://BUCKET/PREFIX) that they are fetched from, several
    /// by repeating the flag or with commas [default: models]
    #[arg(value_name = "FOLDER", value_delimiter = ',')]
    model_repository / "THALWEG_MODEL_REPOSITORY": Vec<PathBuf> = vec![PathBuf::from("models")];
    /// Folder that keeps models which were fetched [default: thalweg in the user's cache]
    #[arg(value_name = "FOLDER")]
    model_cache / "THALWEG_MODEL_CACHE": PathBuf = super::aws::user_cache();
    /// Largest repository that is fetched, packed and unpacked [default: 16GiB]
    #[arg(value_name = "SIZE")]
    max_repository_size / "THALWEG_MAX_REPOSITORY_SIZE": ByteSize = ByteSize(16 << 30);
    /// Seconds for which a server that models are fetched from may be silent [default: 30]
    #[arg(value_name = "SECONDS")]
    fetch_timeout / "THALWEG_FETCH_TIMEOUT": u64 = 30;
    /// Address of the object store that s3:// means [default: AWS]
    #[arg(value_name = "URL")]
    s3_endpoint / "THALWEG_S3_ENDPOINT": String = String::new();
    /// Region of the object store [default: AWS_REGION, or us-east-1]
    #[arg(value_name = "REGION")]
    s3_region / "THALWEG_S3_REGION": String = String::new();
    /// Whether the bucket is in the object store's host name or in the path [default: auto]
    #[arg(value_enum)]
    s3_addressing / "THALWEG_S3_ADDRESSING": Addressing = Addressing::Auto;
    /// Folder of a mounted secret, or AWS' file of credentials [default: the variables of AWS, or ~/.aws]
    #[arg(value_name = "PATH")]
    s3_credentials / "THALWEG_S3_CREDENTIALS": PathBuf = PathBuf::new();
    /// Model served on `/` [default: the only model, or the only one with `[stream.bytes]`]
    #[arg(value_name = "MODEL")]
    default_model / "THALWEG_DEFAULT_MODEL": String = String::new();
    /// Where models run that do not say so: auto is a GPU if there is one that fits [default: auto]
    #[arg(value_enum)]
    device / "THALWEG_DEVICE": DeviceKind = DeviceKind::Auto;
    /// ONNX Runtime's shared library [default: the one that was fetched]
    #[arg(value_name = "FILE")]
    onnxruntime / "THALWEG_ONNXRUNTIME": PathBuf = PathBuf::new();
    /// Folder that keeps compiled GPU kernels; it may be read-only [default: runtime/kernels]
    #[arg(value_name = "FOLDER")]
    kernel_cache / "THALWEG_KERNEL_CACHE": PathBuf = PathBuf::from("runtime/kernels");
    /// Threads that serve sockets [default: one for each core]
    #[arg(value_name = "COUNT")]
    threads / "THALWEG_THREADS": usize = std::thread::available_parallelism().map_or(1, usize::from);
    /// Largest message or HTTP body [default: 16MiB]
    #[arg(value_name = "SIZE")]
    max_message_size / "THALWEG_MAX_MESSAGE_SIZE": ByteSize = ByteSize(16 << 20);
    /// Requests of one connection that may be unanswered; past it the socket is not read [default: 128]
    #[arg(value_name = "COUNT")]
    max_requests_per_connection / "THALWEG_MAX_REQUESTS_PER_CONNECTION": usize = 128;
    /// Memory that the payloads of waiting requests may fill, in all [default: 1GiB]
    #[arg(value_name = "SIZE")]
    max_request_memory / "THALWEG_MAX_REQUEST_MEMORY": ByteSize = ByteSize(1 << 30);
    /// Seconds that a client may take to send its HTTP request [default: 30]
    #[arg(value_name = "SECONDS")]
    request_timeout / "THALWEG_REQUEST_TIMEOUT": u64 = 30;
    /// Seconds between pings of a WebSocket; a client that answers none is given up; 0: none [default: 15]
    #[arg(value_name = "SECONDS")]
    ping_interval / "THALWEG_PING_INTERVAL": u64 = 15;
    /// Seconds for which a WebSocket may send no message before it is closed; 0: for ever [default: 0]
    #[arg(value_name = "SECONDS")]
    idle_timeout / "THALWEG_IDLE_TIMEOUT": u64 = 0;
    /// Seconds that a message may take to come, from its first byte; 0: for ever [default: 60]
    #[arg(value_name = "SECONDS")]
    read_timeout / "THALWEG_READ_TIMEOUT": u64 = 60;
    /// Seconds within which a WebSocket must take an answer, once it is sent; 0: for ever [default: 60]
    #[arg(value_name = "SECONDS")]
    write_timeout / "THALWEG_WRITE_TIMEOUT": u64 = 60;
    /// Messages to a WebSocket leave in fragments of this size; 0: never [default: 64KiB]
    #[arg(value_name = "SIZE")]
    max_frame_size / "THALWEG_MAX_FRAME_SIZE": ByteSize = ByteSize(64 << 10);
    /// WebSockets that may be open [default: 16384]
    #[arg(value_name = "COUNT")]
    max_connections / "THALWEG_MAX_CONNECTIONS": usize = 16_384;
    /// WebSockets that one address may have open; 0: as many as there may be in all [default: 0]
    #[arg(value_name = "COUNT")]
    max_connections_per_address / "THALWEG_MAX_CONNECTIONS_PER_ADDRESS": usize = 0;
    /// Seconds after which a WebSocket is closed, whatever it does; 0: never [default: 0]
    #[arg(value_name = "SECONDS")]
    max_connection_age / "THALWEG_MAX_CONNECTION_AGE": u64 = 0;
    /// Seconds for open connections to end once the server is told to; streams are told, and may go on [default: 60]
    #[arg(value_name = "SECONDS")]
    grace_period / "THALWEG_GRACE_PERIOD": u64 = 60;
    /// Seconds that a model's run may take before its requests are answered without it; 0: for ever [default: 60]
    #[arg(value_name = "SECONDS")]
    run_timeout / "THALWEG_RUN_TIMEOUT": u64 = 60;
    /// OpenTelemetry collector that gets spans over OTLP/HTTP, such as http://collector:4318 [default: none]
    #[arg(value_name = "URL")]
    otlp_endpoint / "OTEL_EXPORTER_OTLP_ENDPOINT": String = String::new();
    /// Name of this service in traces [default: thalweg]
    #[arg(value_name = "NAME")]
    otlp_service_name / "OTEL_SERVICE_NAME": String = "thalweg".to_owned();
    /// Share of requests that are traced; one that comes with a traceparent is as that says [default: 0.01]
    #[arg(value_name = "SHARE")]
    trace_ratio / "OTEL_TRACES_SAMPLER_ARG": f64 = 0.01;
    /// Lines of the access log in a second at the most; 0: none [default: 100]
    #[arg(value_name = "COUNT")]
    access_log / "THALWEG_ACCESS_LOG": u32 = 100;
    /// What is logged: error, warn, info, debug, trace, or directives for single modules [default: info]
    #[arg(value_name = "FILTER")]
    log / "THALWEG_LOG": String = "info".to_owned();
    /// How log lines look [default: text]
    #[arg(value_enum)]
    log_format / "THALWEG_LOG_FORMAT": LogFormat = LogFormat::Text;
}

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A GPU if there is one that fits, else the CPU
    #[default]
    Auto,
    /// The CPU
    Cpu,
    /// NVIDIA GPUs; without one, the start fails
    Cuda,
}

/// Where an object store has the bucket's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// In the host of AWS and of Huawei Cloud, in the path elsewhere
    #[default]
    Auto,
    /// https://ENDPOINT/BUCKET
    Path,
    /// https://BUCKET.ENDPOINT
    Virtual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The variables that tests, the Makefile and `--config` use beside the settings.
const OTHER_VARIABLES: &[&str] = &["THALWEG_CONFIG", "THALWEG_BIN", "THALWEG_SEED"];

/// Fragments that are smaller cost more than they can be good for.
const LEAST_FRAME: ByteSize = ByteSize(1 << 10);

impl RawSettings {
    /// Reads the TOML file; flags and the environment have been read by the command line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let malformed = |why: toml::de::Error| ConfigError::Malformed {
            path: path.to_owned(),
            why: why.to_string().trim_end().to_owned(),
        };
        toml::from_str(&text).map_err(malformed)
    }

    /// A misspelt variable would be ignored in silence; this one is not.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn check_environment() -> Result<(), ConfigError> {
        let known = |name: &str| Self::VARIABLES.contains(&name) || OTHER_VARIABLES.contains(&name);
        let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        match ours.filter(|name| name.starts_with("THALWEG_")).find(|name| !known(name)) {
            Some(name) => Err(ConfigError::UnknownVariable(name)),
            None => Ok(()),
        }
    }

    pub fn validate(self) -> Result<Settings, ConfigError> {
        let settings = self.complete();
        let positive = [
            ("threads", settings.threads),
            ("max_message_size", settings.max_message_size.0),
            ("max_requests_per_connection", settings.max_requests_per_connection),
            ("max_request_memory", settings.max_request_memory.0),
            ("max_connections", settings.max_connections),
            ("max_repository_size", settings.max_repository_size.0),
            ("fetch_timeout", usize::try_from(settings.fetch_timeout).unwrap_or(usize::MAX)),
            ("request_timeout", usize::try_from(settings.request_timeout).unwrap_or(usize::MAX)),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            let wanted = "at least 1 is needed";
            return Err(ConfigError::Invalid { setting, found: "0".into(), wanted });
        }
        let [certificate, key] = [&settings.tls_certificate, &settings.tls_key];
        if certificate.as_os_str().is_empty() != key.as_os_str().is_empty() {
            let (setting, wanted) = match key.as_os_str().is_empty() {
                true => ("tls_key", "a tls_certificate needs its key"),
                false => ("tls_certificate", "a tls_key needs its certificate"),
            };
            return Err(ConfigError::Invalid { setting, found: "nothing".into(), wanted });
        }
        if settings.max_request_memory < settings.max_message_size {
            let found = settings.max_request_memory.to_string();
            let wanted = "it must hold at least one message of max_message_size";
            return Err(ConfigError::Invalid { setting: "max_request_memory", found, wanted });
        }
        if (1..LEAST_FRAME.0).contains(&settings.max_frame_size.0) {
            let found = settings.max_frame_size.to_string();
            let wanted = "a fragment holds at least 1KiB, and 0 is for none";
            return Err(ConfigError::Invalid { setting: "max_frame_size", found, wanted });
        }
        if settings.idle_timeout != 0 && settings.idle_timeout < settings.ping_interval.saturating_mul(2) {
            let found = settings.idle_timeout.to_string();
            let wanted =
                "it is warned of at a ping and ends at the next, so twice ping_interval is the least";
            return Err(ConfigError::Invalid { setting: "idle_timeout", found, wanted });
        }
        if !(0.0..=1.0).contains(&settings.trace_ratio) {
            let found = settings.trace_ratio.to_string();
            return Err(ConfigError::Invalid { setting: "trace_ratio", found, wanted: "it is from 0 to 1" });
        }
        if settings.idle_timeout != 0 && settings.ping_interval == 0 {
            let wanted = "idle_timeout needs pings";
            return Err(ConfigError::Invalid { setting: "ping_interval", found: "0".into(), wanted });
        }
        Ok(settings)
    }
}

impl Settings {
    /// The file of keys, if keys are needed.
    pub fn access(&self) -> Option<&Path> {
        (!self.access_file.as_os_str().is_empty()).then_some(&*self.access_file)
    }

    /// The certificate and the key, if TLS is to be spoken.
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        let given = !self.tls_certificate.as_os_str().is_empty();
        given.then_some((&*self.tls_certificate, &*self.tls_key))
    }

    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(toml: &str, expect: Expect) {
        let outcome = match toml::from_str::<RawSettings>(toml) {
            Err(error) => error.to_string(),
            Ok(raw) => match raw.validate() {
                Err(error) => error.to_string(),
                Ok(settings) => format!("{} {}", settings.listen, settings.max_message_size),
            },
        };
        expect.assert_eq(outcome.trim_end());
    }

    #[test]
    fn files_are_checked() {
        check("", expect!["127.0.0.1:8080 16MiB"]);
        check("listen = '0.0.0.0:1'\nmax_message_size = '1KiB'", expect!["0.0.0.0:1 1KiB"]);
        check(
            "max_frame_size = 100",
            expect!["max_frame_size: 100 was given, a fragment holds at least 1KiB, and 0 is for none"],
        );
        check(
            "tls_key = 'k'",
            expect!["tls_certificate: nothing was given, a tls_key needs its certificate"],
        );
        check(
            "tls_certificate = 'c'",
            expect!["tls_key: nothing was given, a tls_certificate needs its key"],
        );
        check("trace_ratio = 1.5", expect!["trace_ratio: 1.5 was given, it is from 0 to 1"]);
        check("threads = 0", expect!["threads: 0 was given, at least 1 is needed"]);
        check(
            "max_request_memory = 5",
            expect![[
                r"max_request_memory: 5 was given, it must hold at least one message of max_message_size"
            ]],
        );
        check(
            "listn = 'x'",
            expect![[r#"
                TOML parse error at line 1, column 1
                  |
                1 | listn = 'x'
                  | ^^^^^
                unknown field `listn`, expected one of `listen`, `metrics_listen`, `tls_certificate`, `tls_key`, `access_file`, `model_repository`, `model_cache`, `max_repository_size`, `fetch_timeout`, `s3_endpoint`, `s3_region`, `s3_addressing`, `s3_credentials`, `default_model`, `device`, `onnxruntime`, `kernel_cache`, `threads`, `max_message_size`, `max_requests_per_connection`, `max_request_memory`, `request_timeout`, `ping_interval`, `idle_timeout`, `read_timeout`, `write_timeout`, `max_frame_size`, `max_connections`, `max_connections_per_address`, `max_connection_age`, `grace_period`, `run_timeout`, `otlp_endpoint`, `otlp_service_name`, `trace_ratio`, `access_log`, `log`, `log_format`"#]],
        );
    }

    #[test]
    fn earlier_sources_win() {
        let flag = RawSettings { threads: Some(3), ..RawSettings::default() };
        let file = RawSettings { threads: Some(5), log: Some("warn".into()), ..RawSettings::default() };
        let settings = flag.or(file).validate().unwrap();
        assert_eq!((settings.threads, settings.log.as_str()), (3, "warn"));
    }
}
