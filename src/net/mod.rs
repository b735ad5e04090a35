//! Sockets: one port for HTTP and WebSocket, and the two halves of each connection.

mod admin;
mod connection;
mod http;
mod infer;
mod keepalive;
mod route;
mod sequence;
mod server;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod upgrade;

pub use server::{Server, ServerError, State};
