//! Errors as clients read them, on HTTP and on sockets alike.

use bytes::BytesMut;

use super::text::{raw, string};
use crate::error::Error;

/// Appends the error as JSON; on a stream it also says that it is one.
pub fn encode_error(out: &mut BytesMut, error: &Error, id: Option<&str>, stream: bool) {
    raw(out, if stream { r#"{"type":"error","error":"# } else { r#"{"error":"# });
    string(out, &error.message);
    raw(out, r#","code":"#);
    string(out, error.code.as_str());
    if let Some(id) = id {
        raw(out, r#","id":"#);
        string(out, id);
    }
    raw(out, if error.code.retryable() { r#","retryable":true}"# } else { r#","retryable":false}"# });
}
