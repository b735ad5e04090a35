//! The one table of errors that a client can see.
//!
//! An [`Error`] is a [`Code`], which programs match on, and a sentence, which people read. The table fixes
//! for each code its HTTP status and whether sending the same request again can succeed;
//! `docs/PROTOCOL.md` shows it to users, and a test keeps the two equal.

use std::borrow::Cow;
use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:literal, $retry:ident;)+) => {
        /// What went wrong, as programs match on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as it stands in an answer.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The status of an HTTP answer that carries it.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Whether the same request can succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => codes!(@$retry),)+ }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
    (@final) => { false };
    (@retry) => { true };
}

codes! {
    /// The text is not JSON (NaN and Infinity are not JSON either).
    InvalidJson = "invalid_json", 400, final;
    /// The JSON nests deeper than 127 levels.
    JsonTooDeep = "json_too_deep", 400, final;
    /// The JSON is not an inference request: a field is missing or has the wrong type.
    InvalidRequest = "invalid_request", 400, final;
    /// The lengths in a binary message do not add up to the message.
    InvalidFraming = "invalid_framing", 400, final;
    /// A parameter is known, but this model or this endpoint cannot honour it.
    UnsupportedParameter = "unsupported_parameter", 400, final;
    /// The request names an input that the model does not have, or names it twice.
    UnknownInput = "unknown_input", 400, final;
    /// The request lacks an input that the model needs.
    MissingInput = "missing_input", 400, final;
    /// The request asks for an output that the model does not have, or for one twice.
    UnknownOutput = "unknown_output", 400, final;
    /// The datatype is none of the protocol's, or not that of the model's input.
    WrongDatatype = "wrong_datatype", 400, final;
    /// The shape does not fit the model's input.
    WrongShape = "wrong_shape", 400, final;
    /// The product of the shape's dimensions is beyond what a message can carry.
    ShapeOverflow = "shape_overflow", 400, final;
    /// The data has more or fewer elements than the shape says.
    WrongElementCount = "wrong_element_count", 400, final;
    /// A value cannot be represented in the tensor's datatype.
    ValueOutOfRange = "value_out_of_range", 400, final;
    /// The request has more rows than one batch of the model can hold.
    BatchTooLarge = "batch_too_large", 400, final;
    /// JSON cannot carry this output (NaN, Infinity, or bytes that are not UTF-8); ask for binary data.
    NotRepresentable = "not_representable", 400, final;
    /// The model has no `[stream]` configuration, so plain frames cannot become its input.
    StreamUnsupported = "stream_unsupported", 400, final;
    /// The request wants a WebSocket, but its handshake is not valid.
    InvalidUpgrade = "invalid_upgrade", 400, final;
    /// The request came in plain text to a port that speaks TLS; use https:// or wss://.
    TlsRequired = "tls_required", 400, final;
    /// A key is needed and there is none, or it is not valid.
    Unauthenticated = "unauthenticated", 401, final;
    /// Browsers may not open a WebSocket from pages of this origin.
    OriginNotAllowed = "origin_not_allowed", 403, final;
    /// Nothing is served at this path.
    UnknownRoute = "unknown_route", 404, final;
    /// No model of this name is served.
    UnknownModel = "unknown_model", 404, final;
    /// The model is served, but not in this version.
    UnknownVersion = "unknown_version", 404, final;
    /// The path exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, final;
    /// The message is larger than the server's limit.
    MessageTooLarge = "message_too_large", 413, final;
    /// The path is a WebSocket, and the request does not ask to upgrade.
    UpgradeRequired = "upgrade_required", 426, final;
    /// The client's address has as many WebSockets as it may have.
    TooManyConnections = "too_many_connections", 429, retry;
    /// The key has as many requests in a second, or as many WebSockets, as it may have.
    RateLimited = "rate_limited", 429, retry;
    /// The headers of the request are larger than 64 KiB.
    HeadersTooLarge = "headers_too_large", 431, final;
    /// The model failed on this request; the other requests of its batch are not affected.
    InferenceFailed = "inference_failed", 500, final;
    /// The server broke one of its own rules; the log has more.
    Internal = "internal", 500, final;
    /// The model's queue is full.
    QueueFull = "queue_full", 503, retry;
    /// The requests that wait already fill the memory set aside for them.
    MemoryFull = "memory_full", 503, retry;
    /// A text frame on a stream of a signal is not a known control message.
    UnknownControl = "unknown_control", 400, final;
    /// A step of a sequence that has not begun, or has ended.
    UnknownSequence = "unknown_sequence", 400, final;
    /// The stream's or sequence's state is gone: its instance failed, or its first step did. It has to begin anew.
    StateLost = "state_lost", 500, final;
    /// All slots for streams of this model are taken.
    StreamsFull = "streams_full", 503, retry;
    /// The model is still loading, or its instances have ended or hang.
    ModelNotReady = "model_not_ready", 503, retry;
    /// The server has as many WebSockets as it may have.
    ConnectionsFull = "connections_full", 503, retry;
    /// The server is closing.
    ShuttingDown = "shutting_down", 503, retry;
    /// The request's time-out passed before the model could take it.
    DeadlineExceeded = "deadline_exceeded", 504, retry;
    /// The model's run took longer than the server lets it, and was given up.
    RunTimedOut = "run_timed_out", 504, retry;
}

/// A failure on its way to the client that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// So much of a client's text as an error message quotes: answers wait in memory, and must not be as long as
/// what they answer.
pub fn excerpt(text: &str) -> &str {
    text.get(..text.floor_char_boundary(40)).unwrap_or(text)
}
