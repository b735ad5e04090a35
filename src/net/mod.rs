//! Sockets: one port for HTTP and WebSocket, and the two halves of each connection.
//!
//! Public beside the server are the parts of a WebSocket that know of no model, so that others can be tried over them.

mod access;
mod admin;
mod alarm;
pub mod connection;
mod control;
mod crowd;
pub mod drain;
mod endpoint;
mod expiry;
mod form;
mod hold;
mod http;
mod infer;
mod journal;
pub mod keepalive;
mod listener;
mod parting;
pub mod patience;
mod route;
mod sequence;
mod server;
pub mod socket;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod timer;
mod tls;
pub mod upgrade;
mod visit;
mod watched;

pub use access::is_name as is_key_name;
pub use server::{Server, ServerError};
pub use state::State;
pub use watched::BadFile;
