//! WebSocket messages over any byte stream, around fastwebsockets.
//!
//! The crate parses and unmasks frames and writes their headers. The rules between frames are ours: masking,
//! fragments under one limit, UTF-8 over a whole message, and which close code a violation deserves.

mod counted;
mod reader;
mod writer;

pub use counted::Counted;
pub use reader::{Event, MessageReader, Violation};
pub use writer::{append_close, append_control, append_frame};

/// Close codes of RFC 6455 that the server sends.
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const INVALID_DATA: u16 = 1007;
    pub const TOO_BIG: u16 = 1009;
    /// Never sent: the connection ended without a close frame.
    pub const ABNORMAL: u16 = 1006;
}
