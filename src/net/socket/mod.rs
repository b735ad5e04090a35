//! WebSocket messages over any byte stream, around fastwebsockets.
//!
//! The crate agrees the handshake, unmasks payloads and writes heads. Frames are read here: its own reader reserves
//! what a head claims, and sees most of what a client may not do only once the payload is there, or never.

mod counted;
mod frame;
mod message;
mod reader;
mod writer;

pub use counted::Counted;
pub use message::{Event, Messages, Violation};
pub use reader::MessageReader;
pub use writer::{append_close, append_control, append_frame, split_frames};

/// Close codes of RFC 6455 that the server sends.
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const INVALID_DATA: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
    /// Never sent: the connection ended without a close frame.
    pub const ABNORMAL: u16 = 1006;
}
